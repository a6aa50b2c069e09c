"""Stage 2: windows of `horizon` steps as indices into the raw data, with their weights of eq. 11."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from dmemm.config import SegmentConfig
from dmemm.data.normaliser import Normaliser
from dmemm.data.raw import (
    OUTDATED,
    STORAGE,
    RawData,
    dataset,
    episode_bounds,
    episode_slices,
    read_raw,
    reading,
    same_data,
)
from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.tasks import Task

_REMAKE = "delete it and run `segment` again"


@dataclass(frozen=True)
class Segments:
    """Windows of a data set: every start within every episode.

    Attributes:
        horizon: steps of a window.
        starts: int64, shape (windows,), index of the first transition in the raw data.
        lengths: int64, shape (windows,), steps before the episode's end, at most `horizon`; the rest is padding.
        weights: float32, shape (windows,), in (0, 1], eq. 11.
        held_out: bool, shape (windows,), windows of episodes that no diffusion network is trained on.
        normaliser: of transitions `[action, observation]`.
        data: digest of the raw data.
    """

    horizon: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.float32]
    held_out: NDArray[np.bool_]
    normaliser: Normaliser
    data: str

    def require(self, path: Path, raw: RawData, raw_path: Path) -> None:
        """Refuse windows, read from `path`, that were not made from `raw`.

        Raises:
            UserError: the file is of other data, or has windows that these data do not have.
        """
        same_data(path, self.data, raw_path, raw.digest)
        dim = raw.actions.shape[1] + raw.observations.shape[1]
        if int((self.starts + self.lengths).max()) > len(raw.rewards) or len(self.normaliser.center) != dim:
            raise UserError(f"{path}: windows that {raw_path} does not have; {_REMAKE}")

    def fault(self) -> str:
        """Return what is wrong with windows that were read, in any data set; empty if nothing is."""
        columns = (self.starts, self.lengths, self.weights, self.held_out)
        parts = [getattr(self.normaliser, name) for name in Normaliser.names()]
        if any(x.shape != (len(self.starts),) for x in columns) or any(x.shape != parts[0].shape for x in parts):
            return "arrays of shapes that do not belong together"
        if not all(np.isfinite(x).all() for x in (*columns, *parts)):
            return "a number that is not finite"
        if any(x.dtype.kind != "i" for x in columns[:2]) or self.held_out.dtype != np.bool_:
            return "numbers of another kind"
        if len(self.starts) == 0 or self.held_out.all():
            return "no windows to learn from"
        inside = (self.starts >= 0) & (self.lengths >= 1) & (self.lengths <= self.horizon)
        return "" if inside.all() and (self.normaliser.scale > 0).all() else "windows or scales out of range"


def normaliser_kind(task: Task) -> Literal["gaussian", "limits"]:
    """Diffuser's choice: Gaussian for locomotion, limits for mazes; here for every task with a goal."""
    return "limits" if task.has_goal else "gaussian"


def fit_normalisers(raw: RawData, task: Task) -> tuple[Normaliser, Normaliser]:
    """The normalisers of actions and of observations; every stage that reads the raw data gets the same."""
    kind = normaliser_kind(task)
    return Normaliser.fit(raw.actions, kind), Normaliser.fit(raw.observations, kind)


def make_segments(raw: RawData, task: Task, horizon: int, weight_floor: float, held_out: float = 0.0) -> Segments:
    """Index all windows of `raw`; those of random episodes with about the share `held_out` of the steps are held out.

    Eq. 11's weight of a window is Σ r / (T_max r_max). Rewards may be negative or zero throughout, so each is first
    mapped by the data's own range to r' = (r - r_min) / (r_max - r_min); T_max is the horizon, so that
    weight = max(weight_floor, Σ r' / horizon), which lies in (0, 1].
    """
    slices = episode_slices(raw.ended)
    _, ends = episode_bounds(raw.ended)
    starts = np.arange(len(raw.rewards), dtype=np.int64)
    lengths = np.minimum(horizon, ends - starts)

    low, high = float(raw.rewards.min()), float(raw.rewards.max())
    cumulative = np.concatenate([[0.0], np.cumsum(raw.rewards, dtype=np.float64)])
    returns = cumulative[starts + lengths] - cumulative[starts]
    share = (returns - low * lengths) / ((high - low) * horizon) if high > low else np.ones(len(starts))
    return Segments(
        horizon,
        starts,
        lengths,
        np.clip(share, weight_floor, 1).astype(np.float32),
        hold_out(slices, held_out),
        Normaliser.join(*fit_normalisers(raw, task)),
        raw.digest,
    )


def hold_out(slices: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Choose random episodes with about a share of all steps; or, if all are too long for it, the end of the longest.

    Args:
        slices: start and end (exclusive) of the episodes, shape (E, 2).
        share: of the steps. An episode that would take more than twice as many is not chosen.

    Returns:
        Whether each step is of a chosen episode, shape (N,).
    """
    lengths = slices[:, 1] - slices[:, 0]
    total, taken = int(lengths.sum()), 0
    wanted = share * total
    chosen = np.zeros(len(slices), dtype=bool)
    for episode in np.random.default_rng(0).permutation(len(slices)):
        if taken >= wanted:
            break
        if taken + lengths[episode] <= min(2 * wanted, total - 1):  # something is left to learn from
            chosen[episode] = True
            taken += int(lengths[episode])
    held_out = np.repeat(chosen, lengths)
    if not taken:  # all episodes are long: windows before the end of this one reach into it
        end = slices[lengths.argmax(), 1]
        held_out[end - min(int(wanted), int(lengths.max()) - 1) : end] = True
    return held_out


def segment(task: Task, config: SegmentConfig, raw_path: Path, output: Path) -> None:
    """Run the stage: read the raw data, write the windows.

    Raises:
        UserError: the data are missing or damaged, or without a goal all episodes are shorter than the horizon: no
            state at the end of a plan would be learned.
    """
    segments = make_segments(read_raw(raw_path), task, config.horizon, config.weight_floor, config.held_out)
    longest = int(segments.lengths.max())
    if longest < config.horizon and not task.has_goal:
        raise UserError(
            f"{raw_path}: no episode is as long as the horizon, {config.horizon}; set it to {longest} or less"
        )
    with replacing(output) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["task"], file.attrs["horizon"], file.attrs["data"] = task.name, config.horizon, segments.data
        for name in ("starts", "lengths", "weights", "held_out"):
            values = getattr(segments, name)
            file.create_dataset(name, data=values, chunks=True, **STORAGE)
        for name in Normaliser.names():
            file[f"normaliser/{name}"] = getattr(segments.normaliser, name)
    print(
        f"segment {task.name}: {len(segments.starts)} windows of {config.horizon} steps, "
        f"{segments.held_out.mean():.1%} held out → {output}"
    )


def read_segments(path: Path) -> Segments:
    """Read what `segment` wrote.

    Raises:
        UserError: the file is missing, damaged, of another layout or of an earlier version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that makes it")
    with reading(path, _REMAKE) as file:
        if "data" not in file.attrs:
            raise UserError(f"{path}: {OUTDATED}")
        arrays = {name: dataset(file, name)[:] for name in ("starts", "lengths", "weights", "held_out")}
        normaliser = Normaliser(*(dataset(file, f"normaliser/{name}")[:] for name in Normaliser.names()))
        horizon, data = int(file.attrs["horizon"]), str(file.attrs["data"])
        segments = Segments(horizon=horizon, normaliser=normaliser, data=data, **arrays)
    if fault := segments.fault():
        raise UserError(f"{path}: holds {fault}; {_REMAKE}")
    return segments
