"""Score a method in the environment."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dmemm.config import EpisodesConfig, EvaluateConfig
from dmemm.files import read_json
from dmemm.inputs import Inputs
from dmemm.methods import Method, load_actor
from dmemm.planning.rollout import Episodes, run_episodes
from dmemm.score_file import Outcome, Score, Way
from dmemm.tasks import Task


def evaluate(
    method: Method,
    task: Task,
    config: EvaluateConfig | EpisodesConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
) -> None:
    """Run the stage: all episodes in one batch, scores of every episode into one JSON file."""
    actor = load_actor(method, task, config, seed, inputs)
    execute: Way = config.execute if isinstance(config, EvaluateConfig) else "actions"
    episodes = {execute: run_episodes(task, actor, episodes=config.episodes, seed=seed)}
    if task.is_maze and isinstance(config, EvaluateConfig):  # the same plans, executed the other way
        other: Way = "actions" if execute == "waypoints" else "waypoints"
        actor = load_actor(method, task, replace(config, execute=other), seed, inputs)
        episodes[other] = run_episodes(task, actor, episodes=config.episodes, seed=seed)
    write_scores(task, method.name, seed, episodes, execute, inputs.need("statistics"), output)


def write_scores(
    task: Task,
    variant: str,
    seed: int,
    executed: Mapping[Way, Episodes],
    execute: Way,
    statistics_path: Path,
    output: Path,
) -> None:
    """Write the score file of one evaluation.

    Args:
        task: the task.
        variant: name of the variant or method.
        seed: seed of the training and of the episodes.
        executed: the episodes of each way in which plans were executed.
        execute: the way whose scores count.
        statistics_path: statistics of the data set.
        output: the score file, JSON.
    """
    statistics, episodes = read_json(statistics_path), executed[execute]
    outcomes = {way: _outcome(task, run) for way, run in executed.items()}
    # The data's rewards are for maze2d's goal; they say nothing of a random one.
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
