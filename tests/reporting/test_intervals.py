"""Interquartile means and their intervals against sums by hand and against rliable's."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmemm.reporting.intervals import interquartile_mean, interval, write_intervals

TASKS = [np.array([70.0, 72, 77]), np.array([60.0, 55, 53]), np.array([12.0, 14, 18])]


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    assert interquartile_mean(np.array([0.0, 1, 2, 100]), np.array([3.0, 4, -50, 5])) == (1 + 2 + 3 + 4) / 4


def test_the_interval_is_that_of_rliable() -> None:
    # rliable 1.2.0, aggregate_iqm with get_interval_estimates(reps=10000) on the same matrix: 49.0 to 53.6.
    assert interval(TASKS) == pytest.approx((49.0, 53.6), abs=0.3)


def test_seeds_are_drawn_within_their_task() -> None:
    # Seeds that agree leave nothing to chance, however far apart the tasks are.
    assert interval([np.array([5.0, 5]), np.array([90.0, 90])]) == pytest.approx((47.5, 47.5))


def test_locomotion_and_mazes_are_rows_of_their_own_and_one_seed_has_no_interval(
    write_score: Any, tmp_path: Path
) -> None:
    def lines(seeds: int) -> list[dict[str, str]]:
        scores = [
            write_score(task, variant, seed, [10.0 * seed, 20.0])
            for task in ("hopper-medium", "maze2d-umaze", "multi2d-umaze")
            for variant in ("diffuser", "dmemm")
            for seed in range(seeds)
        ]
        outputs = [tmp_path / f"i.{kind}" for kind in ("csv", "md", "html", "tex")]
        write_intervals(scores, outputs)
        return list(csv.DictReader(outputs[0].open()))

    rows = lines(3)
    assert [(row["tasks"], row["variant"], row["scores"]) for row in rows] == [
        ("Locomotion", "diffuser", "3"), ("Locomotion", "dmemm", "3"),
        ("Mazes", "diffuser", "6"), ("Mazes", "dmemm", "6"),
    ]  # fmt: skip
    assert rows[0]["mean"] == rows[0]["iqm"] == "15.000" and 10 <= float(rows[2]["low"]) < 15
    assert lines(1)[0] == {
        "tasks": "Locomotion", "variant": "diffuser", "scores": "1",
        "mean": "10.000", "iqm": "10.000", "low": "", "high": "",
    }  # fmt: skip
