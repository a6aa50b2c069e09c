"""A planner's models on disk: those of the project, and the folder that `Planner.save` writes."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from dmemm.config import EvaluateConfig, load_params
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.files import read_json, write_json
from dmemm.models.mechanisms import (
    DynamicsEnsemble,
    Mechanism,
    RewardModel,
    ValueModel,
    load_mechanism,
    mechanism_state,
)
from dmemm.models.plan_value import PlanValue
from dmemm.models.storage import save_weights
from dmemm.tasks import Task, get_task
from dmemm.variants import get_variant

_PLANNER = "planner.json"
# The files of a planner's folder, by the names of `load_models`' arguments.
_FILES = {"model": "diffusion.safetensors"} | {
    name: f"{name}.safetensors" for name in ("dynamics", "reward", "value", "plan_value")
}


class ModelPaths(TypedDict):
    """The files of a planner's models, by the names of `load_models`' arguments."""

    model: Path
    reward: Path | None
    dynamics: Path | None
    value: Path | None
    plan_value: Path | None


def find_planner(path_or_task: str | Path, variant: str, seed: int) -> tuple[Task, EvaluateConfig, ModelPaths]:
    """Return the task, the parameters and the files of `Planner.load`.

    Raises:
        UserError: there is neither a planner's folder nor a task of this name, a file is damaged, or the task of a
            planner's folder names a module that cannot be found.
    """
    folder = Path(path_or_task)
    if (folder / _PLANNER).is_file():
        return _read_folder(folder)
    if folder.is_dir():
        raise UserError(f"{folder}: no planner in it ({_PLANNER} is missing); write one with `Planner.save`")
    task, chosen = get_task(str(path_or_task)), get_variant(variant)
    config = EvaluateConfig.resolve(load_params(Path("params.yaml")), task, chosen)
    # Multi2D is Maze2D with random goals, and plans with its networks.
    models = Path("results/models") / (f"maze2d-{task.body}" if task.protocol == "multi2d" else task.name)
    return task, config, {
        "model": models / chosen.network / f"seed{seed}.safetensors", "reward": models / _FILES["reward"],
        "dynamics": models / _FILES["dynamics"], "value": models / _FILES["value"],
        "plan_value": models / _FILES["plan_value"],
    }  # fmt: skip


def _read_folder(folder: Path) -> tuple[Task, EvaluateConfig, ModelPaths]:
    source, record = folder / _PLANNER, read_json(folder / _PLANNER)
    try:
        task, config = Task(**record["task"]), EvaluateConfig(**record["config"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{source}: of another version of dmemm ({error}); save the planner again") from error
    for key, name in (("env", task.env), ("terminal", task.terminal)):
        module, separator, _ = name.partition(":")
        if separator and not _is_installed(module):
            raise UserError(f"{source}: {key}: module {module} not found; put it beside your script or on PYTHONPATH")
    found = {name: path if (path := folder / file).is_file() else None for name, file in _FILES.items()}
    return task, config, {
        "model": folder / _FILES["model"], "reward": found["reward"], "dynamics": found["dynamics"],
        "value": found["value"], "plan_value": found["plan_value"],
    }  # fmt: skip


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is missing
        return False


def write_folder(
    folder: Path,
    task: Task,
    config: EvaluateConfig,
    model: DiffusionModel,
    mechanisms: Mapping[str, Mechanism | None],
    plan_value: PlanValue | None,
) -> None:
    """Write the folder that `find_planner` reads, whole or not at all.

    Args:
        folder: may be empty or hold a planner, which is replaced.
        task: the planner's task.
        config: its parameters.
        model: its diffusion model.
        mechanisms: its `dynamics`, `reward` and `value`.
        plan_value: its J, or None.

    Raises:
        UserError: the folder holds anything else, or it cannot be written.
    """
    folder = folder.resolve()  # a link stays, its target is replaced
    if folder.exists() and not _is_replaceable(folder):
        raise UserError(f"{folder}: exists and is not a planner's folder; choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            model.save(new / _FILES["model"])
            for name, mechanism in mechanisms.items():
                if mechanism is not None:
                    save_weights(new / _FILES[name], *mechanism_state(mechanism))
            if plan_value is not None:
                plan_value.save(new / _FILES["plan_value"])
            write_json(new / _PLANNER, {"task": asdict(task), "config": asdict(config)})
            if folder.exists():  # a folder cannot be renamed onto one that holds files
                folder.rename(old)
            new.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot write: {error.strerror or error}; choose another folder") from error


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds a planner and nothing else."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return not names or (_PLANNER in names and names <= {_PLANNER, *_FILES.values()})


def load_models(
    *, model: Path, reward: Path | None, dynamics: Path | None, value: Path | None, plan_value: Path | None
) -> dict[str, Any]:
    """Load the models of a `Planner`, by the names of its arguments.

    Raises:
        UserError: a file is missing or damaged.
    """
    device = choose_device()
    network = DiffusionModel.load(model, device)
    network.make_fast()
    return {
        "model": network,
        "dynamics": load_mechanism(DynamicsEnsemble, dynamics) if dynamics else None,
        "reward": load_mechanism(RewardModel, reward) if reward else None,
        "value": load_mechanism(ValueModel, value) if value else None,
        "plan_value": PlanValue.load(plan_value, device) if plan_value else None,
    }
