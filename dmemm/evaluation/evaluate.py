"""Stage 6: score a variant's plans in the environment."""

from pathlib import Path

import numpy as np

from dmemm.config import EvaluateConfig
from dmemm.device import choose_device
from dmemm.diffusion.guidance import Guide
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.files import read_json, write_json
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.models.regression import load_mechanism
from dmemm.planning.planner import Planner
from dmemm.planning.rollout import run_episodes
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
    model = DiffusionModel.load(model_path, choose_device())
    if config.lambda_guide > 0 and dynamics_path is None:
        raise UserError("--dynamics: transition guidance needs it; give the weights that `dmemm dynamics` wrote")
    guide = Guide(
        model.action_dim,
        # In mazes the goal is part of the plan, and the data's reward knows one goal only.
        reward=None if task.is_maze else load_mechanism(RewardModel, reward_path),
        dynamics=load_mechanism(DynamicsEnsemble, dynamics_path) if config.lambda_guide > 0 and dynamics_path else None,
        lambda_guide=config.lambda_guide,
    )
    planner = Planner(
        model, guide, alpha=config.alpha, t_stopgrad=config.t_stopgrad, candidates=config.candidates, seed=seed
    )
    episodes = run_episodes(
        task,
        planner,
        episodes=config.episodes,
        replan_every=config.replan_every,
        execute=config.execute,
        seed=seed,
    )
    scores = [task.score(value) for value in episodes.returns]
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
            "scores": scores,
            "success": None if episodes.success is None else episodes.success.astype(int).tolist(),
            "lengths": episodes.lengths.tolist(),
            "planning_seconds": round(episodes.planning_seconds, 3),
            "plans": episodes.plans,
            # The data's rewards are for maze2d's goal; they say nothing of a random one.
            "data_score": None if task.protocol == "multi2d" else statistics["score_mean"],
        },
    )
    milliseconds = 1000 * episodes.planning_seconds / episodes.plans
    print(
        f"evaluate {task.name} {variant} seed {seed}: score {np.mean(scores):.1f} over {config.episodes} episodes "
        f"(data {statistics['score_mean']:.1f}), {milliseconds:.0f} ms a plan → {output}"
    )
