"""What the scores say over tasks and seeds together: interquartile means with bootstrapped intervals.

As Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021), and their `rliable`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dmemm.reporting.formats import Table, write
from dmemm.reporting.scores import NAMES, Row, describe, group_rows, load_scores
from dmemm.tasks import get_task

_RESAMPLES = 10_000
_CAPTION = (
    "IQM: mean of the middle half of the seeds' scores, of all tasks together. The interval holds 95 % of the IQMs of"
    f" {_RESAMPLES} bootstrap samples, which draw seeds anew within each task; few seeds, below five or so, make it too"
    " narrow."
)


def write_intervals(scores: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write mean, interquartile mean and its 95 % interval of every variant: over locomotion, and over mazes.

    Args:
        scores: score files, as those of Tables 1 and 2.
        outputs: one file a format, by suffix, see `formats.write`.

    Raises:
        UserError: the score files do not belong together, or a file cannot be read or written.
    """
    rows = group_rows(load_scores(scores))
    groups: dict[str, list[Row]] = {"Locomotion": [], "Mazes": []}
    for row in rows:
        groups["Mazes" if get_task(row.task).has_goal else "Locomotion"].append(row)
    lines = [
        {"tasks": name, "variant": variant, **_line(members, variant)}
        for name, members in groups.items()
        if members
        for variant in members[0].variants
    ]
    write(
        outputs,
        Table(
            "Intervals",
            f"{_CAPTION} Scores as in Tables 1 and 2. {describe(rows)}",
            lines,
            {"": [_texts(line) for line in lines]},
        ),
    )


def interquartile_mean(*tasks: NDArray[np.float64], axis: int = -1) -> Any:
    """Mean without the lowest and the highest quarter of all tasks' values together, along `axis`."""
    return stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)


def interval(tasks: Sequence[NDArray[np.float64]]) -> tuple[float | None, float | None]:
    """The 95 % interval of the interquartile mean by the stratified percentile bootstrap; None if a task has one seed.

    Args:
        tasks: a score a seed, (seeds,), of each task.
    """
    if min(map(len, tasks)) < 2:
        return None, None
    result = stats.bootstrap(
        tuple(tasks), interquartile_mean, n_resamples=_RESAMPLES, method="percentile", vectorized=True, rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _line(rows: Sequence[Row], variant: str) -> dict[str, Any]:
    tasks = [np.array([np.mean(score.scores) for score in row.variants[variant]]) for row in rows]
    low, high = interval(tasks)
    return {
        "scores": sum(map(len, tasks)),
        "mean": float(np.concatenate(tasks).mean()),
        "iqm": float(interquartile_mean(*tasks)),
        "low": low,
        "high": high,
    }


def _texts(line: dict[str, Any]) -> dict[str, str]:
    return {
        "Tasks": line["tasks"],
        "Method": NAMES.get(line["variant"], line["variant"]),
        "Tasks × seeds": str(line["scores"]),
        "Mean": f"{line['mean']:.1f}",
        "IQM": f"{line['iqm']:.1f}",
        "95 % interval": "–" if line["low"] is None else f"{line['low']:.1f} to {line['high']:.1f}",
    }
