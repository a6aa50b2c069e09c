"""Score files: what an evaluation writes is what reports read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dmemm.evaluation.scores import read_statistics, write_scores
from dmemm.files import write_json
from dmemm.planning.rollout import Episodes
from dmemm.score_file import Score
from dmemm.tasks import get_task

STATISTICS = {"data_source": "local", "warnings": ["few"], "score_mean": 20.5, "best_policy_score": 40.0}


@pytest.fixture
def statistics(tmp_path):
    write_json(tmp_path / "statistics.json", STATISTICS)
    return tmp_path / "statistics.json"


def episodes(returns, success):
    return Episodes(
        np.array(returns), np.full(len(returns), 7), None if success is None else np.array(success), [], 1.23456, 20
    )


@pytest.mark.parametrize(("name", "data_score"), [("maze2d-umaze", 20.5), ("multi2d-umaze", None)])
def test_what_is_written_is_read(name, data_score, statistics, tmp_path):
    task, output = get_task(name), tmp_path / "seed3.json"
    executed = {"waypoints": episodes([60.0, 0.0], [True, False]), "actions": episodes([0.0, 0.0], [False, False])}
    write_scores(task, "dmemm", 3, executed, "waypoints", read_statistics(statistics), output)
    score = Score.read(output)
    expected = [task.score(60.0), task.score(0.0)]
    assert (score.task, score.variant, score.seed, score.protocol) == (name, "dmemm", 3, task.protocol)
    assert (score.returns, score.lengths, score.scores, score.success) == ([60.0, 0.0], [7, 7], expected, [1, 0])
    assert score.executed["waypoints"] == {"scores": expected, "success": [1, 0]}
    assert score.executed["actions"] == {"scores": [task.score(0.0)] * 2, "success": [0, 0]}
    assert (score.data_score, score.data_warnings, score.planning_seconds, score.plans) == (
        data_score,
        ["few"],
        1.235,
        20,
    )
    before = output.read_bytes()
    replace(score, path=tmp_path / "again.json").write()
    assert (tmp_path / "again.json").read_bytes() == before


def test_the_keys_of_the_file(statistics, tmp_path):
    write_scores(
        get_task("hopper-medium"),
        "bc",
        0,
        {"actions": episodes([9.0], None)},
        "actions",
        read_statistics(statistics),
        tmp_path / "s.json",
    )
    record = json.loads((tmp_path / "s.json").read_text())
    assert " ".join(record) == (
        "task variant seed data_source protocol execute checkpoint episodes returns scores success executed lengths "
        "planning_seconds plans data_warnings data_score best_policy_score"
    )
    assert record["success"] is None and record["checkpoint"] == "last" and record["episodes"] == 1
