"""Code of the methods with two diffusion models: one plans every n-th state, the other the steps in between.

Without a goal, V̂ ranks the plans of the first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dmemm.config import EvaluateConfig, MethodConfig, TrainConfig, ValueConfig
from dmemm.data.raw import RawData
from dmemm.data.segments import Segments, make_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.diffusion.outcome import Outcome
from dmemm.errors import UserError
from dmemm.methods import base
from dmemm.models.mechanisms import ValueModel
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.terminations import termination
from dmemm.training.mechanisms import fit_value
from dmemm.training.train import gradient_step, new_state

HORIZONS = {"umaze": 128, "medium": 256, "large": 384}  # steps of a plan in a maze, as for DMEMM and Diffuser
VALUE = ValueConfig(1, 64, 20, discount=0.997, termination_penalty=-100.0)  # members, width, epochs
TRAINING = TrainConfig(
    lambda_tr=0.0, lambda_rd=0.0, reward_loss=False, diffusion_steps=20, network="unet",
    mlp_width=0, mlp_blocks=0, unet_width=32, unet_mults=(1, 2, 4), train_steps=1, batch_size=32, learning_rate=1e-3,
    ema_decay=0.995, first_action_weight=1.0, predict="sample", denoise="tweedie", modulation_weight="uniform",
    weighting=False,
)  # fmt: skip
PLANNING = EvaluateConfig(
    objective="value", model_rollout=False, discount=VALUE.discount, termination_penalty=VALUE.termination_penalty,
    veto=0.0, alpha=0.0, guide_limit=1.0, lambda_guide=0.0, episodes=1, candidates=1, replan_every=1, t_stopgrad=1,
    sampling_steps=0, warm_start=0, execute="actions",
)  # fmt: skip


class TwoLevels(base.Policy):
    """Two diffusion models, V̂, and the generator of the plans' noise.

    Attributes:
        upper: plans from a state, and to the goal if the task has one.
        lower: plans between two states.
        planning: sampling settings of both.
    """

    upper: DiffusionModel
    lower: DiffusionModel
    planning = PLANNING

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Create the generator; `build` creates the rest."""
        super().__init__(task, header)
        self.device = choose_device()
        self.generator = torch.Generator(self.device)

    def build(self, upper: DiffusionModel, lower: DiffusionModel) -> None:
        """Store both levels, and add V̂."""
        self.upper, self.lower = upper, lower
        self.value = ValueModel(self.observation_dim, 0, 1, VALUE.mechanism_width)

    def level(
        self,
        training: TrainConfig,
        network: torch.nn.Module | None = None,
        kind: type[DiffusionModel] = DiffusionModel,
        **sizes: int,
    ) -> DiffusionModel:
        """Create a model of the given `action_dim`, `horizon` and `end_dim`, with the settings of `training`."""
        return kind({**vars(training), "observation_dim": self.observation_dim, **sizes}, self.device, network)

    def start(self, seed: int) -> None:
        """Seed the plans' noise, and compile or trace both levels."""
        self.generator.manual_seed(seed)
        for model in (self.upper, self.lower):
            model.make_fast()

    def guide(self) -> Guide:
        """Return what ranks the upper level's plans: V̂, or nothing if the task has a goal."""
        if self.task.has_goal:
            return Guide(self.upper.action_dim)
        ended = termination(self.task, self.center[self.action_dim :], self.scale[self.action_dim :])
        penalty = base.termination_penalty(self.task)
        outcome = Outcome("value", None, self.value, termination_penalty=penalty, ended=ended)
        return Guide(self.upper.action_dim, outcome)

    def drawn(self, s: Tensor, goals: Tensor | None, count: int) -> Tensor:
        """Draw `count` upper-level plans from each state (batch, Ds): shape (batch, count, upper horizon, ·)."""
        model = self.upper
        values = torch.zeros(len(s), model.horizon, model.center.shape[0], device=s.device)
        values[:, 0, model.action_dim :] = s
        if goals is not None:
            # The other given entries of the last state are velocities in mazes: at rest.
            values[:, -1] = -model.center / model.scale
            values[:, -1, model.action_dim : model.action_dim + self.task.goal_dim] = goals
        tau = sample_plans(model, self.guide(), values.repeat_interleave(count, dim=0), self.planning, self.generator)
        return tau.view(-1, count, *tau.shape[1:])

    def between(self, first: Tensor, last: Tensor) -> Tensor:
        """Draw lower-level plans between states (n, Ds): shape (n, lower horizon, Da + Ds)."""
        dim = self.lower.action_dim
        values = torch.zeros(len(first), self.lower.horizon, self.lower.center.shape[0], device=first.device)
        values[:, 0, dim:], values[:, -1, dim:] = first, last
        return sample_plans(self.lower, Guide(dim), values, self.planning, self.generator)


def goal_horizon(task: Task, stride: int) -> int:
    """Return the steps of a plan to a goal: a maze's, or the horizon in the task's file, in whole strides."""
    steps = HORIZONS[task.body] if task.is_maze else int(task.parameters["horizon"])
    return -(-steps // stride) * stride


def best_of(tau: Tensor, merit: Tensor) -> Tensor:
    """Select the plans (batch, count, horizon, dim) of largest merit (batch, count): shape (batch, horizon, dim)."""
    return tau[torch.arange(len(tau), device=tau.device), merit.argmax(dim=1)]


def learn_value(value: ValueModel, task: Task, raw: RawData, seed: int) -> None:
    """Fit V̂ by least squares, if the task has no goal."""
    if not task.has_goal:
        config = dataclasses.replace(VALUE, termination_penalty=base.termination_penalty(task))
        value.load_state_dict(fit_value(task, raw, config, seed)[0].state_dict())


def whole_windows(raw: RawData, task: Task, steps: int, name: str) -> Segments:
    """Cut windows of `steps` steps that lie within an episode; with a goal, they may rest after its end.

    Raises:
        UserError: there are none.
    """
    segments = make_segments(raw, task, steps, weight_floor=1.0)
    if not task.has_goal:
        segments = dataclasses.replace(segments, held_out=segments.lengths < steps)
    if segments.held_out.all():
        raise UserError(f"{task.name}: no episode lasts {steps} steps; {name} needs longer ones")
    return segments


def fit(
    model: DiffusionModel,
    windows: Windows,
    training: TrainConfig,
    config: MethodConfig,
    generator: torch.Generator,
    name: str,
) -> list[dict[str, float]]:
    """Train a model on windows for `method_steps`; return the rows of its loss curve."""
    model.set_normaliser(windows.normaliser)
    objective = Objective(dataclasses.replace(training, train_steps=config.method_steps), model, None, None)
    state = new_state(objective, windows, generator)
    curve = base.LossCurve(config.method_steps)
    for _ in progress(range(config.method_steps), name):
        gradient_step(objective.config, state)
        curve.add(state.take_sums()["total"])
    with torch.no_grad():
        torch._foreach_copy_(state.parameters, state.average)
    return curve.rows


def added(upper: list[dict[str, float]], lower: list[dict[str, float]]) -> list[dict[str, float]]:
    """Add the loss curves of both levels."""
    return [{**a, "total": a["total"] + b["total"]} for a, b in zip(upper, lower, strict=True)]
