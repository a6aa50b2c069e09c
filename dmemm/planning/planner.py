"""Plans for a batch of observations: several candidates each, the best by the guide's own objective."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import EvaluateConfig, load_params
from dmemm.data.raw import same_data
from dmemm.device import choose_device
from dmemm.diffusion.guidance import sample_plans, transition_error
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.files import read_json, write_json
from dmemm.models.mechanisms import DynamicsEnsemble, Mechanism, RewardModel, ValueModel, mechanism_state
from dmemm.models.plan_value import PlanValue
from dmemm.models.regression import load_mechanism
from dmemm.models.storage import save_weights
from dmemm.planning.guides import make_guide, needed
from dmemm.tasks import Task, get_task
from dmemm.variants import get_variant

Array = NDArray[np.float32]

# The files of a planner's folder.
_PLANNER, _DIFFUSION = "planner.json", "diffusion.safetensors"
_DYNAMICS, _REWARD, _VALUE, _PLAN_VALUE = (
    f"{name}.safetensors" for name in ("dynamics", "reward", "value", "plan_value")
)


@dataclass(frozen=True)
class Plans:
    """The chosen plan of each observation, in the environment's units.

    Attributes:
        actions: shape (batch, horizon, action_dim).
        states: shape (batch, horizon, observation_dim); the first is the observation planned from.
        values: shape (batch,), the objective less the veto, by which it was chosen.
        returns: shape (batch,), the return Σ r that the reward model expects; NaN without one.
        transition_errors: shape (batch,), what the ensemble expects of eq. 9: the mean over the plan's transitions of
            ‖s' - T̂(s, a)‖², normalised states; NaN without an ensemble.
    """

    actions: Array
    states: Array
    values: Array
    returns: Array
    transition_errors: Array


class Planner:
    """A diffusion model, its guide and a task, ready to plan and to act.

    Args:
        task: what it was trained for.
        config: how it plans.
        model: the trained diffusion model.
        dynamics: T̂, or None; it guides where `config.lambda_guide` and chooses where `config.veto` is positive.
        reward: R̂, or None.
        seed: of the noise.
        value: V̂, or None.
        plan_value: J, or None. R̂, V̂ and J guide tasks without a goal, as `config.objective` says.

    Attributes:
        plans_made: plans so far.
        generator: of the noise.
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
            UserError: a model is missing that the objective, transition guidance or the veto needs.
        """
        needs = needed(task, config)
        self.task, self.config, self.model, self.dynamics, self.reward = task, config, model, dynamics, reward
        self.value = value if "value" in needs else None
        self.plan_value = plan_value if "plan-value" in needs else None
        self.guide = make_guide(task, config, model, dynamics, reward, self.value, self.plan_value)
        # Without an objective there is nothing to choose by: one plan is as good as many.
        self.candidates = config.candidates if self.guide.chooses else 1
        self.plans_made = 0
        self._device = model.center.device
        self.generator = torch.Generator(self._device)
        self.reset(seed)

    @classmethod
    def load(cls, path_or_task: str | Path, variant: str = "dmemm", seed: int = 0) -> "Planner":
        """The planner in a folder that `save` wrote; or, in the project's folder, of a task, a variant and a seed.

        Raises:
            UserError: there is no such folder or trained network, or a file is damaged.
        """
        folder = Path(path_or_task)
        if (folder / _PLANNER).is_file():
            record = read_json(folder / _PLANNER)
            task, config = Task(**record["task"]), EvaluateConfig(**record["config"])
            dynamics = folder / _DYNAMICS
            return load_planner(
                task, config, seed, model=folder / _DIFFUSION, reward=folder / _REWARD,
                dynamics=dynamics if dynamics.is_file() else None, value=folder / _VALUE,
                plan_value=folder / _PLAN_VALUE,
            )  # fmt: skip
        if folder.is_dir():
            raise UserError(f"{folder}: no planner in it ({_PLANNER} is missing); write one with `Planner.save`")
        task, chosen = get_task(str(path_or_task)), get_variant(variant)
        config = EvaluateConfig.resolve(load_params(Path("params.yaml")), task, chosen)
        models = Path("results/models") / task.name.replace("multi2d", "maze2d")
        return load_planner(
            task, config, seed, model=models / chosen.network / f"seed{seed}.safetensors", reward=models / _REWARD,
            dynamics=models / _DYNAMICS, value=models / _VALUE, plan_value=models / _PLAN_VALUE,
        )  # fmt: skip

    def save(self, folder: Path | str) -> None:
        """Write everything that planning needs into a folder, which can be copied and loaded without the project."""
        folder = Path(folder)
        self.model.save(folder / _DIFFUSION)
        mechanisms: Mapping[str, Mechanism | None] = {
            _DYNAMICS: self.dynamics, _REWARD: self.reward, _VALUE: self.value,
        }  # fmt: skip
        for name, mechanism in mechanisms.items():
            if mechanism is not None:
                save_weights(folder / name, *mechanism_state(mechanism))
        if self.plan_value is not None:
            self.plan_value.save(folder / _PLAN_VALUE)
        write_json(folder / _PLANNER, {"task": asdict(self.task), "config": asdict(self.config)})

    def reset(self, seed: int | None = None) -> None:
        """Forget the plans that `act` follows; with a seed, also start its noise anew."""
        self._plans: Plans | None = None
        self._age, self._fresh = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        if seed is not None:
            self.generator.manual_seed(seed)

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
        if observations.ndim == 1:
            one = self.plan(observations[None], None if goals is None else goals[None])
            return Plans(*(value[0] for value in vars(one).values()))
        return self._plan(observations, goals, np.arange(len(observations)))

    def _plan(
        self, observations: Array, goals: Array | None, names: NDArray[np.int64], previous: Array | None = None
    ) -> Plans:
        """Plan; `names` are what errors call the observations, `previous` what a warm start begins with."""
        model, action_dim = self.model, self.model.action_dim
        values = self.known(observations, goals, names)
        batch = len(values)
        start = None
        if previous is not None:
            start = (torch.as_tensor(previous, device=self._device) - model.center) / model.scale
            start = start.repeat_interleave(self.candidates, dim=0)
        repeated = values.repeat_interleave(self.candidates, dim=0)
        tau = sample_plans(model, self.guide, repeated, self.config, self.generator, start)
        with torch.no_grad():
            merit = self.guide.merit(tau).view(batch, self.candidates)
            best = merit.argmax(dim=1)
            row = torch.arange(batch, device=self._device)
            tau = tau.view(batch, self.candidates, model.horizon, -1)[row, best]
            returns, errors = self._expected(tau)
            plans = (tau * model.scale + model.center).cpu().numpy()
        wrong = np.flatnonzero(~np.isfinite(plans).all(axis=(1, 2)))
        if len(wrong):
            raise UserError(f"the plan from observation {names[wrong[0]]} is not finite; lower alpha or lambda_guide")
        self.plans_made += batch
        chosen = merit[row, best].cpu().numpy()
        return Plans(plans[..., :action_dim], plans[..., action_dim:], chosen, returns, errors)

    def act(self, observations: Array, goals: Array | None = None, running: NDArray[np.bool_] | None = None) -> Array:
        """The next action in each of several environments, which keep their order from call to call.

        An environment gets a new plan when its own is `replan_every` steps old or over, and after `reset`, `restart`.

        Args:
            observations: shape (batch, observation_dim), or (observation_dim,) for a single environment.
            goals: shape (batch, goal_dim) or (goal_dim,).
            running: bool, shape (batch,), the environments that need an action; all by default.

        Returns:
            Actions of the shape of `observations`, within what the data have; zero where not running.
        """
        observations = np.asarray(observations, np.float32)
        if observations.ndim == 1:
            return self.act(observations[None], None if goals is None else np.asarray(goals)[None])[0]
        batch, every = len(observations), min(self.config.replan_every, self.model.horizon)
        if len(self._age) != batch:
            self._plans, self._age, self._fresh = None, np.full(batch, every), np.ones(batch, dtype=bool)
        running = np.ones(batch, dtype=bool) if running is None else running
        due = running & (self._age >= every)
        warm = due & ~self._fresh if self.config.warm_start > 0 else np.zeros(batch, dtype=bool)
        for group in (np.flatnonzero(due & ~warm), np.flatnonzero(warm)):
            if len(group) == 0:
                continue
            previous = self._rest_of_plans(group) if warm[group[0]] else None
            made = self._plan(observations[group], None if goals is None else np.asarray(goals)[group], group, previous)
            if self._plans is None:
                shape = (batch, self.model.horizon)
                self._plans = Plans(
                    np.zeros((*shape, made.actions.shape[2]), np.float32),
                    np.zeros((*shape, made.states.shape[2]), np.float32), *np.zeros((3, batch), np.float32),
                )  # fmt: skip
            for name, value in vars(made).items():
                getattr(self._plans, name)[group] = value
            self._age[group], self._fresh[group] = 0, False
        assert self._plans is not None
        actions = follow(self._plans, self._age, observations, self.config.execute)
        self._age += running
        return np.where(running[:, None], actions, 0).astype(np.float32)

    def restart(self, environments: NDArray[np.bool_]) -> None:
        """Let environments (bool, shape (batch,)) get a new plan at their next action, as after their reset."""
        self._age[environments], self._fresh[environments] = self.model.horizon, True

    def _rest_of_plans(self, environments: NDArray[np.int64]) -> Array:
        """What is left of their plans, filled up with the last step: (n, horizon, dim)."""
        assert self._plans is not None
        plans = np.concatenate([self._plans.actions, self._plans.states], axis=2)[environments]
        steps = np.arange(self.model.horizon) + self._age[environments, None]
        return plans[np.arange(len(environments))[:, None], np.minimum(steps, self.model.horizon - 1)]

    def known(self, observations: Array, goals: Array | None, names: NDArray[np.int64] | None = None) -> Tensor:
        """Plans with what is known of them, normalised: the first state and, with a goal, the end.

        Args:
            observations: shape (batch, observation_dim).
            goals: shape (batch, goal_dim), or None without a goal.
            names: shape (batch,), what errors call the observations.
        """
        names = np.arange(len(observations)) if names is None else names
        model, action_dim, goal_dim = self.model, self.model.action_dim, self.task.goal_dim
        dim = model.center.shape[0] - action_dim
        if observations.ndim != 2 or observations.shape[1] != dim:
            raise UserError(f"observations have shape {observations.shape}; {self.task.name} needs (batch, {dim})")
        wanted = (len(observations), goal_dim)
        if goal_dim and (goals is None or goals.shape != wanted):
            given = "are missing" if goals is None else f"have shape {goals.shape}"
            raise UserError(f"goals {given}; {self.task.name} needs {wanted}")
        values = torch.zeros(len(observations), model.horizon, model.center.shape[0], device=self._device)
        values[:, 0, action_dim:] = torch.as_tensor(observations, device=self._device)
        if goal_dim:
            goals = np.asarray(goals, np.float32)
            values[:, -1, action_dim : action_dim + goal_dim] = torch.as_tensor(goals, device=self._device)
        for name, array in (("observation", observations), ("goal", goals if goal_dim else observations)):
            wrong = np.flatnonzero(~np.isfinite(np.asarray(array)).all(axis=1))
            if len(wrong):
                raise UserError(f"{name} {names[wrong[0]]} is not finite; the environment has diverged")
        return (values - model.center) / model.scale

    def _expected(self, tau: Tensor) -> tuple[Array, Array]:
        """Predicted return and transition error of normalised plans (batch, horizon, dim), shape (batch,) each."""
        s, a = tau[..., self.model.action_dim :], tau[..., : self.model.action_dim]
        returns = errors = torch.full((len(tau),), torch.nan)
        if self.reward is not None:
            returns = self.reward.restore(self.reward(s, a)).sum(dim=-1)
        if self.dynamics is not None:
            errors = transition_error(tau, self.model.action_dim, self.dynamics)
        return returns.cpu().numpy(), errors.cpu().numpy()


def load_planner(
    task: Task,
    config: EvaluateConfig,
    seed: int,
    *,
    model: Path,
    reward: Path,
    dynamics: Path | None,
    value: Path | None = None,
    plan_value: Path | None = None,
) -> Planner:
    """The planner of a trained network, guided as `config` says; of `value` and `plan_value` it reads what that needs.

    Raises:
        UserError: a file is missing or damaged, or what guides needs a model that is not given.
    """
    needs = needed(task, config)
    models = load_models(
        model=model,
        reward=reward,
        dynamics=dynamics,
        value=value if "value" in needs else None,
        plan_value=plan_value if "plan-value" in needs else None,
    )
    return Planner(task, config, seed=seed, **models)


def load_models(
    *, model: Path, reward: Path, dynamics: Path | None, value: Path | None, plan_value: Path | None
) -> dict[str, Any]:
    """What a `Planner` is made of, by its arguments' names.

    Raises:
        UserError: a file is missing or damaged, or the files were not made from the same raw data.
    """
    device = choose_device()
    network = DiffusionModel.load(model, device)
    network.make_fast()
    models = {
        "dynamics": load_mechanism(DynamicsEnsemble, dynamics) if dynamics else None,
        "reward": load_mechanism(RewardModel, reward),
        "value": load_mechanism(ValueModel, value) if value else None,
        "plan_value": PlanValue.load(plan_value, device) if plan_value else None,
    }
    for path, loaded in zip((dynamics, reward, value, plan_value), models.values(), strict=True):
        if path and loaded:
            same_data(path, loaded.header["data"], model, network.header["data"])
    return {"model": network, **models}


def follow(plans: Plans, steps: NDArray[np.int64], observations: Array, execute: str) -> Array:
    """The action of each environment, `steps` (batch,) after its planning: shape (batch, action_dim).

    `actions` executes the plan's own action. `waypoints` follows its states as Diffuser's maze controller does:
    a = Δposition + Δvelocity towards the next planned state, the last one once the plan is over.
    """
    row, last = np.arange(len(steps)), plans.states.shape[1] - 1
    if execute == "actions":
        return plans.actions[row, np.minimum(steps, last)]
    away = plans.states[row, np.minimum(steps + 1, last)] - observations
    return away[:, :2] + away[:, 2:]
