"""An untrained planner of four states and two actions, on a plan of eight steps."""

from dataclasses import replace

import numpy as np
import torch

from dmemm.data.normaliser import Normaliser
from dmemm.diffusion.model import DiffusionModel
from dmemm.methods.levels import PLANNING
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.models.plan_value import PlanValue
from dmemm.planning.planner import Planner
from dmemm.tasks import Task, get_task

UNET = {"network": "unet", "unet_width": 8, "unet_mults": (1, 2)}
NORMALISER = Normaliser(
    *(np.array(x, dtype=np.float32) for x in ([0, 0, 1, 2, 3, 4], [1, 2, 2, 2, 1, 1], [-3] * 6, [3] * 6))
)


def model():
    torch.manual_seed(0)
    header = {"data": "", "action_dim": 2, "observation_dim": 4, "horizon": 8, "end_dim": 4, "predict": "sample"}
    built = DiffusionModel({**header, **UNET, "diffusion_steps": 4}, torch.device("cpu"))
    built.set_normaliser(NORMALISER)
    return built.requires_grad_(False)


TASK = get_task("maze2d-umaze")
OWN = Task("walk", "Walk-v0", 20, 0.0, 1.0, {})


def planner(candidates, seed=0, task=TASK, without=(), places=None, **changes):
    torch.manual_seed(1)
    dynamics = DynamicsEnsemble(4, 2, 3, 16).requires_grad_(False)
    if places is not None:
        dynamics.remember(places)
    values = {"objective": "reward", "discount": 0.9, "termination_penalty": -3.0, "alpha": 0.1, "guide_limit": 0.99}
    values |= {"lambda_guide": 0.1, "episodes": 2, "candidates": candidates, "replan_every": 3}
    config = replace(PLANNING, **values | changes)
    reward = RewardModel(4, 2, 1, 16).requires_grad_(False)
    reward.target_scale.fill_(2.0)
    value = ValueModel(4, 0, 1, 16).requires_grad_(False)
    plan_value = PlanValue({"data": "", "horizon": 8, "transition_dim": 6, "diffusion_steps": 4}).requires_grad_(False)
    given = {"dynamics": dynamics, "reward": reward, "value": value, "plan_value": plan_value}
    given |= dict.fromkeys(without)
    return Planner(task, config, model(), given.pop("dynamics"), given.pop("reward"), seed, **given)
