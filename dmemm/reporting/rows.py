"""Read score files, group them by task, check that they belong together, and average over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmemm.errors import UserError
from dmemm.methods import METHODS
from dmemm.score_file import Score

NAMES = {name: method.label for name, method in METHODS.items()}  # as tables print them


@dataclass(frozen=True)
class Row:
    """All evaluations on one task; they differ only in variant, seed and scores.

    Attributes:
        task: name of the task.
        variants: variant → its evaluations by ascending seed, the same seeds for every variant.
    """

    task: str
    variants: Mapping[str, tuple[Score, ...]]

    @property
    def first(self) -> Score:
        """One of the evaluations, for the values that all share."""
        return next(iter(self.variants.values()))[0]

    @property
    def seeds(self) -> int:
        """Number of seeds of each variant."""
        return len(next(iter(self.variants.values())))


def load_rows(paths: Sequence[Path]) -> list[Row]:
    """Read score files and group them by task, in the order in which the tasks first appear.

    Raises:
        UserError: there are no files, `Score.read` refuses one, two have the same task, variant and seed, or files of
            one task differ in data source, checkpoint, episodes, data score or seeds.
    """
    if not paths:
        raise UserError("no score files: give at least one file that evaluate wrote")
    tasks: dict[str, dict[str, dict[int, Score]]] = {}
    for score in map(Score.read, paths):
        seeds = tasks.setdefault(score.task, {}).setdefault(score.variant, {})
        if score.seed in seeds:
            raise UserError(f"{score.path}: same task, variant and seed as {seeds[score.seed].path}; give one of them")
        seeds[score.seed] = score
    for task, variants in tasks.items():
        _check_row(task, variants)
    return [
        Row(task, {variant: tuple(seeds[seed] for seed in sorted(seeds)) for variant, seeds in variants.items()})
        for task, variants in tasks.items()
    ]


def mean_and_standard_error(seeds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Compute the mean over seeds of each seed's mean over episodes, and its standard error.

    The error is over seeds, not over all episodes: the episodes of a seed share one trained network, so they are not
    independent, and pooling them would understate how much another training may differ.

    Args:
        seeds: for each seed, the values of its episodes.

    Returns:
        Mean, and standard error (sample standard deviation with n - 1, over sqrt n); the error of one seed is NaN.
    """
    means = [statistics.fmean(episodes) for episodes in seeds]
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return statistics.fmean(means), error


def describe(rows: Sequence[Row]) -> str:
    """Describe the rows' scores in the words that the captions of all tables and figures share."""
    sources = sorted({row.first.data_source for row in rows})
    checkpoints = " or ".join(sorted({row.first.checkpoint for row in rows}))
    seeds, episodes = _span([row.seeds for row in rows]), _span([row.first.episodes for row in rows])
    text = (
        f"Data source: {', '.join(sources)}. {seeds} {'seed' if seeds == '1' else 'seeds'} × {episodes} episodes,"
        f" {checkpoints} checkpoint; mean ± standard error over seeds of D4RL's normalised score"
        " (0: random play, 100: D4RL's reference controller)."
    )
    if min(row.seeds for row in rows) == 1:
        text += " A single seed has no standard error."
    for source in sources:
        if source != "d4rl":
            text += f" The {source} data are not D4RL's: these scores are not comparable to published ones."
    for warning in dict.fromkeys(warning for row in rows for warning in row.first.data_warnings):
        text += f" **{warning}.**"
    return text


def _span(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _check_row(task: str, variants: Mapping[str, Mapping[int, Score]]) -> None:
    all_scores = [score for seeds in variants.values() for score in seeds.values()]
    first = all_scores[0]
    for score in all_scores[1:]:
        for what in ("data_source", "data_score", "best_policy_score", "checkpoint", "episodes"):
            if (ours := getattr(score, what)) != (theirs := getattr(first, what)):
                raise UserError(f"{score.path}: {what} {ours}, but {theirs} in {first.path}; evaluate both alike")
    expected = {score.seed for score in all_scores}
    for variant, seeds in variants.items():
        missing = sorted(expected - set(seeds))
        if missing:
            raise UserError(f"{task}: seed {missing[0]} is missing for {variant}; evaluate it, or leave that seed out")
