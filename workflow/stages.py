"""What the rules share: parameters as the command line takes them, and the lists of params.yaml."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from dmemm.config import Params, load_params
from dmemm.errors import UserError
from dmemm.methods import METHODS
from dmemm.tasks import Task, get_task

# Parameters that differ between them are two, and so are rules: a value for mazes reruns no locomotion task.
SUITES = ("locomotion", "maze")
# A goal is in the plan, so nothing is maximised: an edit of these reruns no maze.
UNREAD = {("maze", key) for key in ("objective", "discount", "termination_penalty")}


def load(path: Path) -> Params:
    """Read params.yaml, and check what its schema cannot: that every score in a table has a network behind it.

    Raises:
        UserError: naming the key at fault.
    """
    params = load_params(path)
    for key in (
        "tasks.locomotion",
        "tasks.maze",
        "mazes",
        "ablation_tasks",
        "sensitivity_tasks",
        "sensitivity_lambda_tr",
        "sensitivity_lambda_rd",
    ):
        if not lookup(params, key):
            raise UserError(f"{path}: {key}: the list is empty; for a part of the tables, ask for its files by path")
    for key in ("tasks.locomotion", "tasks.maze", "study_tasks"):
        for name in lookup(params, key):
            try:
                task = get_task(name)
            except UserError as error:
                raise UserError(f"{path}: {key}: {error}") from error
            if task.protocol == "multi2d":
                raise UserError(f"{path}: {key}: {name} has no networks of its own; put its maze into mazes")
            if key.startswith("tasks.") and key != f"tasks.{task.suite}":
                has = "a goal" if task.has_goal else "no goal"
                raise UserError(f"{path}: {key}: {name} has {has}; put it into tasks.{task.suite}")
    for key in ("ablation_tasks", "sensitivity_tasks"):
        for name in params[key]:
            if name in params["tasks"]["maze"]:
                raise UserError(f"{path}: {key}: {name} has a goal; Table 3 and Figure 1 are for locomotion")
    # Their `dmemm` networks are those of `tasks`, in both tools.
    for key, suite, names in (
        ("ablation_tasks", "locomotion", params["ablation_tasks"]),
        ("sensitivity_tasks", "locomotion", params["sensitivity_tasks"]),
        ("mazes", "maze", [f"maze2d-{maze}" for maze in params["mazes"]]),
    ):
        if missing := [name for name in names if name not in params["tasks"][suite]]:
            raise UserError(f"{path}: {key}: {missing[0]} is not in tasks.{suite}; add it there too")
    for name in params["methods"]:
        if name not in METHODS:
            raise UserError(f"{path}: methods: {name} is none; choose from {', '.join(METHODS)}")
    return params


def assignment(key: str, value: Any) -> str:
    """Return `key=value` as `--set` reads it. Mappings are sorted, so equal values give equal text."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"


def lookup(config: Params, key: str) -> Any:
    """The value of a key, or of a part of it: `train_steps.maze`.

    Raises:
        KeyError: there is none.
    """
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def assignments(
    config: Params, keys: Iterable[str], fixed: Collection[str] = (), suite: str | None = None
) -> dict[str, str]:
    """Return a rule's named `params:`: key → `key=value`, without the keys that the variant fixes.

    Of what is given per suite a rule for one `suite` reads its part alone: `train_steps.maze=5000`; that for tasks
    with a goal does not read what those do without.

    Snakemake compares the set of a job's values and forgets their names: bare values would hide two keys that
    swap theirs, and a key that takes a value another one has.
    """
    read = [key for key in keys if key not in fixed and (suite, key) not in UNREAD]
    if suite is not None:
        read = [f"{key}.{suite}" if isinstance(config[key], Mapping) else key for key in read]
    return {key: assignment(key, lookup(config, key)) for key in read}


def fixed_assignments(keys: Iterable[str], fixed: Mapping[str, Any], suite: str | None = None) -> list[str]:
    """Return a rule's unnamed `params:`: `key=value` of what its variant fixes, without values that its path tells.

    They are recorded with the job, so another value reruns it; an edit elsewhere in the table of variants does not.
    """
    read = [key for key in keys if key in fixed and (suite, key) not in UNREAD]
    return [assignment(key, fixed[key]) for key in read if "{" not in str(fixed[key])]


def named_files(task: Task) -> list[tuple[str, str]]:
    """Files of the user's that a task's file names, each with a pattern of what is made of it.

    These are its data, and modules in this folder with its environment and its termination function.
    """
    named = [(str(Path(own).expanduser()), f"data/raw/{task.name}.hdf5")] if (own := task.data.get("own")) else []
    made = [f"results/{stage}/*/{task.name}/*" for stage in ("eval", "consistency", "pictures", "calibrate", "study/*")]
    made.append(f"results/models/{task.name}/morel/*")  # it learns where episodes end
    for module, colon, _ in (name.partition(":") for name in (task.env, task.terminal)):
        if colon and module.partition(".")[0] != "dmemm":
            named += [(f"{module.replace('.', '/')}.py", pattern) for pattern in made]
    return named


def gpus() -> int:
    """The number of devices that jobs on this machine may use; they queue for them. 0 where all run on the CPU."""
    if device := os.environ.get("DMEMM_DEVICE"):
        return int(device != "cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(name.strip() not in ("", "-1") for name in visible.split(","))
    return len(glob("/dev/nvidia[0-9]*"))


def growing(amount: int) -> Callable[[object, int], int]:
    """A resource that a cluster's job asks more of at every retry."""
    return lambda wildcards, attempt: amount * attempt
