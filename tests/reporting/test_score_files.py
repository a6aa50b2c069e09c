"""Reading score files, and what makes a set of them a row."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dmemm.errors import UserError
from dmemm.reporting.rows import describe, load_rows, mean_and_standard_error

TASK = "hopper-medium-replay"


def test_error_is_over_seeds_not_episodes() -> None:
    # Means of the seeds: 2, 4, 9. Mean 5, squared deviations 9 + 1 + 16 = 26, variance 13, error sqrt(13 / 3).
    mean, error = mean_and_standard_error([[1, 3], [4, 4], [0, 18]])
    assert mean == 5
    assert error == pytest.approx(math.sqrt(13 / 3))


def test_one_seed_has_no_error() -> None:
    mean, error = mean_and_standard_error([[1, 3]])
    assert mean == 2
    assert math.isnan(error)


def test_rows_keep_the_order_of_the_files_and_sort_seeds(write_score: Any) -> None:
    paths = [write_score(task, "dmemm", seed, [1.0, 2.0]) for task in ("walker2d-medium", TASK) for seed in (1, 0)]
    rows = load_rows(paths)
    assert [row.task for row in rows] == ["walker2d-medium", TASK]
    assert [score.seed for score in rows[0].variants["dmemm"]] == [0, 1]
    first = rows[0].first
    assert (rows[0].seeds, first.episodes, first.data_source, first.data_score) == (2, 2, "local", 31.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "data_source"}, "'data_source' is a required property"),
        ({"data_source": "d4lr"}, "data_source: 'd4lr' is not one of"),
        ({"scores": []}, "scores: .* non-empty"),
        ({"scores": [1.0, math.nan]}, r"scores\.1: nan is not of type 'number'"),
        ({"scores": [1.0, "2"]}, r"scores\.1: '2' is not of type 'number'"),
        ({"data_score": math.inf}, "data_score: inf is not of type"),
        ({"scores": [1.0]}, "scores: 1 values for 2 episodes"),
        ({"success": [1]}, "success: 1 values for 2 episodes"),
        ({"success": [1, 0.5]}, "success"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(write_score: Any, changes: dict[str, Any], message: str) -> None:
    arguments = {"scores": [1.0, 2.0], "episodes": 2} | changes
    path = write_score(arguments.pop("task", TASK), "dmemm", 0, **arguments)
    with pytest.raises(UserError, match=message) as caught:
        load_rows([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_files_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no score files"):
        load_rows([])
    with pytest.raises(UserError, match="absent.json: cannot read"):
        load_rows([tmp_path / "absent.json"])
    (tmp_path / "list.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"list.json: \[1\] is not of type 'object'"):
        load_rows([tmp_path / "list.json"])


def test_the_same_evaluation_twice_is_refused(write_score: Any) -> None:
    path = write_score(TASK, "dmemm", 0, [1.0])
    with pytest.raises(UserError, match="same task, variant and seed"):
        load_rows([path, path])


def test_a_seed_missing_for_one_variant_is_refused(write_score: Any) -> None:
    paths = [write_score(TASK, *run, [1.0]) for run in (("dmemm", 0), ("dmemm", 1), ("diffuser", 0))]
    with pytest.raises(UserError, match=f"{TASK}: seed 1 is missing for diffuser"):
        load_rows(paths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_source": "d4rl"}, "data_source d4rl, but local in"),
        ({"data_score": 12.0}, "data_score 12.0, but 31.25 in"),
        ({"checkpoint": "best"}, "checkpoint best, but last in"),
        ({"scores": [1.0], "episodes": 1}, "episodes 1, but 2 in"),
    ],
)
def test_files_of_one_task_must_belong_together(write_score: Any, changes: dict[str, Any], message: str) -> None:
    paths = [
        write_score(TASK, "diffuser", 0, [1.0, 2.0]),
        write_score(TASK, "dmemm", 0, **{"scores": [1.0, 2.0], **changes}),
    ]
    with pytest.raises(UserError, match=message):
        load_rows(paths)


def test_caption_says_what_the_score_is(write_score: Any) -> None:
    local = describe(load_rows([write_score(TASK, "dmemm", seed, [1.0] * 10) for seed in (0, 1)]))
    assert local.startswith(
        "Data source: local. 2 seeds × 10 episodes, last checkpoint; mean ± standard error over seeds"
    )
    assert "not D4RL's" in local and "not comparable to published" in local
    d4rl = describe(load_rows([write_score(TASK, "dmemm", 0, [1.0], data_source="d4rl")]))
    assert "Data source: d4rl. 1 seed × 1 episodes" in d4rl and "not comparable" not in d4rl
    assert "A single seed has no standard error." in d4rl
