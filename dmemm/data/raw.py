"""Raw data sets: one HDF5 file of transitions in D4RL's layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.tasks import Task

ARRAYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
LABELS = ("data_source", "task")
_FLAGS = ("terminals", "timeouts")


@dataclass(frozen=True)
class RawData:
    """Transitions in the order in which they were collected; an episode ends at `terminals | timeouts`.

    Attributes:
        observations: (N, Ds) float32.
        actions: (N, Da) float32.
        rewards: (N,) float32; `rewards[t]` is received on arriving in `next_observations[t]`.
        terminals: (N,) bool, the task ended.
        timeouts: (N,) bool, the episode was cut off; in mazes, a navigation goal was reached.
        next_observations: (N, Ds) float32.
        data_source: who made the data: `local`, `d4rl`, ...
        task: the task it was made for.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]
    next_observations: NDArray[np.float32]
    data_source: str
    task: str


def check_raw(raw: RawData, name: str) -> None:
    """Check types, shapes and values.

    Raises:
        UserError: they are wrong; `name` (a file, say) leads the message.
    """

    def fail(reason: str) -> None:
        raise UserError(f"{name}: {reason}; delete it and download the data again")

    length = len(raw.observations) if np.ndim(raw.observations) else 0
    if length == 0:
        fail("holds no transitions")
    for key in ARRAYS:
        array = getattr(raw, key)
        dtype, dimensions = (np.bool_ if key in _FLAGS else np.float32), (2 if key.endswith("tions") else 1)
        if array.dtype != dtype:
            fail(f"{key} are {array.dtype}, not {np.dtype(dtype)}")
        if array.ndim != dimensions:
            fail(f"{key} have shape {array.shape}, not {dimensions} dimension(s)")
        if len(array) != length:
            fail(f"{key} have length {len(array)}, observations {length}")
        if not np.isfinite(array).all():
            fail(f"{key} hold NaN or infinity")
    if raw.next_observations.shape != raw.observations.shape:
        fail(f"next_observations have shape {raw.next_observations.shape}, observations {raw.observations.shape}")


def write_raw(path: Path, raw: RawData) -> None:
    """Write `raw`; the same data give the same bytes.

    Raises:
        UserError: the file cannot be written, or `raw` is not sound.
    """
    check_raw(raw, str(path))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for key in ARRAYS:
            file.create_dataset(key, data=getattr(raw, key), chunks=True, compression="lzf", track_times=False)
        for label in LABELS:
            file.attrs[label] = getattr(raw, label)


def read_raw(path: Path) -> RawData:
    """Read and check what `write_raw` wrote. Other float and integer types become float32.

    Raises:
        UserError: the file is missing, truncated, not HDF5, lacks a key or holds unsound data.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `dmemm download`")
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ARRAYS if key not in file] + [key for key in LABELS if key not in file.attrs]
            if missing:
                raise UserError(f"{path}: lacks {', '.join(missing)}; delete it and run `dmemm download`")
            values: dict[str, Any] = {
                key: np.asarray(file[key][()]).astype(np.bool_ if key in _FLAGS else np.float32) for key in ARRAYS
            }
            raw = RawData(**values | {label: str(file.attrs[label]) for label in LABELS})
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # h5py raises all of these for damaged files
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: damaged or not an HDF5 data set ({reason}); delete it and run `dmemm download`"
        ) from error
    check_raw(raw, str(path))
    return raw


def episode_slices(raw: RawData) -> NDArray[np.int64]:
    """Start and end (exclusive) of every episode, (E, 2); the last transition always closes the last episode."""
    closed = raw.terminals | raw.timeouts
    closed[-1] = True
    ends = np.flatnonzero(closed) + 1
    return np.stack([np.concatenate([[0], ends[:-1]]), ends], 1).astype(np.int64)


def statistics(raw: RawData, task: Task) -> dict[str, Any]:
    """Numbers by which a wrong data set shows at once, ready for JSON.

    A maze's data is one long trajectory in which `timeouts` only mark the navigation goals, so it has no episode
    returns. In their place stand the returns of all windows of `task.episode_steps` consecutive steps, the length
    of an evaluation episode; `return_definition` says which of the two it is.
    """
    slices = episode_slices(raw)
    lengths = slices[:, 1] - slices[:, 0]
    total = np.concatenate([[0.0], np.cumsum(raw.rewards, dtype=np.float64)])
    window = min(task.episode_steps, len(raw.rewards))
    if task.is_maze:
        definition, returns = f"windows of {window} consecutive steps", total[window:] - total[:-window]
    else:
        definition, returns = "episodes", total[slices[:, 1]] - total[slices[:, 0]]
    return {
        "task": task.name,
        "data_source": raw.data_source,
        "transitions": len(raw.rewards),
        "episodes": len(slices),
        "episode_length_mean": float(lengths.mean()),
        "episode_length_max": int(lengths.max()),
        "return_definition": definition,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "score_mean": task.score(float(returns.mean())),
    }
