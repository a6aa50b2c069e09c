"""The guide's settings: their order, and how sure the best one is, against every draw of a bootstrap by hand."""

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmemm.errors import UserError
from dmemm.reporting.guide import certainty, write_guide

SETTINGS = [
    {"objective": "value", "candidates": 16, "alpha": 0.0001},
    {"objective": "return", "candidates": 16, "alpha": 0.001},
    {"objective": None, "candidates": 1, "alpha": 0.0},
]


def write_record(path: Path, scores: list[list[float] | None], seed: int, **changes: Any) -> Path:
    settings = [
        {"setting": setting, "scores": own, "plans": 100, "planning_seconds": 0.1 * (seed + 1)}
        for setting, own in zip(SETTINGS, scores, strict=True)
    ]
    record = {"task": "hopper-medium", "variant": "dmemm", "seed": seed, "data_source": "local", "episodes": 2}
    path.write_text(json.dumps(record | {"settings": settings} | changes))
    return path


def outputs(folder: Path) -> list[Path]:
    return [folder / f"guide.{kind}" for kind in ("csv", "md", "html", "tex", "png")]


def every_draw(scores: np.ndarray) -> list[float]:
    """P(first better) + P(equal) / 2 over all draws of seeds and, for each drawn seed, of episodes."""
    _, seeds, episodes = scores.shape
    wins = np.zeros(len(scores) - 1)
    count = 0
    for drawn in product(range(seeds), repeat=seeds):
        for chosen in product(product(range(episodes), repeat=episodes), repeat=seeds):
            values = [[s[seed, list(picked)] for seed, picked in zip(drawn, chosen, strict=True)] for s in scores]
            means = [float(np.sum(value)) for value in values]
            wins += [1.0 if means[0] > other else 0.5 if means[0] == other else 0.0 for other in means[1:]]
            count += 1
    return (wins / count).tolist()


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_certainty_is_that_of_every_draw(seeds: int) -> None:
    scores = np.array([[[5.0, 9], [4, 7]], [[6, 3], [4, 8]], [[5, 9], [4, 7]], [[9, 0], [9, 0]]])[:, :seeds]
    assert certainty(scores) == pytest.approx(every_draw(scores), abs=0.015)
    assert certainty(scores)[1] == 0.5  # alike


def test_settings_are_sorted_and_the_best_is_told(tmp_path: Path) -> None:
    files = [
        write_record(tmp_path / "0.json", [[10.0, 20], [30, 20], None], 0),
        write_record(tmp_path / "1.json", [[20.0, 20], [40, 30], [99, 99]], 1),
    ]
    write_guide(files, outputs(tmp_path))
    rows = list(csv.DictReader(outputs(tmp_path)[0].open()))
    assert [(row["objective"], row["own"], row["mean"], row["episodes"]) for row in rows] == [
        ("return", "0", "30.000", "4"), ("value", "1", "17.500", "4"), ("", "0", "", "0"),
    ]  # fmt: skip
    assert (
        rows[1]["alpha"] == "0.0001"
        and rows[0]["standard_error"] == "5.000"
        and rows[0]["ms_a_plan"] == "1.500"
        and rows[0]["seeds"] == "2"
    )
    assert rows[0]["best_is_better"] == rows[2]["best_is_better"] == "" and float(rows[1]["best_is_better"]) > 0.9
    text = (tmp_path / "guide.md").read_text()
    assert "hopper-medium, dmemm. Best: objective return, candidates 16, alpha 0.001. Better than params.yaml's" in text
    assert "8 episodes used" in text and "failed" in text and "Data source: local." in text
    assert (tmp_path / "guide.png").read_bytes().startswith(b"\x89PNG")


def test_of_equal_settings_that_of_params_yaml_is_the_best_and_one_seed_has_no_error(tmp_path: Path) -> None:
    write_guide([write_record(tmp_path / "0.json", [[10.0, 20], [20, 10], [15, 15]], 0)], outputs(tmp_path))
    rows = list(csv.DictReader(outputs(tmp_path)[0].open()))
    assert rows[0]["own"] == "1" and rows[0]["standard_error"] == ""
    assert (
        "Best: objective value, candidates 16, alpha 0.0001, as in params.yaml. Better than the runner-up"
        in (tmp_path / "guide.md").read_text()
    )


def test_where_no_knob_plays_a_part_there_is_one_setting(tmp_path: Path) -> None:
    one = {"setting": {"alpha": None}, "scores": [1.0, 2.0], "plans": 1, "planning_seconds": 0.1}
    write_guide([write_record(tmp_path / "0.json", [None] * 3, 0, settings=[one])], outputs(tmp_path))
    assert "Best: any, none has an effect, as in params.yaml. 2 episodes used." in (tmp_path / "guide.md").read_text()


def test_tasks_and_variants_are_ranked_by_themselves(tmp_path: Path) -> None:
    scores: list[list[float] | None] = [[1.0, 2], [3, 4], [5, 6]]
    keys = list(product(("hopper-medium", "walker2d-medium"), ("diffuser", "dmemm")))[:3]
    write_guide(
        [
            write_record(tmp_path / f"{task}{variant}.json", scores, 0, task=task, variant=variant)
            for task, variant in keys
        ],
        outputs(tmp_path),
    )
    rows = list(csv.DictReader(outputs(tmp_path)[0].open()))
    assert [(row["task"], row["variant"]) for row in rows[::3]] == keys and rows[0]["mean"] == "5.500"


@pytest.mark.parametrize(("key", "value"), [("episodes", 3), ("settings", [])])
def test_files_that_tried_something_else_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    scores: list[list[float] | None] = [[1.0, 2], [3, 4], [5, 6]]
    files = [write_record(tmp_path / "0.json", scores, 0), write_record(tmp_path / "1.json", scores, 1, **{key: value})]
    with pytest.raises(UserError, match=rf"1\.json: other {key} than in \S+0\.json; calibrate both alike"):
        write_guide(files, outputs(tmp_path))
    assert not any(path.exists() for path in outputs(tmp_path))
