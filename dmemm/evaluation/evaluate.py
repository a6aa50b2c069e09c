"""Stage 6: score a variant's plans in the environment."""

from dataclasses import replace
from pathlib import Path

from dmemm.config import EvaluateConfig
from dmemm.evaluation.scores import write_scores
from dmemm.planning.planner import load_planner
from dmemm.planning.rollout import run_episodes
from dmemm.score_file import Way
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
    value_path: Path | None,
    plan_value_path: Path | None,
    statistics_path: Path,
    output: Path,
) -> None:
    """Run the stage: all episodes in one batch, scores of every episode into one JSON file."""
    planner = load_planner(
        task, config, seed, model=model_path, reward=reward_path, dynamics=dynamics_path, value=value_path,
        plan_value=plan_value_path,
    )  # fmt: skip
    episodes = {config.execute: run_episodes(task, planner, episodes=config.episodes, seed=seed)}
    if task.is_maze:  # the same plans, executed the other way
        other: Way = "actions" if config.execute == "waypoints" else "waypoints"
        planner.config = replace(config, execute=other)
        planner.reset(seed)
        episodes[other] = run_episodes(task, planner, episodes=config.episodes, seed=seed)
    write_scores(task, variant, seed, episodes, config.execute, statistics_path, output)
