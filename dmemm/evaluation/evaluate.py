"""Score a method in the environment."""

from dataclasses import replace
from pathlib import Path

from dmemm.config import EpisodesConfig, EvaluateConfig
from dmemm.evaluation.scores import read_statistics, write_scores
from dmemm.inputs import Inputs
from dmemm.methods import Method, load_actor
from dmemm.planning.rollout import run_episodes
from dmemm.score_file import Way
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
    """Run the stage: run all episodes in one batch; write the scores of every episode to one JSON file."""
    statistics = read_statistics(inputs.need("statistics"))
    actor = load_actor(method, task, config, seed, inputs)
    execute: Way = config.execute if isinstance(config, EvaluateConfig) else "actions"
    episodes = {execute: run_episodes(task, actor, episodes=config.episodes, seed=seed)}
    if task.is_maze and isinstance(config, EvaluateConfig):  # execute both ways, with the same starts and first plans
        other: Way = "actions" if execute == "waypoints" else "waypoints"
        actor = load_actor(method, task, replace(config, execute=other), seed, inputs)
        episodes[other] = run_episodes(task, actor, episodes=config.episodes, seed=seed)
    write_scores(task, method.name, seed, episodes, execute, statistics, output)
