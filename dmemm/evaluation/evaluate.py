"""Stage 6: score a variant's plans in the environment."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dmemm.config import EvaluateConfig
from dmemm.files import read_json, write_json
from dmemm.planning.planner import load_planner
from dmemm.planning.rollout import Episodes, run_episodes
from dmemm.tasks import Task


def evaluate(
    task: Task,
    variant: str,
    config: EvaluateConfig,
    seed: int,
    *,
    model_path: Path,
    dynamics_path: Path | None,
    reward_path: Path,
    statistics_path: Path,
    output: Path,
) -> None:
    """Run the stage: all episodes in one batch, scores of every episode into one JSON file."""
    statistics = read_json(statistics_path)
    planner = load_planner(task, config, seed, model=model_path, reward=reward_path, dynamics=dynamics_path)
    episodes = run_episodes(task, planner, episodes=config.episodes, seed=seed)
    scores = [task.score(value) for value in episodes.returns]
    executed = {config.execute: _outcome(task, episodes)}
    if task.is_maze:  # the same plans, executed the other way
        other: Literal["actions", "waypoints"] = "actions" if config.execute == "waypoints" else "waypoints"
        planner.config = replace(config, execute=other)
        planner.reset(seed)
        executed[other] = _outcome(task, run_episodes(task, planner, episodes=config.episodes, seed=seed))
    write_json(
        output,
        {
            "task": task.name,
            "variant": variant,
            "seed": seed,
            "data_source": statistics["data_source"],
            "protocol": task.protocol,
            "execute": config.execute,
            "checkpoint": "last",
            "episodes": config.episodes,
            "returns": episodes.returns.tolist(),
            **executed[config.execute],
            "executed": executed,
            "lengths": episodes.lengths.tolist(),
            "planning_seconds": round(episodes.planning_seconds, 3),
            "plans": episodes.plans,
            # The data's rewards are for maze2d's goal; they say nothing of a random one.
            "data_warnings": statistics["warnings"],
            "data_score": None if task.protocol == "multi2d" else statistics["score_mean"],
        },
    )
    milliseconds = 1000 * episodes.planning_seconds / episodes.plans
    print(
        f"evaluate {task.name} {variant} seed {seed}: score {np.mean(scores):.1f} over {config.episodes} episodes "
        f"(data {statistics['score_mean']:.1f}), {milliseconds:.0f} ms a plan → {output}"
    )


def _outcome(task: Task, episodes: Episodes) -> dict[str, Any]:
    return {
        "scores": [task.score(value) for value in episodes.returns],
        "success": None if episodes.success is None else episodes.success.astype(int).tolist(),
    }
