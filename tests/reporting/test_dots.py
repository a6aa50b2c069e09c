"""The picture of a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmemm.reporting.dots import draw_scores
from dmemm.reporting.rows import load_rows
from dmemm.reporting.tables import write_table

PUBLISHED = Path(__file__).parents[2] / "workflow" / "resources" / "published.csv"
HOPPER, WALKER = "hopper-medium-replay", "walker2d-medium-expert"


def evaluate(write_score: Any, seeds: int, **changes: Any) -> list[Path]:
    return [
        write_score(task, variant, seed, [10.0 * column + seed, 10.0 * column + 3 * seed], **changes)
        for task in (HOPPER, WALKER)
        for column, variant in enumerate(("diffuser", "dmemm"))
        for seed in range(seeds)
    ]


def test_each_seed_is_a_dot_and_their_mean_has_its_standard_error(write_score: Any) -> None:
    rows = load_rows(evaluate(write_score, 3, best_policy_score=50.0))
    axes = draw_scores(rows, ("diffuser", "dmemm"), "caption").axes[0]
    drawn = [(line.get_xdata().tolist(), set(line.get_ydata())) for line in axes.lines]
    assert [x for x, y in drawn if len(x) == 3] == [[0, 2, 4], [10, 12, 14]] * 2  # means of the episodes of a seed
    assert len({y for x, ys in drawn if len(x) == 3 for y in ys}) == 4  # no variant covers another
    assert [x for x, _ in drawn if len(x) == 1] == [[31.25], [50.0], [2], [12]] * 2
    widths = [np.ptp(bar.get_segments()[0][:, 0]) for bar in axes.collections]
    assert widths == pytest.approx([2 * 2 / 3**0.5] * 4)  # the seeds' standard deviation is 2
    assert [label.get_text() for label in axes.get_yticklabels()] == [HOPPER, WALKER] and axes.yaxis_inverted()


def test_every_table_has_a_picture_and_one_seed_no_error(write_score: Any, tmp_path: Path) -> None:
    written = []
    for folder in "ab":
        outputs = [tmp_path / folder / f"table1.{kind}" for kind in ("png", "pdf")]
        write_table(1, evaluate(write_score, 1), PUBLISHED, outputs)
        written.append([path.read_bytes() for path in outputs])
    assert written[0] == written[1] and len(written[0][0]) > 10_000
