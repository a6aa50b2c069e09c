"""Interquartile means, paired comparisons and their intervals against sums by hand, slow ones and rliable's."""

import csv
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmemm.errors import UserError
from dmemm.reporting.intervals import improvement, interquartile_mean, interval, write_intervals

TASKS = [np.array([70.0, 72, 77]), np.array([60.0, 55, 53]), np.array([12.0, 14, 18])]


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    assert interquartile_mean(np.array([0.0, 1, 2, 100]), np.array([3.0, 4, -50, 5])) == (1 + 2 + 3 + 4) / 4


def test_the_interval_is_that_of_rliable() -> None:
    # rliable 1.2.0, aggregate_iqm with get_interval_estimates(reps=10000) on the same matrix: 49.0 to 53.6.
    assert interval(TASKS) == pytest.approx((49.0, 53.6), abs=0.3)


def test_seeds_are_drawn_within_their_task() -> None:
    # Seeds that agree leave nothing to chance, however far apart the tasks are.
    assert interval([np.array([5.0, 5]), np.array([90.0, 90])]) == pytest.approx((47.5, 47.5))


def write(write_score: Any, folder: Path, scores: dict[tuple[str, str], list[list[float]]]) -> list[dict[str, str]]:
    """Lines of the CSV for the episodes of each seed of each task and variant."""
    files = [
        write_score(task, variant, seed, episodes)
        for (task, variant), seeds in scores.items()
        for seed, episodes in enumerate(seeds)
    ]
    outputs = [folder / f"i.{kind}" for kind in ("csv", "md", "html", "tex")]
    write_intervals(files, outputs)
    return list(csv.DictReader(outputs[0].open()))


def test_locomotion_and_mazes_and_each_task_are_rows_of_their_own_and_one_seed_has_no_interval(
    write_score: Any, tmp_path: Path
) -> None:
    def lines(seeds: int) -> list[dict[str, str]]:
        keys = product(("hopper-medium", "maze2d-umaze", "multi2d-umaze"), ("diffuser", "dmemm"))
        return write(write_score, tmp_path, {key: [[10.0 * seed, 20.0] for seed in range(seeds)] for key in keys})

    rows = lines(3)
    assert [(row["tasks"], row["variant"], row["scores"]) for row in rows] == [
        ("Locomotion", "diffuser", "3"), ("Locomotion", "dmemm", "3"),
        ("Mazes", "diffuser", "6"), ("Mazes", "dmemm", "6"),
        ("hopper-medium", "diffuser", "3"), ("hopper-medium", "dmemm", "3"),
        ("maze2d-umaze", "diffuser", "3"), ("maze2d-umaze", "dmemm", "3"),
        ("multi2d-umaze", "diffuser", "3"), ("multi2d-umaze", "dmemm", "3"),
    ]  # fmt: skip
    assert rows[0]["mean"] == rows[0]["iqm"] == "15.000" and 10 <= float(rows[2]["low"]) < 15
    assert lines(1)[0] == {
        "tasks": "Locomotion", "variant": "diffuser", "scores": "1",
        "mean": "10.000", "iqm": "10.000", "low": "", "high": "",
        "difference": "0.000", "difference_low": "", "difference_high": "",
        "improvement": "0.500", "improvement_low": "", "improvement_high": "",
    }  # fmt: skip
    assert "0.0 (–)" in (tmp_path / "i.md").read_text()


DMEMM = {"hopper-medium": [[5.0, 7], [9, 9]], "walker2d-medium": [[1.0, 1], [2, 2], [8, 4]]}
DIFFUSER = {"hopper-medium": [[6.0, 6], [4, 4]], "walker2d-medium": [[2.0, 2], [2, 0], [1, 0]]}


def means(seeds: list[list[float]]) -> list[float]:
    return [sum(episodes) / len(episodes) for episodes in seeds]


def by_hand(x: list[list[float]], y: list[list[float]]) -> tuple[float, float]:
    """Mean difference of the seeds, and how often one of x is above one of y, ties counted half."""
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in x for b in y]
    return sum(a - b for a, b in zip(x, y, strict=True)) / len(x), sum(wins) / len(wins)


def test_dmemm_minus_a_method_and_the_probability_of_improvement_are_those_by_hand(
    write_score: Any, tmp_path: Path
) -> None:
    scores = {(task, "diffuser"): seeds for task, seeds in DIFFUSER.items()}
    scores |= {(task, "dmemm"): seeds for task, seeds in DMEMM.items()}
    rows = {row["tasks"]: row for row in write(write_score, tmp_path, scores) if row["variant"] == "diffuser"}
    tasks = {task: by_hand(means(DMEMM[task]), means(DIFFUSER[task])) for task in DMEMM}
    tasks["Locomotion"] = tuple(np.mean(list(tasks.values()), axis=0))  # tasks alike, however many seeds
    for task, (difference, probability) in tasks.items():
        assert float(rows[task]["difference"]) == pytest.approx(difference, abs=6e-4)
        assert float(rows[task]["improvement"]) == pytest.approx(probability, abs=6e-4)
        assert float(rows[task]["difference_low"]) <= difference <= float(rows[task]["difference_high"])
    # Two seeds: the bootstrap draws (0, 5), (0, 0) or (5, 5) as differences: a quarter of the samples each end.
    assert (rows["hopper-medium"]["difference_low"], rows["hopper-medium"]["difference_high"]) == ("0.000", "5.000")


def test_the_improvements_interval_is_that_of_every_possible_draw() -> None:
    x, y = np.array([3.0, 1, 2]), np.array([2.0, 0, 2.5])
    draws = list(product(range(3), repeat=3))
    every = [by_hand(x[list(i)].tolist(), y[list(j)].tolist())[1] for i in draws for j in draws]
    assert improvement(x, y) == pytest.approx(by_hand(x.tolist(), y.tolist())[1])
    assert interval([x, y], improvement) == pytest.approx(np.percentile(every, [2.5, 97.5]), abs=0.05)


def test_improvement_and_interval_are_those_of_rliable() -> None:
    # rliable 1.2.0, probability_of_improvement with reps=10000: 0.6296, 0.352 to 0.889, in steps of 0.0185.
    others = [np.array([68.0, 72, 70]), np.array([61.0, 50, 52]), np.array([10.0, 15, 19])]
    pairs = [seeds for pair in zip(TASKS, others, strict=True) for seeds in pair]
    assert improvement(*pairs) == pytest.approx(0.6296, abs=1e-4)
    assert interval(pairs, improvement) == pytest.approx((0.352, 0.889), abs=0.03)


def test_ties_are_half_an_improvement() -> None:
    assert improvement(np.array([1.0, 1]), np.array([1.0, 1])) == 0.5
    assert improvement(np.array([2.0, 1]), np.array([1.0, 1]), np.array([0.0]), np.array([1.0])) == 0.75 / 2


def test_variants_of_other_episode_counts_or_other_tasks_are_not_compared(write_score: Any, tmp_path: Path) -> None:
    scores = {("hopper-medium", "diffuser"): [[1.0]], ("hopper-medium", "dmemm"): [[1.0, 2.0]]}
    with pytest.raises(UserError, match=r"^\S+seed0.json: episodes 2, but 1 in \S+seed0.json; evaluate both alike$"):
        write(write_score, tmp_path, scores)
    scores = {("hopper-medium", "diffuser"): [[1.0]], ("walker2d-medium", "dmemm"): [[1.0]]}
    with pytest.raises(UserError, match="^walker2d-medium: no scores of diffuser, which other tasks have; evaluate it"):
        write(write_score, tmp_path, scores)
