"""The ranking of methods by our scores and by the published ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dmemm.errors import UserError
from dmemm.reporting.formats import Table, write
from dmemm.reporting.rows import NAMES, Row, describe, load_rows
from dmemm.reporting.tables import Published, read_published
from dmemm.tasks import get_task

_CAPTION = (
    "Ranks of the methods on each task (1: the highest score; ties share a rank), averaged over tasks: by our scores"
    " and by those that the paper prints for D4RL's data, among the methods that have both. Only the order of the"
    " published scores is used; they are not comparable to ours."
)


def write_ranking(scores: Sequence[Path], published: Path, outputs: Sequence[Path]) -> None:
    """Write each method's rank on each task, by our scores and by the published ones, among methods that have both.

    Args:
        scores: score files, like those of Tables 1 and 2.
        published: the paper's scores; see `read_published`.
        outputs: one file per format, chosen by suffix; see `formats.write`.

    Raises:
        UserError: no task has two methods with published scores, or a file cannot be read or written.
    """
    rows, references = load_rows(scores), read_published(published)
    lines = [line for row in rows for line in _lines(row, references)]
    if not lines:
        raise UserError(f"{published}: no published scores of two methods on a task of these; nothing to rank")
    blocks = {}
    for number, title in ((1, "Locomotion"), (2, "Mazes")):
        if own := [line for line in lines if line["table"] == number]:
            blocks[f"{title}: Kendall's τ of both orders, mean over tasks: {agreement(own)}"] = _averages(own)
    write(outputs, Table("Ranking", f"{_CAPTION} {describe(rows)}", lines, blocks))


def agreement(lines: Sequence[dict[str, Any]]) -> str:
    """Return Kendall's τ between the two rankings (1: the same order, -1: the reverse), averaged over tasks."""
    values = []
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        values.append(stats.kendalltau(*([line[key] for line in own] for key in ("rank", "published_rank"))).statistic)
    known = [value for value in values if not np.isnan(value)]  # NaN if all scores of a task are equal
    return f"{np.mean(known):.2f}" if known else "–"


def _lines(row: Row, references: Published) -> list[dict[str, Any]]:
    number = 2 if get_task(row.task).has_goal else 1
    keys = {variant: (number, row.task, NAMES.get(variant, "")) for variant in row.variants}
    both = [variant for variant in row.variants if keys[variant] in references]
    if len(both) < 2:
        return []
    here = [float(np.mean([np.mean(score.scores) for score in row.variants[variant]])) for variant in both]
    there = [references[keys[variant]][0] for variant in both]
    ranks = zip(both, here, _ranks(here), there, _ranks(there), strict=True)
    names = ("method", "score", "rank", "published", "published_rank")
    return [{"table": number, "task": row.task, **dict(zip(names, values, strict=True))} for values in ranks]


def _ranks(scores: Sequence[float]) -> list[float]:
    return [float(rank) for rank in stats.rankdata(-np.array(scores))]


def _averages(lines: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    texts = []
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        here, there = (np.mean([line[key] for line in own]) for key in ("rank", "published_rank"))
        texts.append(
            {"Method": NAMES[method], "Tasks": str(len(own)), "Rank": f"{here:.1f}", "Published rank": f"{there:.1f}"}
        )
    return sorted(texts, key=lambda text: float(text["Rank"]))
