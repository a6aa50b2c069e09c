"""Write the score file of an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmemm.planning.rollout import Episodes
from dmemm.schema import read_record
from dmemm.score_file import PROPERTIES, Outcome, Score, Way
from dmemm.tasks import Task

_STATISTICS = {
    "data_source": PROPERTIES["data_source"],
    "warnings": PROPERTIES["data_warnings"],
    "score_mean": {"type": "number"},
    "best_policy_score": PROPERTIES["best_policy_score"],
}


def read_statistics(path: Path) -> dict[str, Any]:
    """Read the statistics of the data set that score files contain.

    Raises:
        UserError: the file is missing, or `download` did not write it.
    """
    return dict(read_record(path, _STATISTICS, "download"))


def write_scores(
    task: Task,
    variant: str,
    seed: int,
    executed: Mapping[Way, Episodes],
    execute: Way,
    statistics: Mapping[str, Any],
    output: Path,
) -> None:
    """Write the score file of one evaluation.

    Args:
        task: the task.
        variant: name of the variant or method.
        seed: seed of the training and of the episodes.
        executed: way to execute plans → its episodes.
        execute: the way whose scores count.
        statistics: statistics of the data set; see `read_statistics`.
        output: the score file, JSON.
    """
    episodes = executed[execute]
    outcomes = {way: _outcome(task, run) for way, run in executed.items()}
    # The data's rewards are for maze2d's goal, not for a random one.
    comparable = task.protocol != "multi2d"
    Score(
        path=output,
        task=task.name,
        variant=variant,
        seed=seed,
        data_source=statistics["data_source"],
        protocol=task.protocol,
        execute=execute,
        checkpoint="last",
        episodes=len(episodes.returns),
        returns=episodes.returns.tolist(),
        **outcomes[execute],
        executed=outcomes,
        lengths=episodes.lengths.tolist(),
        planning_seconds=round(episodes.planning_seconds, 3),
        plans=episodes.plans,
        data_warnings=statistics["warnings"],
        data_score=statistics["score_mean"] if comparable else None,
        best_policy_score=statistics["best_policy_score"] if comparable else None,
    ).write()
    score, milliseconds = np.mean(outcomes[execute]["scores"]), 1000 * episodes.planning_seconds / episodes.plans
    print(
        f"evaluate {task.name} {variant} seed {seed}: score {score:.1f} over {len(episodes.returns)} episodes "
        f"(data {statistics['score_mean']:.1f}), {milliseconds:.1f} ms a plan → {output}"
    )


def _outcome(task: Task, episodes: Episodes) -> Outcome:
    return {
        "scores": [task.score(value) for value in episodes.returns],
        "success": None if episodes.success is None else episodes.success.astype(int).tolist(),
    }
