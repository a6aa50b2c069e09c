"""Plans for a batch of observations: several candidates each, the best by the guide's own objective."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import EvaluateConfig
from dmemm.device import choose_device
from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.models.regression import load_mechanism
from dmemm.tasks import FOLDER, Task, load_object

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Plans:
    """The chosen plan of each observation, in the environment's units.

    Attributes:
        actions: shape (batch, horizon, action_dim).
        states: shape (batch, horizon, observation_dim); the first is the observation planned from.
        values: shape (batch,), the guide's objective J.
    """

    actions: Array
    states: Array
    values: Array


class Planner:
    """A diffusion model and its guide, ready to plan.

    Args:
        model: the trained diffusion model.
        guide: J of eq. 13; it steers the sampling and chooses among the candidates.
        alpha: guide scale.
        t_stopgrad: last diffusion steps without guidance.
        candidates: plans drawn for each observation.
        seed: of the noise.
    """

    def __init__(
        self, model: DiffusionModel, guide: Guide, *, alpha: float, t_stopgrad: int, candidates: int, seed: int
    ) -> None:
        """Seed the generator."""
        self.model, self.guide = model, guide
        self.alpha, self.t_stopgrad = alpha, t_stopgrad
        # Without an objective there is nothing to choose by: one plan is as good as many.
        self.candidates = candidates if guide.active else 1
        self._device = model.center.device
        self._generator = torch.Generator(self._device).manual_seed(seed)

    def plan(self, observations: Array, goals: Array | None = None) -> Plans:
        """Plan from each observation.

        Args:
            observations: shape (batch, observation_dim), the environment's units.
            goals: shape (batch, goal_dim), to end at (in mazes at rest); only tasks with a goal.

        Raises:
            UserError: an observation or a plan is not finite.
        """
        model = self.model
        batch, action_dim = len(observations), model.action_dim
        values = torch.zeros(batch, model.horizon, model.center.shape[0], device=self._device)
        values[:, 0, action_dim:] = torch.as_tensor(observations, device=self._device)
        if goals is not None:
            values[:, -1, action_dim : action_dim + goals.shape[1]] = torch.as_tensor(goals, device=self._device)
        values = (values - model.center) / model.scale
        if not torch.isfinite(values).all():
            raise UserError("an observation is not finite; the environment has diverged")
        values = values.repeat_interleave(self.candidates, dim=0)
        tau = sample_plans(model, self.guide, values, self.alpha, self.t_stopgrad, self._generator)
        with torch.no_grad():
            objective = self.guide.objective(tau).view(batch, self.candidates)
            best = objective.argmax(dim=1)
            row = torch.arange(batch, device=self._device)
            tau = tau.view(batch, self.candidates, model.horizon, -1)[row, best]
            plans = (tau * model.scale + model.center).cpu().numpy()
        if not np.isfinite(plans).all():
            raise UserError("a plan is not finite; lower alpha or lambda_guide")
        return Plans(plans[..., :action_dim], plans[..., action_dim:], objective[row, best].cpu().numpy())


def load_planner(
    task: Task, config: EvaluateConfig, seed: int, *, model: Path, reward: Path, dynamics: Path | None
) -> Planner:
    """The planner of a trained network, guided as `config` says.

    Raises:
        UserError: a file is missing or damaged, or transition guidance is asked for without its model.
    """
    if config.lambda_guide > 0 and dynamics is None:
        raise UserError("--dynamics: transition guidance needs it; give the weights that `dmemm dynamics` wrote")
    network = DiffusionModel.load(model, choose_device())
    guide = Guide(
        network.action_dim,
        # A goal is part of the plan, and the data's reward knows its own goals only.
        reward=None if task.has_goal else load_mechanism(RewardModel, reward),
        dynamics=load_mechanism(DynamicsEnsemble, dynamics) if config.lambda_guide > 0 and dynamics else None,
        lambda_guide=config.lambda_guide,
        ended=_ended(task, network),
    )
    return Planner(
        network, guide, alpha=config.alpha, t_stopgrad=config.t_stopgrad, candidates=config.candidates, seed=seed
    )


def _ended(task: Task, model: DiffusionModel) -> Callable[[Tensor], Tensor] | None:
    """The task's termination function, for normalised states (..., Ds)."""
    if not task.terminal:
        return None
    terminal = load_object(task.terminal, f"{FOLDER}/{task.name}.yaml: terminal")
    center, scale = model.center[model.action_dim :], model.scale[model.action_dim :]
    return lambda states: terminal(states * scale + center)
