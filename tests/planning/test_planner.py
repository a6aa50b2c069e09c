"""Candidates, units, and the two ways to execute a plan."""

import numpy as np
import pytest
import torch

from dmemm.data.normaliser import Normaliser
from dmemm.diffusion.guidance import Guide
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.models.mechanisms import RewardModel
from dmemm.planning.planner import Planner, Plans
from dmemm.planning.rollout import follow

NORMALISER = Normaliser(
    *(np.array(x, dtype=np.float32) for x in ([0, 0, 1, 2, 3, 4], [1, 2, 2, 2, 1, 1], [-3] * 6, [3] * 6))
)


def model():
    torch.manual_seed(0)
    header = {"action_dim": 2, "observation_dim": 4, "horizon": 8, "end_dim": 4, "predict": "sample"}
    built = DiffusionModel({**header, "unet_width": 8, "unet_mults": (1, 2), "diffusion_steps": 4}, torch.device("cpu"))
    built.set_normaliser(NORMALISER)
    return built.requires_grad_(False)


def planner(candidates, seed=0):
    torch.manual_seed(1)
    guide = Guide(2, RewardModel(4, 2, 1, 16).requires_grad_(False), None, 0.0)
    return Planner(model(), guide, alpha=0.1, t_stopgrad=1, candidates=candidates, seed=seed)


def test_plans_start_at_the_observation_and_end_at_the_goal_at_rest():
    observations = np.array([[1, 2, 0.5, -0.5], [3, 1, 0, 0]], dtype=np.float32)
    goals = np.array([[2, 2], [0.5, 4]], dtype=np.float32)
    plans = planner(3).plan(observations, goals)
    np.testing.assert_allclose(plans.states[:, 0], observations, atol=1e-5)
    np.testing.assert_allclose(plans.states[:, -1], np.concatenate([goals, np.zeros((2, 2))], axis=1), atol=1e-5)
    assert plans.actions.shape == (2, 8, 2)
    low, high = (NORMALISER.unnormalise(x) for x in (NORMALISER.low, NORMALISER.high))
    inner = np.concatenate([plans.actions, plans.states], axis=2)[:, 1:-1]
    assert (inner >= low - 1e-4).all() and (inner <= high + 1e-4).all()


def test_more_candidates_give_a_better_one_and_a_seed_gives_the_same():
    observations, goals = np.zeros((16, 4), dtype=np.float32), np.zeros((16, 2), dtype=np.float32)
    one, many = (planner(c).plan(observations, goals).values for c in (1, 16))
    assert many.mean() > one.mean()
    again = planner(16).plan(observations, goals)
    assert np.array_equal(again.values, many)
    assert not np.array_equal(planner(16, seed=1).plan(observations, goals).values, many)


def test_an_observation_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="not finite"):
        planner(1).plan(np.full((1, 4), np.nan, dtype=np.float32), np.zeros((1, 2), dtype=np.float32))


def test_waypoints_follow_the_next_planned_state_and_the_last_for_ever():
    states = np.arange(24, dtype=np.float32).reshape(1, 6, 4)
    plans = Plans(np.ones((1, 6, 2), dtype=np.float32), states, np.zeros(1))
    here = states[:, 2] + 0.25
    np.testing.assert_allclose(follow(plans, 2, here, "waypoints"), [[4 - 0.25 + 4 - 0.25] * 2])
    np.testing.assert_allclose(follow(plans, 5, states[:, 5], "waypoints"), [[0, 0]])
    np.testing.assert_allclose(follow(plans, 3, here, "actions"), [[1, 1]])
