"""Aggregate scores over tasks and seeds: interquartile means, DMEMM against each method, 95 % intervals.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021), and their
`rliable`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dmemm.errors import UserError
from dmemm.reporting.formats import Table, write
from dmemm.reporting.rows import NAMES, Row, describe, load_rows
from dmemm.tasks import get_task

_RESAMPLES = 10_000
_COMPARED = tuple(f"{key}{end}" for key in ("difference", "improvement") for end in ("", "_low", "_high"))
_CAPTION = (
    "IQM: interquartile mean, the mean of the middle half of all tasks' and seeds' scores. The 95 % interval contains"
    f" the IQMs of 95 % of {_RESAMPLES} bootstrap samples, which draw seeds within each task. With few seeds it is"
    " too narrow: for five, a mean's contains the true one in 84 % of cases (one task) or 93 % (nine). With one there"
    " is none."
)
_PAIRS = (
    "DMEMM against each method. Difference: DMEMM's score minus the method's, seed by seed (both start from the same"
    " states). Improvement: the probability that a network of DMEMM scores higher than one of the method, over all"
    " pairs of seeds; equal scores count half. Both are averaged over tasks."
)


def write_intervals(scores: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write each variant's mean and interquartile mean, and DMEMM's advantage over it, with 95 % intervals.

    There are lines for all of locomotion, for all mazes, and for each task.

    Args:
        scores: score files, like those of Tables 1 and 2.
        outputs: one file per format, chosen by suffix; see `formats.write`.

    Raises:
        UserError: the score files do not belong together, or a file cannot be read or written.
    """
    rows = load_rows(scores)
    suites: dict[str, list[Row]] = {"Locomotion": [], "Mazes": []}
    for row in rows:
        suites["Mazes" if get_task(row.task).has_goal else "Locomotion"].append(row)
    groups = suites | {row.task: [row] for row in rows}
    lines = [
        {"tasks": name, "variant": variant, **_line(members, variant)}
        for name, members in groups.items()
        for variant in dict.fromkeys(variant for row in members for variant in row.variants)
    ]
    blocks = {"": [_texts(line) for line in lines if line["tasks"] in suites]}
    if pairs := [_pair_texts(line) for line in lines if line["difference"] is not None]:
        blocks[_PAIRS] = pairs
    write(outputs, Table("Intervals", f"{_CAPTION} Scores as in Tables 1 and 2. {describe(rows)}", lines, blocks))


def interquartile_mean(*tasks: NDArray[np.float64], axis: int = -1) -> Any:
    """Compute the mean of all tasks' values without the lowest and the highest quarter, along `axis`."""
    return stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)


def improvement(*samples: NDArray[np.float64], axis: int = -1) -> Any:
    """Compute the probability of improvement, P(X > Y) + P(X = Y) / 2, averaged over tasks (Agarwal et al., 2021).

    Args:
        samples: X and Y of the first task, X and Y of the second, and so on.
        axis: axis of the seeds; must be the last.
    """
    assert axis == -1
    tasks = ((x[..., :, None], y[..., None, :]) for x, y in zip(samples[::2], samples[1::2], strict=True))
    return np.mean([((x > y) + (x == y) / 2).mean(axis=(-2, -1)) for x, y in tasks], axis=0)


def interval(
    samples: Sequence[NDArray[np.float64]], statistic: Callable[..., Any] = interquartile_mean
) -> tuple[float | None, float | None]:
    """Compute the 95 % interval of `statistic` by the stratified percentile bootstrap.

    Args:
        samples: for each task, or task and variant, one value per seed, shape (seeds,). They are resampled
            independently.
        statistic: function of the samples, along `axis`.

    Returns:
        The interval's ends; None and None if a sample has one seed.
    """
    if min(map(len, samples)) < 2:
        return None, None
    result = stats.bootstrap(
        tuple(samples), statistic, n_resamples=_RESAMPLES, method="percentile", vectorized=True, rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def mean_over_tasks(*tasks: NDArray[np.float64], axis: int = -1) -> Any:
    """Compute the mean of each task along `axis`, then their mean."""
    return np.mean([task.mean(axis=axis) for task in tasks], axis=0)


def _line(rows: Sequence[Row], variant: str) -> dict[str, Any]:
    tasks = [_seed_means(row, variant) for row in rows]
    values: list[Any] = [None] * 6
    if variant != "dmemm" and all("dmemm" in row.variants for row in rows):
        ours = [_seed_means(row, "dmemm") for row in rows]
        differences = [x - y for x, y in zip(ours, tasks, strict=True)]
        pairs = [seeds for pair in zip(ours, tasks, strict=True) for seeds in pair]
        values = [float(mean_over_tasks(*differences)), *interval(differences, mean_over_tasks)]
        values += [float(improvement(*pairs)), *interval(pairs, improvement)]
    low, high = interval(tasks)
    return {
        "scores": sum(map(len, tasks)),
        "mean": float(np.concatenate(tasks).mean()),
        "iqm": float(interquartile_mean(*tasks)),
        "low": low,
        "high": high,
        **dict(zip(_COMPARED, values, strict=True)),
    }


def _seed_means(row: Row, variant: str) -> NDArray[np.float64]:
    if variant not in row.variants:
        raise UserError(f"{row.task}: no scores of {variant}, which other tasks have; evaluate it")
    return np.array([np.mean(score.scores) for score in row.variants[variant]])


def _texts(line: dict[str, Any]) -> dict[str, str]:
    return {
        "Tasks": line["tasks"],
        "Method": NAMES.get(line["variant"], line["variant"]),
        "Tasks × seeds": str(line["scores"]),
        "Mean": f"{line['mean']:z.1f}",
        "IQM": f"{line['iqm']:z.1f}",
        "95 % interval": _span(line["low"], line["high"], 1),
    }


def _pair_texts(line: dict[str, Any]) -> dict[str, str]:
    texts = {"Tasks": line["tasks"], "DMEMM minus": NAMES.get(line["variant"], line["variant"])}
    for key, decimals in (("difference", 1), ("improvement", 2)):
        span = _span(line[f"{key}_low"], line[f"{key}_high"], decimals)
        texts[f"{key.capitalize()} (95 % interval)"] = f"{line[key]:.{decimals}f} ({span})"
    return texts


def _span(low: float | None, high: float | None, decimals: int) -> str:
    return "–" if low is None else f"{low:.{decimals}f} to {high:.{decimals}f}"
