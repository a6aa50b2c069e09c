"""A planner's models on disk: those of the project, and the folder that `Planner.save` writes."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dmemm.config import EvaluateConfig, load_params
from dmemm.data.raw import same_data
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.files import read_json, write_json
from dmemm.inputs import PATHS, Inputs, in_pipeline
from dmemm.methods import get_method
from dmemm.models.mechanisms import DynamicsEnsemble, Mechanism, RewardModel, ValueModel, load_mechanism
from dmemm.models.plan_value import PlanValue
from dmemm.schema import check
from dmemm.tasks import Task, get_task

_PLANNER = "planner.json"
# The files of a planner's folder, by the names of `load_models`' arguments.
_FILES = {"model": "diffusion.safetensors"} | {
    name: f"{name}.safetensors" for name in ("dynamics", "reward", "value", "plan_value")
}


def find_planner(path_or_task: str | Path, variant: str, seed: int) -> tuple[Task, EvaluateConfig, Inputs]:
    """Return the task, the parameters and the files of `Planner.load`.

    Raises:
        UserError: there is neither a planner's folder nor a task of this name, a file is damaged, or the task of a
            planner's folder names a module that cannot be found.
    """
    folder = Path(path_or_task).expanduser()
    if (folder / _PLANNER).is_file():
        return _read_folder(folder)
    if folder.is_dir():
        raise UserError(f"{folder}: no planner in it ({_PLANNER} is missing); write one with `Planner.save`")
    task, chosen = get_task(str(path_or_task)), get_method(variant)
    config = EvaluateConfig.resolve(load_params(Path("params.yaml")), task, chosen)
    found = in_pipeline(PATHS, task.data_task, chosen.network, seed)
    # These predict a plan's return and its errors; they are loaded where they exist.
    predicting = {name for name in ("dynamics", "reward") if found.need(name).is_file()}
    return task, config, in_pipeline({"model", *config.models(task), *predicting}, task.data_task, chosen.network, seed)


def _read_folder(folder: Path) -> tuple[Task, EvaluateConfig, Inputs]:
    source, record = folder / _PLANNER, read_json(folder / _PLANNER)
    try:
        task, config = Task(**record["task"]), EvaluateConfig(**record["config"])
        _check(task, config, str(source))
    except (KeyError, TypeError) as error:
        raise UserError(f"{source}: of another version of dmemm ({error}); save the planner again") from error
    for key, name in (("env", task.env), ("terminal", task.terminal)):
        module, separator, _ = name.partition(":")
        if separator and not _is_installed(module):
            raise UserError(f"{source}: {key}: module {module} not found; put it beside your script or on PYTHONPATH")
    found = {name: path for name, file in _FILES.items() if (path := folder / file).is_file()}
    return task, config, Inputs(**{"model": folder / _FILES["model"], **found})


def _check(task: Task, config: EvaluateConfig, source: str) -> None:
    """Check a record's values: they are those of a task file that gives every parameter of its own."""
    # The horizon is the network's; any number passes here.
    values = {**vars(task), "parameters": {"horizon": 4, **task.parameters, **vars(config)}}
    defaults = {"name": task.name} | {f.name: f.default for f in fields(Task) if f.default is not MISSING}
    defaults["env_arguments"] = {}
    check(
        {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}, "task", source
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is missing
        return False


def write_folder(
    folder: Path,
    task: Task,
    config: EvaluateConfig,
    models: Mapping[str, DiffusionModel | Mechanism | PlanValue | None],
) -> None:
    """Write the folder that `find_planner` reads, whole or not at all.

    Args:
        folder: may be empty or hold a planner, which is replaced.
        task: the planner's task.
        config: its parameters.
        models: its `model`, and its `dynamics`, `reward`, `value` and `plan_value` or None.

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
            for name, model in models.items():
                if model is not None:
                    model.save(new / _FILES[name])
            write_json(new / _PLANNER, {"task": asdict(task), "config": asdict(config)})
            if folder.exists():  # a folder cannot be renamed onto one that holds files
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:  # another process has made the folder
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise
    except OSError as error:
        raise UserError(f"{folder}: cannot write: {error.strerror or error}; choose another folder") from error


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds a planner and nothing else."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return not names or (_PLANNER in names and names <= {_PLANNER, *_FILES.values()})


def load_models(inputs: Inputs) -> dict[str, Any]:
    """Load the models of a `Planner`, by the names of its arguments.

    Raises:
        UserError: a file is missing or damaged, or the files were not made from the same raw data.
    """
    device = choose_device()
    network = DiffusionModel.load(inputs.need("model"), device)
    network.make_fast()
    models = {
        "dynamics": load_mechanism(DynamicsEnsemble, inputs.dynamics) if inputs.dynamics else None,
        "reward": load_mechanism(RewardModel, inputs.reward) if inputs.reward else None,
        "value": load_mechanism(ValueModel, inputs.value) if inputs.value else None,
        "plan_value": PlanValue.load(inputs.plan_value, device) if inputs.plan_value else None,
    }
    sizes = {key: int(network.header[key]) for key in ("observation_dim", "action_dim")}
    sizes["transition_dim"] = sum(sizes.values())
    for name, loaded in models.items():
        if loaded is None:
            continue
        same_data(inputs.need(name), loaded.header["data"], inputs.need("model"), network.header["data"])
        for key in sizes.keys() & loaded.header.keys():
            if loaded.header[key] != sizes[key] and not (name == "value" and key == "action_dim"):
                raise UserError(
                    f"{inputs.need(name)}: {key} is {loaded.header[key]}, {sizes[key]} in {inputs.need('model')};"
                    " run the stages that make the two again"
                )
    return {"model": network, **models}
