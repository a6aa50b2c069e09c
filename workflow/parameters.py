"""params.yaml, checked beyond its schema: each score in a table has a network behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmemm.config import Params, load_params
from dmemm.errors import UserError
from dmemm.tasks import get_task


def load(path: Path) -> Params:
    """Read params.yaml.

    Raises:
        UserError: naming the key at fault.
    """
    params = load_params(path)
    names = ["mazes", "study_tasks", "ablation_tasks", "sensitivity_tasks"]
    names += ["sensitivity_lambda_tr", "sensitivity_lambda_rd"]
    lists = {f"tasks.{suite}": tasks for suite, tasks in params["tasks"].items()} | {key: params[key] for key in names}
    for key, values in lists.items():
        if not values:
            raise UserError(f"{path}: {key}: the list is empty; for a part of the tables, ask for its files by path")
    for key in ("tasks.locomotion", "tasks.maze", "study_tasks"):
        for name in lists[key]:
            _check_task(path, key, name)
    for key in ("ablation_tasks", "sensitivity_tasks"):
        for name in params[key]:
            if name in params["tasks"]["maze"]:
                raise UserError(f"{path}: {key}: {name} has a goal; Table 3 and Figure 1 are for locomotion")
    # Their `dmemm` networks are those of `tasks`.
    _check_listed(path, "ablation_tasks", params["ablation_tasks"], "locomotion", params)
    _check_listed(path, "sensitivity_tasks", params["sensitivity_tasks"], "locomotion", params)
    _check_listed(path, "mazes", [f"maze2d-{maze}" for maze in params["mazes"]], "maze", params)
    return {key: _plain(value) for key, value in params.items()}


def _plain(value: Any) -> Any:
    """Write whole numbers as integers: 1.0 and 1 are the same value, and must be the same text in a job's record."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_task(path: Path, key: str, name: str) -> None:
    try:
        task = get_task(name)
    except UserError as error:
        raise UserError(f"{path}: {key}: {error}") from error
    if task.protocol == "multi2d":
        raise UserError(f"{path}: {key}: {name} has no networks of its own; put its maze into mazes")
    if key.startswith("tasks.") and key != f"tasks.{task.suite}":
        has = "a goal" if task.has_goal else "no goal"
        raise UserError(f"{path}: {key}: {name} has {has}; put it into tasks.{task.suite}")


def _check_listed(path: Path, key: str, names: list[str], suite: str, params: Mapping[str, Any]) -> None:
    if missing := [name for name in names if name not in params["tasks"][suite]]:
        raise UserError(f"{path}: {key}: {missing[0]} is not in tasks.{suite}; add it there too")
