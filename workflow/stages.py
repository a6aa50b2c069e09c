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
from dmemm.tasks import get_task


def load(path: Path) -> Params:
    """Read params.yaml, and check what its schema cannot: that every score in a table has a network behind it.

    Raises:
        UserError: naming the key at fault.
    """
    params = load_params(path)
    for key in (
        "tasks",
        "mazes",
        "ablation_tasks",
        "sensitivity_tasks",
        "sensitivity_lambda_tr",
        "sensitivity_lambda_rd",
    ):
        if not params[key]:
            raise UserError(f"{path}: {key}: the list is empty; for a part of the tables, ask for its files by path")
    for key in ("tasks", "study_tasks"):
        for name in params[key]:
            try:
                task = get_task(name)
            except UserError as error:
                raise UserError(f"{path}: {key}: {error}") from error
            if task.protocol == "multi2d":
                raise UserError(f"{path}: {key}: {name} has no networks of its own; put its maze into mazes")
    needed = {key: params[key] for key in ("ablation_tasks", "sensitivity_tasks")}
    needed["mazes"] = [f"maze2d-{maze}" for maze in params["mazes"]]
    for key, names in needed.items():
        # Their `dmemm` networks are those of `tasks`, in both tools.
        missing = [name for name in names if name not in params["tasks"]]
        if missing:
            raise UserError(f"{path}: {key}: {missing[0]} is not in tasks; add it there too")
    for name in params["methods"]:
        if name not in METHODS:
            raise UserError(f"{path}: methods: {name} is none; choose from {', '.join(METHODS)}")
    goals = {name: get_task(name).has_goal for name in params["tasks"]}
    if len(set(goals.values())) == 1:
        raise UserError(f"{path}: tasks: Tables 1 and 2 need a task without and one with a goal each")
    for key in ("ablation_tasks", "sensitivity_tasks"):
        for name in params[key]:
            if goals[name]:
                raise UserError(f"{path}: {key}: {name} has a goal; Table 3 and Figure 1 are for locomotion")
    return params


def assignment(key: str, value: Any) -> str:
    """Return `key=value` as `--set` reads it. Mappings are sorted, so equal values give equal text."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"


def assignments(config: Params, keys: Iterable[str], fixed: Collection[str] = ()) -> dict[str, str]:
    """Return a rule's named `params:`: key → `key=value`, without the keys that the variant fixes.

    Snakemake compares the set of a job's values and forgets their names: bare values would hide two keys that
    swap theirs, and a key that takes a value another one has.
    """
    return {key: assignment(key, config[key]) for key in keys if key not in fixed}


def fixed_assignments(keys: Iterable[str], fixed: Mapping[str, Any]) -> list[str]:
    """Return a rule's unnamed `params:`: `key=value` of what its variant fixes, without values that its path tells.

    They are recorded with the job, so another value reruns it; an edit elsewhere in the table of variants does not.
    """
    return [assignment(key, fixed[key]) for key in keys if key in fixed and "{" not in str(fixed[key])]


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
