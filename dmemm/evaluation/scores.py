"""Score files: what happened in the episodes of one evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dmemm.files import read_json, write_json
from dmemm.planning.rollout import Episodes
from dmemm.tasks import Task

Way = Literal["actions", "waypoints"]


def write_scores(
    task: Task,
    variant: str,
    seed: int,
    executed: Mapping[Way, Episodes],
    execute: Way,
    statistics_path: Path,
    output: Path,
) -> None:
    """Write the score file: the way that counts, and beside it every way in which plans were executed.

    Args:
        task: what was acted in.
        variant: the variant or method that acted.
        seed: of its training and of the episodes.
        executed: way to execute plans → the episodes.
        execute: the way that counts.
        statistics_path: the data set's statistics.
        output: JSON.
    """
    statistics, episodes = read_json(statistics_path), executed[execute]
    outcomes = {way: _outcome(task, run) for way, run in executed.items()}
    write_json(
        output,
        {
            "task": task.name,
            "variant": variant,
            "seed": seed,
            "data_source": statistics["data_source"],
            "protocol": task.protocol,
            "execute": execute,
            "checkpoint": "last",
            "episodes": len(episodes.returns),
            "returns": episodes.returns.tolist(),
            **outcomes[execute],
            "executed": outcomes,
            "lengths": episodes.lengths.tolist(),
            "planning_seconds": round(episodes.planning_seconds, 3),
            "plans": episodes.plans,
            # The data's rewards are for maze2d's goal; they say nothing of a random one.
            "data_warnings": statistics["warnings"],
            "data_score": None if task.protocol == "multi2d" else statistics["score_mean"],
            "best_policy_score": None if task.protocol == "multi2d" else statistics["best_policy_score"],
        },
    )
    score, milliseconds = np.mean(outcomes[execute]["scores"]), 1000 * episodes.planning_seconds / episodes.plans
    print(
        f"evaluate {task.name} {variant} seed {seed}: score {score:.1f} over {len(episodes.returns)} episodes "
        f"(data {statistics['score_mean']:.1f}), {milliseconds:.1f} ms a plan → {output}"
    )


def _outcome(task: Task, episodes: Episodes) -> dict[str, Any]:
    return {
        "scores": [task.score(value) for value in episodes.returns],
        "success": None if episodes.success is None else episodes.success.astype(int).tolist(),
    }
