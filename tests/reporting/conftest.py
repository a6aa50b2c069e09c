"""Made-up score files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmemm.tasks import get_task, task_names

WriteScore = Callable[..., Path]


@pytest.fixture
def write_score(tmp_path: Path) -> WriteScore:
    """Write a score file as `evaluate` does; `changes` replace keys, `drop` names one to leave out."""

    def write(task: str, variant: str, seed: int, scores: list[float], drop: str = "", **changes: Any) -> Path:
        maze = get_task(task).is_maze if task in task_names() else False
        record = {
            "task": task,
            "variant": variant,
            "seed": seed,
            "data_source": "local",
            "protocol": get_task(task).protocol if task in task_names() else "locomotion",
            "execute": "actions",
            "checkpoint": "last",
            "episodes": len(scores),
            "returns": [1200.0] * len(scores),
            "scores": scores,
            "success": [int(score > 0) for score in scores] if maze else None,
            "lengths": [1000] * len(scores),
            "planning_seconds": 12.5,
            "plans": 250,
            "data_score": 31.25,
            "best_policy_score": None,
            "data_warnings": [],
            "executed": {},
        } | changes
        record.pop(drop, None)
        path = tmp_path / "eval" / variant / task / f"seed{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return path

    return write
