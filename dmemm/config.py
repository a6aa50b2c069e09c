"""Parameters: params.yaml checked against its schema, and the part of it that each stage reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from dmemm.errors import UserError
from dmemm.files import parse_yaml, read_yaml
from dmemm.methods import POLICIES, Method
from dmemm.schema import check
from dmemm.tasks import Task

Params = Mapping[str, Any]

# A goal is in the plan, so nothing is maximised.
_WITHOUT_A_GOAL = ("objective", "model_rollout", "discount", "termination_penalty", "guide_limit")
_MODELS = {"reward": ("reward",), "return": ("reward", "value"), "value": ("value",), "plan_value": ("plan_value",)}


def check_params(params: Any, source: str) -> Params:
    """Return `params` if they fit the schema and name methods that exist.

    Raises:
        UserError: naming the first key at fault, with `source`.
    """
    check(params, "params", source)
    for key, known in (("methods", POLICIES), ("method_steps", (*POLICIES, "others"))):
        for name in params[key]:
            if name not in known:
                raise UserError(f"{source}: {key}: {name} is unknown; choose from {', '.join(known)}")
    return dict(params)


def load_params(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or breaks the schema.
    """
    return check_params(read_yaml(path), str(path))


def override(params: Params, assignments: Sequence[str]) -> Params:
    """Apply `key=value` assignments (values in YAML) and check the result.

    `key.maze=value` sets the value of one suite. `key=value` sets the values of all suites.

    Raises:
        UserError: no `=`, an unknown key, or a value that the schema refuses.
    """
    changed = dict(params)
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UserError(f"{assignment}: expected key=value")
        try:
            given = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"{assignment}: the value is not valid YAML") from error
        changed = _put(changed, key, given)
    return check_params(changed, "command line")


def split(assignment: str) -> tuple[str, str, str]:
    """Split `name.part=value`; without a dot, the part is empty."""
    key, _, value = assignment.partition("=")
    name, _, part = key.partition(".")
    return name, part, value


def override_own(task: Task, assignments: Sequence[str]) -> Task:
    """Apply the assignments of `override` to the values of the task's file, which come before those of params.yaml."""
    own = dict(task.parameters)
    for assignment in assignments:
        name, part, value = split(assignment)
        if name in own and part in ("", task.suite, f"{task.suite}.{task.body}"):
            own[name] = parse_yaml(value)
        elif name in own and part in (planners := ("diffuser", "others")):
            both = own[name] if isinstance(own[name], Mapping) else dict.fromkeys(planners, own[name])
            own[name] = {**both, part: parse_yaml(value)}
    return replace(task, parameters=own)


def _put(old: Mapping[str, Any], key: str, given: Any) -> dict[str, Any]:
    name, _, part = key.partition(".")
    several = old.get(name)
    if part:
        given = _put(several if isinstance(several, Mapping) else {}, part, given)
    elif isinstance(several, Mapping) and not isinstance(given, Mapping):
        given = dict.fromkeys(several, given)
    return {**old, name: given}


@dataclass(frozen=True)
class StageConfig:
    """Base of the stages' parameters. The fields are keys of params.yaml, resolved for one task and variant."""

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """The keys of params.yaml that the stage reads."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def resolve(cls, params: Params, task: Task, method: Method | None = None) -> Self:
        """Take the stage's keys, choose the values of the task and the method, and apply what the method fixes."""
        own = task.parameters
        values = {key: _choose(own.get(key, params[key]), key, task, method) for key in cls.parameters()}
        if method is not None:
            values |= {key: value for key, value in method.fixed.items() if key in values}
        return cls(**values)

    def models(self, task: Task) -> tuple[str, ...]:
        """Return the names of the trained models that these parameters need."""
        return ()

    def read_for(self, task: Task) -> dict[str, Any]:
        """Return the parameters that the stage reads for a task: key → value."""
        return {key: value for key, value in vars(self).items() if not (task.has_goal and key in _WITHOUT_A_GOAL)}

    def models_read(self, task: Task) -> tuple[str, ...]:
        """Return the names of the trained models that the stage reads, as in `dmemm.inputs.PATHS`."""
        return self.models(task)


def _choose(value: Any, key: str, task: Task, method: Method | None) -> Any:
    if isinstance(value, Mapping) and key != "guide_grid":  # which is the same for all
        for name in (task.suite, task.body, method and method.name, "others"):
            if name in value:
                return _choose(value[name], key, task, method)
        raise UserError(
            f"params.yaml: {key}: no value for {task.name}, only for {', '.join(value)}; add one here, or to "
            f"`parameters` of the task's file"
        )
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class DownloadConfig(StageConfig):
    """Stage 1: where the data come from, and how local data are made."""

    data_source: Literal["local", "d4rl", "minari"]
    d4rl_mirrors: tuple[str, ...]
    local_steps: int
    data_seed: int


@dataclass(frozen=True)
class SegmentConfig(StageConfig):
    """Stage 2: windows and their weights."""

    horizon: int
    weight_floor: float
    held_out: float


@dataclass(frozen=True)
class DynamicsConfig(StageConfig):
    """Stage 3: the transition ensemble."""

    ensemble_members: int
    mechanism_width: int
    mechanism_epochs: int


@dataclass(frozen=True)
class RewardConfig(StageConfig):
    """Stage 4: the reward model."""

    mechanism_width: int
    mechanism_epochs: int


@dataclass(frozen=True)
class ValueConfig(DynamicsConfig):
    """Stage 4: the value ensemble, of a state's discounted return to go."""

    discount: float
    termination_penalty: float


@dataclass(frozen=True)
class PlanValueConfig(StageConfig):
    """Stage 4: the value of noisy plans, Diffuser's guide."""

    discount: float
    termination_penalty: float
    diffusion_steps: int
    plan_value_steps: int


@dataclass(frozen=True)
class TrainConfig(StageConfig):
    """Stage 5: the modulated diffusion model."""

    lambda_tr: float
    lambda_rd: float
    reward_loss: bool
    weighting: bool
    diffusion_steps: int
    network: Literal["mlp", "unet"]
    mlp_width: int
    mlp_blocks: int
    unet_width: int
    unet_mults: tuple[int, ...]
    train_steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float
    first_action_weight: float
    predict: Literal["sample", "epsilon"]
    denoise: Literal["paper", "ddim", "tweedie"]
    modulation_weight: Literal["uniform", "snr"]

    def models(self, task: Task) -> tuple[str, ...]:
        """Return the names of the models in the losses of eqs. 9 and 10."""
        rewarded = self.lambda_rd > 0 and self.reward_loss
        return ("dynamics",) * (self.lambda_tr > 0) + ("reward",) * rewarded


@dataclass(frozen=True)
class EvaluateConfig(StageConfig):
    """Stage 6: planning under dual guidance."""

    objective: Literal["reward", "return", "value", "plan_value"]
    model_rollout: bool
    discount: float
    termination_penalty: float
    veto: float
    alpha: float
    guide_limit: float
    lambda_guide: float
    episodes: int
    candidates: int
    replan_every: int
    t_stopgrad: int
    sampling_steps: int
    warm_start: int
    execute: Literal["actions", "waypoints"]

    def models(self, task: Task) -> tuple[str, ...]:
        """Return the names of the models that planning needs beside the network."""
        transition = self.lambda_guide > 0 or self.veto > 0 or self.predicts(task)
        return ("dynamics",) * transition + _MODELS[self.objective] * (not task.has_goal)

    def predicts(self, task: Task) -> bool:
        """Whether plans are valued by the states that T̂ predicts, in addition to the planned states."""
        return self.model_rollout and self.objective != "plan_value" and not task.has_goal


@dataclass(frozen=True)
class CalibrateConfig(EvaluateConfig):
    """The choice of the guide: the settings that are tried, and on how many episodes."""

    guide_grid: Mapping[str, Sequence[Any]]
    guide_episodes: int

    def models_read(self, task: Task) -> tuple[str, ...]:
        """Return the names of all models: each setting of the grid may need others."""
        return ("dynamics",) if task.has_goal else ("dynamics", "reward", "value", "plan_value")


@dataclass(frozen=True)
class MethodConfig(StageConfig):
    """Training of another method (dmemm.methods)."""

    method_steps: int


@dataclass(frozen=True)
class EpisodesConfig(StageConfig):
    """Evaluation of another method."""

    episodes: int


def training_config(method: Method) -> type[TrainConfig] | type[MethodConfig]:
    """Return the kind of parameters that train a method."""
    return TrainConfig if method.is_planner else MethodConfig


def acting_config(method: Method) -> type[EvaluateConfig] | type[EpisodesConfig]:
    """Return the kind of parameters with which a method acts."""
    return EvaluateConfig if method.is_planner else EpisodesConfig
