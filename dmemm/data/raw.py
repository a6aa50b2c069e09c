"""Raw data sets: one HDF5 file of transitions in D4RL's layout."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.tasks import Task

ARRAYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
DTYPES: Mapping[str, Any] = {key: np.bool_ if key in ("terminals", "timeouts") else np.float32 for key in ARRAYS}
LABELS = ("data_source", "task")
REMAKE = "delete it and run the same command of Snakemake again"  # what to do about a file of the pipeline's own
OUTDATED = "made by an earlier version; delete it and run the stage again"
# The same data give the same bytes. LZF's output depends on uninitialised memory, and so does the part of the last
# chunk that lies beyond the data.
STORAGE: Mapping[str, Any] = {
    "compression": "gzip", "compression_opts": 1, "shuffle": True, "track_times": False, "fillvalue": 0,
    "fill_time": "alloc",
}  # fmt: skip
_CHUNK = 4096  # transitions; fixed, so that the bytes do not depend on the blocks


@dataclass(frozen=True)
class RawData:
    """Transitions in the order in which they were collected; an episode ends at `terminals | timeouts`.

    Attributes:
        observations: (N, Ds) float32.
        actions: (N, Da) float32.
        rewards: (N,) float32; `rewards[t]` is received on arriving in `next_observations[t]`.
        terminals: (N,) bool, the task ended.
        timeouts: (N,) bool, the episode was cut off; in mazes, a navigation goal was reached.
        next_observations: (N, Ds) float32; where the state after a terminal transition is unknown, `observations[t]`.
        data_source: who made the data: `local`, `d4rl`, `minari` or `own`.
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

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Whether a transition is the last one of its episode, shape (N,)."""
        return self.terminals | self.timeouts

    @property
    def has_successor(self) -> NDArray[np.bool_]:
        """Whether the state after a transition is known, shape (N,)."""
        return ~(self.terminals & (self.next_observations == self.observations).all(axis=1))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays, independent of their file; files made from the data name it in their headers."""
        digest = hashlib.sha256()
        for key in ARRAYS:
            array = np.ascontiguousarray(getattr(self, key))
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()


def same_data(path: Path, data: str, other: Path, expected: str) -> None:
    """Compare the digests of the raw data that two files were made from.

    Raises:
        UserError: they differ.
    """
    if data != expected:
        raise UserError(f"{path}: of other raw data than {other}; run the stages that make the two again")


def check_raw(raw: RawData, name: str, remedy: str = REMAKE) -> None:
    """Check types, shapes and values.

    Raises:
        UserError: they are wrong; `name` (a file, say) leads the message and `remedy` ends it.
    """

    def fail(reason: str) -> None:
        raise UserError(f"{name}: {reason}; {remedy}")

    length = len(raw.observations) if np.ndim(raw.observations) else 0
    if length == 0:
        fail("holds no transitions")
    for key in ARRAYS:
        array = getattr(raw, key)
        dtype, dimensions = DTYPES[key], (2 if key.endswith("tions") else 1)
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


def write_raw(path: Path, blocks: Iterable[RawData]) -> None:
    """Write consecutive `blocks` as one data set, never more than one in memory; the same data give the same bytes.

    Raises:
        UserError: the file cannot be written, or a block is not sound or unlike the first.
    """
    length = 0
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for raw in blocks:
            check_raw(raw, str(path))
            for key in ARRAYS:
                array = getattr(raw, key)
                if key not in file:
                    shape = array.shape[1:]
                    maximum, chunk = (None, *shape), (_CHUNK, *shape)
                    file.create_dataset(key, (0, *shape), array.dtype, maxshape=maximum, chunks=chunk, **STORAGE)
                if file[key].shape[1:] != array.shape[1:]:
                    raise UserError(f"{path}: {key} of {array.shape[1:]} after {file[key].shape[1:]}; correct the data")
                file[key].resize(length + len(array), axis=0)
                file[key][length:] = array
            for label in LABELS:
                file.attrs[label] = getattr(raw, label)
            length += len(raw.rewards)
        if length == 0:
            raise UserError(f"{path}: the data set holds no transitions; correct the data")


def read_raw(path: Path) -> RawData:
    """Read and check what `write_raw` wrote.

    Raises:
        UserError: the file is missing, truncated, not HDF5, lacks a key or holds unsound data.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; ask Snakemake for it by this path")
    with reading(path) as file:
        missing = [key for key in LABELS if key not in file.attrs]
        if missing:
            raise UserError(f"{path}: lacks {', '.join(missing)}; {REMAKE}")
        values: dict[str, Any] = {key: dataset(file, key)[()].astype(DTYPES[key], copy=False) for key in ARRAYS}
        raw = RawData(**values | {label: str(file.attrs[label]) for label in LABELS})
    check_raw(raw, str(path))
    return raw


@contextmanager
def reading(path: Path, remedy: str = REMAKE) -> Iterator[h5py.File]:
    """Open an HDF5 file; what h5py raises for a damaged one, then or later, becomes one line.

    Raises:
        UserError: the file is damaged or no HDF5 file.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        LookupError,
        MemoryError,
    ) as error:  # h5py raises all of these
        raise UserError(
            f"{path}: damaged or not an HDF5 data set ({' '.join(str(error).split())}); {remedy}"
        ) from error


def dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """Return the array under `key`; refuse links to other files, and anything but plain numbers.

    So nothing in a data set is executed (pickles are stored as objects or bytes) or read from elsewhere.

    Raises:
        UserError: see above, or there is no such key.
    """
    name, link = file.filename, file.get(key, getlink=True)
    if link is None:
        raise UserError(f"{name}: lacks {key}; it has {', '.join(list(file)[:8]) or 'nothing'}")
    found = file[key] if isinstance(link, h5py.HardLink) else None
    if found is None or (isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)):
        raise UserError(f"{name}: {key} lies elsewhere, and links are not followed; copy the data into this file")
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
        raise UserError(f"{name}: {key} is {getattr(found, 'dtype', 'a group')}, not an array of numbers")
    return found


def episode_slices(ended: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Start and end (exclusive) of every episode, (E, 2); the last transition always closes the last episode."""
    ends = np.union1d(np.flatnonzero(ended), [len(ended) - 1]) + 1
    return np.stack([np.concatenate([[0], ends[:-1]]), ends], 1).astype(np.int64)


def episode_bounds(ended: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end (exclusive) of each transition's episode, shape (N,) both."""
    slices = episode_slices(ended)
    starts, ends = np.repeat(slices, slices[:, 1] - slices[:, 0], axis=0).T
    return starts, ends


def statistics(path: Path, task: Task) -> dict[str, Any]:
    """Return statistics, ready for JSON, of a file that `write_raw` wrote; they make a wrong data set obvious.

    A maze's data are one long trajectory in which `timeouts` only mark the navigation goals, so there are no episode
    returns. Instead, the statistics describe the returns of all windows of `task.episode_steps` consecutive steps, the
    length of an evaluation episode. `return_definition` names the definition that was used.
    """
    with reading(path) as file:
        rewards, ended = file["rewards"][()], file["terminals"][()] | file["timeouts"][()]
        data_source = str(file.attrs["data_source"])
    slices = episode_slices(ended)
    lengths = slices[:, 1] - slices[:, 0]
    total = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    window = min(task.episode_steps, len(rewards))
    if task.is_maze:
        definition, returns = f"windows of {window} consecutive steps", total[window:] - total[:-window]
    else:
        definition, returns = "episodes", total[slices[:, 1]] - total[slices[:, 0]]
    return {
        "task": task.name,
        "data_source": data_source,
        "transitions": len(rewards),
        "episodes": len(slices),
        "episode_length_mean": float(lengths.mean()),
        "episode_length_max": int(lengths.max()),
        "return_definition": definition,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "score_mean": task.score(float(returns.mean())),
    }
