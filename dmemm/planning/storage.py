"""A planner's models on disk: those of the project, and the folder that `Planner.save` writes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from dmemm.config import EvaluateConfig, load_params
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.files import read_json, write_json
from dmemm.models.mechanisms import DynamicsEnsemble, Mechanism, RewardModel, ValueModel, mechanism_state
from dmemm.models.plan_value import PlanValue
from dmemm.models.regression import load_mechanism
from dmemm.models.storage import save_weights
from dmemm.tasks import Task, get_task
from dmemm.variants import get_variant

# The files of a planner's folder.
_PLANNER, _DIFFUSION = "planner.json", "diffusion.safetensors"
_DYNAMICS, _REWARD, _VALUE, _PLAN_VALUE = (
    f"{name}.safetensors" for name in ("dynamics", "reward", "value", "plan_value")
)


class ModelPaths(TypedDict):
    """The files of a planner's models, by the names of `load_models`' arguments."""

    model: Path
    reward: Path
    dynamics: Path | None
    value: Path | None
    plan_value: Path | None


def find_planner(path_or_task: str | Path, variant: str, seed: int) -> tuple[Task, EvaluateConfig, ModelPaths]:
    """Return the task, the parameters and the files of `Planner.load`.

    Raises:
        UserError: there is neither a planner's folder nor a task of this name, or a file is damaged.
    """
    folder = Path(path_or_task)
    if (folder / _PLANNER).is_file():
        record = read_json(folder / _PLANNER)
        task, config = Task(**record["task"]), EvaluateConfig(**record["config"])
        dynamics = folder / _DYNAMICS
        return task, config, {
            "model": folder / _DIFFUSION, "reward": folder / _REWARD,
            "dynamics": dynamics if dynamics.is_file() else None, "value": folder / _VALUE,
            "plan_value": folder / _PLAN_VALUE,
        }  # fmt: skip
    if folder.is_dir():
        raise UserError(f"{folder}: no planner in it ({_PLANNER} is missing); write one with `Planner.save`")
    task, chosen = get_task(str(path_or_task)), get_variant(variant)
    config = EvaluateConfig.resolve(load_params(Path("params.yaml")), task, chosen)
    models = Path("results/models") / task.name.replace("multi2d", "maze2d")
    return task, config, {
        "model": models / chosen.network / f"seed{seed}.safetensors", "reward": models / _REWARD,
        "dynamics": models / _DYNAMICS, "value": models / _VALUE, "plan_value": models / _PLAN_VALUE,
    }  # fmt: skip


def save_models(
    folder: Path,
    task: Task,
    config: EvaluateConfig,
    model: DiffusionModel,
    dynamics: DynamicsEnsemble | None,
    reward: RewardModel | None,
    value: ValueModel | None,
    plan_value: PlanValue | None,
) -> None:
    """Write the folder that `find_planner` reads."""
    model.save(folder / _DIFFUSION)
    mechanisms: Mapping[str, Mechanism | None] = {_DYNAMICS: dynamics, _REWARD: reward, _VALUE: value}
    for name, mechanism in mechanisms.items():
        if mechanism is not None:
            save_weights(folder / name, *mechanism_state(mechanism))
    if plan_value is not None:
        plan_value.save(folder / _PLAN_VALUE)
    write_json(folder / _PLANNER, {"task": asdict(task), "config": asdict(config)})


def load_models(
    *, model: Path, reward: Path, dynamics: Path | None, value: Path | None, plan_value: Path | None
) -> dict[str, Any]:
    """What a `Planner` is made of, by its arguments' names.

    Raises:
        UserError: a file is missing or damaged.
    """
    device = choose_device()
    network = DiffusionModel.load(model, device)
    network.make_fast()
    return {
        "model": network,
        "dynamics": load_mechanism(DynamicsEnsemble, dynamics) if dynamics else None,
        "reward": load_mechanism(RewardModel, reward),
        "value": load_mechanism(ValueModel, value) if value else None,
        "plan_value": PlanValue.load(plan_value, device) if plan_value else None,
    }
