"""Planning for a batch of observations: draw several candidates for each and take the best one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import EvaluateConfig
from dmemm.diffusion.guidance import sample_plans, transition_errors
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.models.plan_value import PlanValue
from dmemm.planning.guides import make_guide
from dmemm.planning.plans import ActivePlans, Array, Plans
from dmemm.planning.storage import find_planner, load_models, write_folder
from dmemm.tasks import Task


class Planner:
    """A diffusion model, its guide and a task, ready to plan and to act.

    Args:
        task: the task that the models were trained for.
        config: the planning parameters.
        model: the trained diffusion model.
        dynamics: T̂, or None. Required if `config.lambda_guide` or `config.veto` is positive, and by
                `config.model_rollout` in tasks without a goal.
        reward: R̂, or None.
        seed: seed of the noise.
        value: V̂, or None.
        plan_value: J, or None. In tasks without a goal, `config.objective` requires R̂, V̂ or J.

    Attributes:
        config: the planning parameters; `alpha` is 0 where V̂ may not guide, by `guide_limit`.
        plans_made: number of plans made so far.
        generator: generator of the noise.
    """

    def __init__(
        self,
        task: Task,
        config: EvaluateConfig,
        model: DiffusionModel,
        dynamics: DynamicsEnsemble | None,
        reward: RewardModel | None,
        seed: int = 0,
        *,
        value: ValueModel | None = None,
        plan_value: PlanValue | None = None,
    ) -> None:
        """Seed the generator.

        Raises:
            UserError: a model that the objective, transition guidance or the veto needs is missing.
        """
        if config.execute == "waypoints" and not task.is_maze:
            raise UserError("execute: waypoints are followed in D4RL's mazes only; set it to actions")
        needs = config.models(task)
        self.value = value if "value" in needs else None
        if self.value is not None and self.value.between_episodes > config.guide_limit:
            # It tells episodes apart, and hardly which states of an episode are better: it ranks plans only.
            config = replace(config, alpha=0.0)
        self.task, self.config, self.model, self.dynamics, self.reward = task, config, model, dynamics, reward
        self.plan_value = plan_value if "plan_value" in needs else None
        self.guide = make_guide(task, config, model, dynamics, reward, self.value, self.plan_value)
        # Without an objective there is nothing to choose by: one plan is as good as many.
        self.candidates = config.candidates if self.guide.chooses else 1
        self.plans_made = 0
        self._device = model.center.device
        self.generator = torch.Generator(self._device)
        self.reset(seed)

    @classmethod
    def load(cls, path_or_task: str | Path, variant: str = "dmemm", seed: int = 0) -> "Planner":
        """Load the planner in a folder that `save` wrote; or, in the project's folder, of a task, variant and seed.

        Raises:
            UserError: there is no such folder or trained network, a file is damaged, or the task of a saved planner
                names a module that cannot be found.
        """
        task, config, inputs = find_planner(path_or_task, variant, seed)
        return load_planner(task, config, seed, inputs)

    def save(self, folder: Path | str) -> None:
        """Write everything that planning needs into a folder, whole or not at all.

        The folder can be copied, and loads without the project. Only modules that the task names in `env` and
        `terminal` are not in it.

        Args:
            folder: may be empty or hold a planner, which is replaced.

        Raises:
            UserError: the folder holds anything else, or it cannot be written.
        """
        models = {name: getattr(self, name) for name in ("model", "dynamics", "reward", "value", "plan_value")}
        write_folder(Path(folder), self.task, self.config, models)

    def reset(self, seed: int | None = None) -> None:
        """Forget the plans that `act` follows; with a seed, also restart the noise."""
        self._active: ActivePlans | None = None
        if seed is not None:
            self.generator.manual_seed(seed)

    @property
    def following(self) -> Plans | None:
        """The plans that `act` follows, one for each environment, until its next call; None before the first one."""
        return None if self._active is None else self._active.plans

    def plan(self, observations: Array, goals: Array | None = None) -> Plans:
        """Plan from each observation.

        Args:
            observations: shape (batch, observation_dim), the environment's units; or (observation_dim,) for one plan,
                whose arrays then lack the leading axis.
            goals: shape (batch, goal_dim) or (goal_dim,), to end at (in mazes at rest); only tasks with a goal.

        Raises:
            UserError: wrong shapes, a goal is missing, or an observation or a plan is not finite; it says which.
        """
        observations, goals = np.asarray(observations, np.float32), None if goals is None else np.asarray(goals)
        if observations.ndim < 2:
            one = self.plan(observations[None], None if goals is None else goals[None])
            return Plans(*(value[0] for value in vars(one).values()))
        return self._plan(observations, goals, np.arange(len(observations)))

    def plan_from(self, observations: Array, goals: Array | None) -> Array:
        """Return plans `[actions, states]`, shape (batch, horizon, Da + Ds), as `plan`."""
        plans = self.plan(observations, goals)
        return np.concatenate([plans.actions, plans.states], axis=-1)

    def _plan(
        self, observations: Array, goals: Array | None, names: NDArray[np.int64], previous: Array | None = None
    ) -> Plans:
        """Plan.

        Args:
            observations: shape (batch, observation_dim).
            goals: shape (batch, goal_dim), or None without a goal.
            names: shape (batch,), labels of the observations in error messages.
            previous: shape (batch, horizon, action_dim + observation_dim), the plans of a warm start.
        """
        model, action_dim = self.model, self.model.action_dim
        values = self.known(observations, goals, names)
        batch = len(values)
        start = None
        if previous is not None:
            start = (torch.as_tensor(previous, device=self._device) - model.center) / model.scale
        tau, merit = self.draw(values, start)
        with torch.no_grad():
            best = merit.argmax(dim=1)
            row = torch.arange(batch, device=self._device)
            tau = tau[row, best]
            returns, errors = self._expected(tau)
            plans = (tau * model.scale + model.center).cpu().numpy()
        wrong = np.flatnonzero(~np.isfinite(plans).all(axis=(1, 2)))
        if len(wrong):
            raise UserError(f"the plan from observation {names[wrong[0]]} is not finite; lower alpha or lambda_guide")
        self.plans_made += batch
        chosen = merit[row, best].cpu().numpy()
        return Plans(plans[..., :action_dim], plans[..., action_dim:], chosen, returns, errors)

    def draw(
        self, values: Tensor, previous: Tensor | None = None, trace: Callable[[Tensor], object] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the candidates of each observation.

        Args:
            values: normalised plans that hold what is known, shape (batch, horizon, dim), from `known`.
            previous: normalised plans to start from, of the same shape, as in `sample_plans`.
            trace: as in `sample_plans`.

        Returns:
            The candidates, normalised, shape (batch, candidates, horizon, dim), and their merits, shape (batch,
            candidates), of which the largest is chosen.
        """
        count = self.candidates
        start = None if previous is None else previous.repeat_interleave(count, dim=0)
        repeated = values.repeat_interleave(count, dim=0)
        tau = sample_plans(self.model, self.guide, repeated, self.config, self.generator, start, trace)
        with torch.no_grad():
            merit = self.guide.merit(tau)
        return tau.unflatten(0, (-1, count)), merit.view(-1, count)

    def act(self, observations: Array, goals: Array | None = None, running: NDArray[np.bool_] | None = None) -> Array:
        """Return the next action of each environment. Environments must keep their order from call to call.

        An environment gets a new plan every `replan_every` steps, and after `reset` and `restart`; if plans' own
        actions are executed, also at the end of its plan. Waypoints hold the last state of a plan until then.

        Args:
            observations: shape (batch, observation_dim), or (observation_dim,) for a single environment.
            goals: shape (batch, goal_dim) or (goal_dim,).
            running: bool, shape (batch,), the environments that need an action; all by default.

        Returns:
            Shape (batch, action_dim) or (action_dim,), zero where not running. A plan's own actions are within the
            range of the data's; those that follow waypoints are not bounded.

        Raises:
            UserError: as `plan`.
        """
        observations = np.asarray(observations, np.float32)
        if observations.ndim < 2:
            return self.act(observations[None], None if goals is None else np.asarray(goals)[None])[0]
        active, batch = self._active, len(observations)
        running = np.ones(batch, dtype=bool) if running is None else np.asarray(running, dtype=bool)
        if running.shape != (batch,):
            raise UserError(f"running has shape {running.shape}; give one bool for each of {batch} observations")
        names = np.flatnonzero(running)
        goals = np.asarray(goals) if self.task.has_goal and goals is not None else None
        self._check_shapes(observations, goals)
        self._check_finite(observations[names], None if goals is None else goals[names], names)
        if active is None or len(active) != batch:
            action_dim = self.model.action_dim
            active = ActivePlans(batch, self.model.horizon, action_dim, len(self.model.center) - action_dim)
            self._active = active
        every = self.config.replan_every
        if self.config.execute == "actions":  # they end with the plan; its last state can be held
            every = min(every, self.model.horizon)
        due = active.due(running, every)
        warm = due & ~active.fresh if self.config.warm_start > 0 else np.zeros(batch, dtype=bool)
        for group in (np.flatnonzero(due & ~warm), np.flatnonzero(warm)):
            if len(group) == 0:
                continue
            previous = active.remaining(group) if warm[group[0]] else None
            chosen_goals = None if goals is None else goals[group]
            active.replace(group, self._plan(observations[group], chosen_goals, group, previous))
        actions = active.actions(observations, self.config.execute)
        active.steps += running
        return np.where(running[:, None], actions, 0).astype(np.float32)

    def restart(self, environments: NDArray[np.bool_]) -> None:
        """Give environments a new plan at their next action, as at the start of an episode.

        Args:
            environments: bool, shape (batch,), of the batch that `act` last got.

        Raises:
            UserError: another type or shape; integers would be taken for indices.
        """
        environments = np.asarray(environments)
        batch = environments.size if self._active is None else len(self._active)
        if environments.dtype != np.bool_ or environments.shape != (batch,):
            raise UserError(
                f"environments are {environments.dtype} of shape {environments.shape}; give one bool for each"
                " environment"
            )
        if self._active is not None:
            self._active.fresh[environments] = True

    def known(self, observations: Array, goals: Array | None, names: NDArray[np.int64] | None = None) -> Tensor:
        """Return normalised plans that hold what is known: the first state and, with a goal, the last.

        Args:
            observations: shape (batch, observation_dim).
            goals: shape (batch, goal_dim), or None without a goal.
            names: shape (batch,), labels of the observations in error messages; their indices by default.
        """
        self._check_shapes(observations, goals)
        self._check_finite(observations, goals, np.arange(len(observations)) if names is None else names)
        model, action_dim, goal_dim = self.model, self.model.action_dim, self.task.goal_dim
        values = torch.zeros(len(observations), model.horizon, model.center.shape[0], device=self._device)
        values[:, 0, action_dim:] = torch.as_tensor(observations, device=self._device)
        if goal_dim:
            goals = np.asarray(goals, np.float32)
            values[:, -1, action_dim : action_dim + goal_dim] = torch.as_tensor(goals, device=self._device)
        return (values - model.center) / model.scale

    def _check_shapes(self, observations: Array, goals: Array | None) -> None:
        goal_dim, dim = self.task.goal_dim, len(self.model.center) - self.model.action_dim
        if observations.ndim != 2 or observations.shape[1] != dim or not len(observations):
            wanted = f"(batch, {dim}), not empty"
            raise UserError(f"observations have shape {observations.shape}; {self.task.name} needs {wanted}")
        if goal_dim and (goals is None or goals.shape != (len(observations), goal_dim)):
            given = "are missing" if goals is None else f"have shape {goals.shape}"
            raise UserError(f"goals {given}; {self.task.name} needs {len(observations), goal_dim}")

    def _check_finite(self, observations: Array, goals: Array | None, names: NDArray[np.int64]) -> None:
        for name, array in (("observation", observations), ("goal", goals if self.task.has_goal else observations)):
            wrong = np.flatnonzero(~np.isfinite(np.asarray(array)).all(axis=1))
            if len(wrong):
                raise UserError(f"{name} {names[wrong[0]]} is not finite; the environment has diverged")

    def _expected(self, tau: Tensor) -> tuple[Array, Array]:
        """Return the predicted return and transition error of normalised plans (batch, horizon, dim), (batch,) each."""
        s, a = tau[..., self.model.action_dim :], tau[..., : self.model.action_dim]
        returns = errors = torch.full((len(tau),), torch.nan)
        if self.reward is not None:
            returns = self.reward.restore(self.reward(s, a)).sum(dim=-1)
        if self.dynamics is not None:
            errors = transition_errors(tau, self.model.action_dim, self.dynamics).mean(dim=-1)
        return returns.cpu().numpy(), errors.cpu().numpy()


def load_planner(task: Task, config: EvaluateConfig, seed: int, inputs: Inputs) -> Planner:
    """Load the planner of a trained network, guided as `config` says; models that it does not need are not read.

    Raises:
        UserError: a file is missing or damaged, or what guides needs a model that is not given.
    """
    idle = {name: None for name in ("value", "plan_value") if name not in config.models(task)}
    return Planner(task, config, seed=seed, **load_models(replace(inputs, **idle)))


def load(method: Method, task: Task, config: EvaluateConfig, seed: int, inputs: Inputs) -> Planner:
    """Load a variant of the planner, as `dmemm.methods.load_actor` does any method."""
    return load_planner(task, config, seed, inputs)
