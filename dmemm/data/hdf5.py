"""HDF5 files of D4RL's layout, D4RL's own or the user's, read in blocks: the file may be larger than the memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dmemm.data.raw import REMAKE, RawData, check_raw, dataset, reading
from dmemm.errors import UserError
from dmemm.tasks import Task

_BLOCK = 2**25  # bytes of observations in memory at once


def read_blocks(path: Path, task: Task, data_source: str) -> Iterator[RawData]:
    """Read `observations`, `actions`, `rewards`, `terminals` and, where they exist, `timeouts` and `next_observations`.

    Without `next_observations` the next row of the same episode is the next state. An episode's last row has none: if
    the episode was cut off it is left out, if it terminated it is kept, with its own state in the place of the unknown
    one (see `RawData`). D4RL's mazes are always read in this way, with or without `next_observations`. In them, no
    episode terminates, `timeouts` mark the navigation goals, after which the stored state is stale, and `rewards[t]`
    belongs to `observations[t]`. Elsewhere, `rewards[t]` belongs to the state that the action led to.

    Raises:
        UserError: the file is missing, damaged, lacks a key, or holds unsound values.
    """
    remedy = "correct the data set" if data_source == "own" else REMAKE
    if not path.is_file():
        raise UserError(f"{path}: no such file; put it there, or correct `data` in tasks/{task.name}.yaml")
    with reading(path, remedy) as file:
        arrays = {key: dataset(file, key) for key in ("observations", "actions", "rewards", "terminals")}
        arrays |= {key: dataset(file, key) for key in ("timeouts", "next_observations") if key in file}
        length = arrays["observations"].shape[0] if arrays["observations"].ndim else 0
        for key, array in arrays.items():
            if array.ndim == 0 or len(array) != length:
                raise UserError(f"{path}: {key} have shape {array.shape}, observations {length} rows; {remedy}")
        if length == 0:
            raise UserError(f"{path}: holds no transitions; {remedy}")
        successors = "next_observations" in arrays and not task.is_maze
        row = max(1, int(np.prod(arrays["observations"].shape[1:])) * arrays["observations"].dtype.itemsize)
        step, found = max(1, _BLOCK // row), False
        for start in range(0, length, step):
            stop = min(start + step, length)
            columns = {key: _rows(array, key, start, stop if successors else stop + 1) for key, array in arrays.items()}
            columns.setdefault("timeouts", np.zeros(len(columns["terminals"]), np.bool_))
            if not successors:
                columns = _shifted(columns, stop - start, task.is_maze)
            raw = RawData(**columns, data_source=data_source, task=task.name)
            if len(raw.rewards):
                check_raw(raw, f"{path}: rows {start} to {stop - 1}", remedy)
                found = True
                yield raw
        if not found:
            raise UserError(f"{path}: holds no transitions whose next state is known; {remedy}")


def marks_cuts(path: Path) -> bool:
    """Whether a file that `read_blocks` reads tells where an episode was cut off: not only `terminals` end one."""
    with reading(path, "correct the data set") as file:
        return "timeouts" in file or "next_observations" in file


def _rows(array: h5py.Dataset, key: str, start: int, stop: int) -> Any:
    values = array[start:stop]
    if key in ("rewards", "terminals", "timeouts") and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # a column where a vector is meant
    if values.ndim != (2 if key.endswith("tions") else 1):
        raise UserError(f"{array.file.filename}: {key} have shape {array.shape}; correct the data set")
    if key in ("terminals", "timeouts"):
        if not np.isin(values, (0, 1)).all():
            raise UserError(f"{array.file.filename}: {key} hold other values than 0 and 1; correct the data set")
        return values.astype(np.bool_)
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite
        values = values.astype(np.float32)
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        row = start + int(np.argmin(finite))
        raise UserError(f"{array.file.filename}: {key} hold NaN or infinity, first in row {row}; correct the data set")
    return values


def _shifted(columns: dict[str, Any], count: int, is_maze: bool) -> dict[str, Any]:
    """The first `count` rows, each with the row after it as its successor, where that is of the same episode."""
    terminals = columns["terminals"] & (not is_maze)
    cut_off = (columns["terminals"] | columns["timeouts"]) & ~terminals
    followed = ~(terminals | cut_off) & (np.arange(len(terminals)) < len(terminals) - 1)
    here = np.flatnonzero((terminals | followed)[:count])
    after = np.where(followed[here], here + 1, here)
    return {
        "observations": columns["observations"][here],
        "actions": columns["actions"][here],
        "rewards": columns["rewards"][after if is_maze else here],
        "terminals": terminals[here],
        "timeouts": cut_off[after],
        "next_observations": columns["observations"][after],
    }
