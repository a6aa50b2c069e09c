"""Score another method in the environment."""

from pathlib import Path

from dmemm.config import EpisodesConfig
from dmemm.evaluation.scores import write_scores
from dmemm.methods.base import load_policy
from dmemm.planning.rollout import run_episodes
from dmemm.tasks import Task


def evaluate_method(
    task: Task,
    method: str,
    config: EpisodesConfig,
    seed: int,
    *,
    model_path: Path,
    statistics_path: Path,
    output: Path,
) -> None:
    """Run the stage: as `dmemm.evaluation.evaluate`, in the very same episodes."""
    policy = load_policy(task, method, seed, model_path)
    episodes = run_episodes(task, policy, episodes=config.episodes, seed=seed)
    write_scores(task, method, seed, {"actions": episodes}, "actions", statistics_path, output)
