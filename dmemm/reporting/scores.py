"""Score files, as `evaluate` writes them: read, checked against each other, and averaged over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jsonschema

from dmemm.errors import UserError
from dmemm.files import read_json
from dmemm.methods import METHODS

NAMES = {"diffuser": "Diffuser", "dmemm": "DMEMM", **METHODS}  # as tables print them, and the published ones too

_NUMBERS = {"type": "array", "minItems": 1, "items": {"type": "number"}}
_SUCCESS = {"anyOf": [{"type": "null"}, {**_NUMBERS, "items": {"enum": [0, 1]}}]}
_SCHEMA = {
    "type": "object",
    "required": [
        "task",
        "variant",
        "seed",
        "data_source",
        "checkpoint",
        "episodes",
        "scores",
        "success",
        "data_score",
        "best_policy_score",
        "data_warnings",
        "executed",
    ],
    "properties": {
        "task": {"type": "string", "minLength": 1},
        "variant": {"type": "string", "minLength": 1},
        "seed": {"type": "integer", "minimum": 0},
        "data_source": {"enum": ["local", "d4rl", "minari", "own"]},
        "checkpoint": {"type": "string", "minLength": 1},
        "episodes": {"type": "integer", "minimum": 1},
        "scores": _NUMBERS,
        "success": _SUCCESS,
        "data_score": {"type": ["number", "null"]},
        "best_policy_score": {"type": ["number", "null"]},
        "data_warnings": {"type": "array", "items": {"type": "string"}},
        "executed": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["scores", "success"],
                "properties": {"scores": _NUMBERS, "success": _SUCCESS},
            },
        },
    },
}
_AGAIN = "delete it and run evaluate again"


@dataclass(frozen=True)
class Score:
    """One evaluation: a variant's network of one seed on one task.

    Attributes:
        path: the file it was read from.
        task: a task's name.
        variant: a variant's name.
        seed: of the network's training and of the evaluation.
        data_source: `local`, `d4rl`, `minari` or `own`.
        checkpoint: which weights were evaluated, e.g. `last`.
        scores: D4RL's normalised score of each episode (0 random play, 100 D4RL's reference).
        success: 1 or 0 an episode; None where the task has no goal.
        data_score: mean normalised score of the data set's own episodes; None where that means nothing.
        best_policy_score: that of the best policy that collected them; None where it is not known.
        data_warnings: what is wrong with the data set.
        executed: way to execute plans (`actions`, `waypoints`) → `scores` and `success` of its episodes.
    """

    path: Path
    task: str
    variant: str
    seed: int
    data_source: str
    checkpoint: str
    scores: tuple[float, ...]
    success: tuple[int, ...] | None
    data_score: float | None
    best_policy_score: float | None
    data_warnings: tuple[str, ...]
    executed: Mapping[str, Mapping[str, list[float] | None]]


@dataclass(frozen=True)
class Row:
    """All evaluations on one task, which agree on everything but variant, seed and scores.

    Attributes:
        task: a task's name.
        variants: variant → its evaluations by ascending seed, the same seeds for every variant.
    """

    task: str
    variants: Mapping[str, tuple[Score, ...]]

    @property
    def first(self) -> Score:
        """One of the evaluations, for what they share."""
        return next(iter(self.variants.values()))[0]

    @property
    def data_source(self) -> str:
        """Where the data came from."""
        return self.first.data_source

    @property
    def seeds(self) -> int:
        """Seeds of each variant."""
        return len(next(iter(self.variants.values())))

    @property
    def episodes(self) -> int:
        """Episodes of each seed."""
        return len(self.first.scores)

    @property
    def data_score(self) -> float | None:
        """Mean normalised score of the data set itself."""
        return self.first.data_score

    @property
    def best_policy_score(self) -> float | None:
        """Mean normalised score of the best policy that collected the data."""
        return self.first.best_policy_score


def load_scores(paths: Sequence[Path]) -> list[Score]:
    """Read score files, in the order given.

    Raises:
        UserError: no files; a file lacks a key, or a value is no finite number; two of one task, variant and seed;
            the files of one task do not belong together (data source, checkpoint, episodes, data score, seeds).
    """
    if not paths:
        raise UserError("no score files: give at least one file that evaluate wrote")
    scores = [_load(path) for path in paths]
    group_rows(scores)
    return scores


def group_rows(scores: Sequence[Score]) -> list[Row]:
    """Gather the scores by task, in the order in which the tasks first appear.

    Raises:
        UserError: as `load_scores` for files that do not belong together.
    """
    tasks: dict[str, dict[str, dict[int, Score]]] = {}
    for score in scores:
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
    """Mean over seeds of each seed's mean over episodes, and the standard error of that mean.

    The error is taken over seeds, not over all episodes: the episodes of a seed share one trained network, so they are
    not independent, and pooling them would promise more certainty than there is about what another training scores.

    Args:
        seeds: the episodes' values of each seed.

    Returns:
        Mean, and standard error (sample deviation with n - 1, over sqrt n): NaN with one seed, which shows no spread.
    """
    means = [statistics.fmean(episodes) for episodes in seeds]
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return statistics.fmean(means), error


def describe(rows: Sequence[Row]) -> str:
    """Say in plain words what the rows' scores are: the caption's part that every table and figure shares."""
    sources = sorted({row.data_source for row in rows})
    checkpoints = " or ".join(sorted({row.first.checkpoint for row in rows}))
    seeds, episodes = _span([row.seeds for row in rows]), _span([row.episodes for row in rows])
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


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_SCHEMA)


def _load(path: Path) -> Score:
    record = read_json(path)
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        key = ".".join(str(part) for part in error.absolute_path)
        raise UserError(f"{path}: {key + ': ' if key else ''}{' '.join(error.message.split())}; {_AGAIN}")
    for key, values in (
        ("scores", record["scores"]),
        ("data_score", [record["data_score"] or 0, record["best_policy_score"] or 0]),
    ):
        if not all(math.isfinite(value) for value in values):
            raise UserError(f"{path}: {key}: not a finite number; {_AGAIN}")
    for key in ("scores", "success"):
        if record[key] is not None and len(record[key]) != record["episodes"]:
            raise UserError(f"{path}: {key}: {len(record[key])} values for {record['episodes']} episodes; {_AGAIN}")
    return Score(
        path=path,
        scores=tuple(float(value) for value in record["scores"]),
        success=None if record["success"] is None else tuple(record["success"]),
        data_score=None if record["data_score"] is None else float(record["data_score"]),
        best_policy_score=None if record["best_policy_score"] is None else float(record["best_policy_score"]),
        data_warnings=tuple(record["data_warnings"]),
        executed=record["executed"],
        **{key: record[key] for key in ("task", "variant", "seed", "data_source", "checkpoint")},
    )


def _check_row(task: str, variants: Mapping[str, Mapping[int, Score]]) -> None:
    all_scores = [score for seeds in variants.values() for score in seeds.values()]
    first = all_scores[0]
    for score in all_scores[1:]:
        for what, ours, theirs in (
            ("data_source", score.data_source, first.data_source),
            ("data_score", score.data_score, first.data_score),
            ("best_policy_score", score.best_policy_score, first.best_policy_score),
            ("checkpoint", score.checkpoint, first.checkpoint),
            ("episodes", len(score.scores), len(first.scores)),
        ):
            if ours != theirs:
                raise UserError(f"{score.path}: {what} {ours}, but {theirs} in {first.path}; evaluate both alike")
    expected = {score.seed for score in all_scores}
    for variant, seeds in variants.items():
        missing = sorted(expected - set(seeds))
        if missing:
            raise UserError(f"{task}: seed {missing[0]} is missing for {variant}; evaluate it, or leave that seed out")
