"""Diffusion Veteran: its windows, weights and choice, and what it learns on problems whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from dmemm.config import MethodConfig
from dmemm.data.segments import make_segments
from dmemm.data.windows import Windows
from dmemm.methods import dv, levels
from dmemm.tasks import get_task
from tests.methods.problems import (
    CPU,
    GOAL,
    POINT,
    STARTS,
    distances_left_in_it,
    point_data,
    raw_data,
    rests_in_an_open_maze,
    walk,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(dv, "_WIDTH", 32)
    monkeypatch.setattr(dv, "_UPPER", dataclasses.replace(dv._UPPER, diffusion_steps=10))
    monkeypatch.setattr(dv, "_LOWER", dataclasses.replace(dv._LOWER, mlp_width=64))


def test_windows_with_a_stride_contain_every_nth_step_of_the_whole_windows():
    raw, task = point_data(5), POINT
    segments = make_segments(raw, task, 7, weight_floor=1.0)
    index = torch.arange(len(raw.rewards))
    whole, sparse = (Windows(raw, segments, task, CPU, stride).batch(index) for stride in (1, 3))
    assert sparse.tau.shape[1] == 3
    for name in ("tau", "mask", "learned"):
        assert torch.equal(getattr(sparse, name), getattr(whole, name)[:, ::3])


def test_only_windows_within_an_episode_are_learned_from():
    segments = levels.whole_windows(point_data(5, length=6), POINT, 4, "dv")
    np.testing.assert_array_equal(~segments.held_out, [True, True, True, False, False, False] * 5)


def test_weights_grow_from_the_worst_return_to_the_best_as_published():
    weights = dv.window_weights(np.array([3.0, -1.0, 1.0]))
    np.testing.assert_allclose(weights, [1.0, np.exp(-4.0), np.exp(-2.0)], rtol=1e-6)
    assert (dv.window_weights(np.full(3, 7.0)) > 0).all()


def test_the_inverse_dynamics_are_those_of_a_linear_system_and_the_point_is_led_to_the_highest_reward():
    raw = point_data()
    policy = dv.train(POINT, raw, MethodConfig(600), 0, CPU)
    policy.requires_grad_(False).eval()
    policy.start(0)
    first, last = (policy.normalise(x[::50]) for x in (raw.observations, raw.next_observations))
    a = policy.between(first, last)[:, 0, :2] * policy.scale[:2] + policy.center[:2]
    error = np.abs(a.numpy() - (raw.next_observations - raw.observations)[::50] * 5)
    assert error.mean() < 0.1, error.mean()
    ends = np.linalg.norm(walk(policy, STARTS)[-1], axis=1)
    assert (ends < 0.3).all(), ends


def test_of_the_candidates_the_one_of_the_highest_value_is_executed(monkeypatch):
    policy = dv.train(POINT, point_data(20), MethodConfig(1), 0, CPU)
    plans = torch.randn(2, 6, 4, 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(policy, "drawn", lambda s, goals, count: plans[: len(s)])
    with torch.no_grad():
        values = policy.value(plans[:, :, 1:]).mean(dim=-1)  # the state planned from is the same for all
    best = [int(max(range(6), key=lambda i: values[row, i])) for row in range(2)]
    asked = []
    monkeypatch.setattr(policy, "between", lambda first, last: asked.append(last) or torch.zeros(len(first), 2, 4))
    policy.act(np.zeros((2, 2), np.float32))
    assert torch.equal(asked[0], torch.stack([plans[row, best[row], 1] for row in range(2)]))


def test_of_plans_to_a_goal_the_one_that_is_longest_there_is_best():
    task = get_task("maze2d-umaze")
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, (400, 4)) * [2, 2, 3, 3] + [2, 2, 0, 0]
    policy = dv.train(task, raw_data(s, s[:, :2], s, np.zeros(400), 200), MethodConfig(1), 0, CPU)
    goals = np.array([[1, 1], [3, 2]], np.float32)
    plans = np.repeat(rng.uniform(0, 4, (2, 3, 9, 4)), 1, axis=0).astype(np.float32)
    plans[0, 1, 4:, :2] = goals[0] + [0.3, -0.3]
    with torch.no_grad():
        merit = policy.merit(policy.normalise(plans), policy.normalise_goals(goals))
    expected = [
        [sum(np.hypot(*(state[:2] - goal)) <= 0.5 for state in plan) for plan in several]
        for several, goal in zip(plans, goals, strict=True)
    ]
    assert merit.tolist() == expected and merit[0].argmax() == 1


def test_it_goes_to_its_goal_in_an_open_maze(monkeypatch):
    monkeypatch.setattr(levels, "HORIZONS", {"umaze": 16})
    monkeypatch.setattr(dv, "_STRIDE_IN_MAZES", 4)
    raw, s = rests_in_an_open_maze()
    policy = dv.train(get_task("maze2d-umaze"), raw, MethodConfig(400), 0, CPU)
    away, left = distances_left_in_it(policy, s, steps=24)
    assert away.mean() > 1 and (left < 0.6).all(), (away, left)


def test_it_goes_to_the_goal_of_a_task_of_ones_own():
    task = dataclasses.replace(GOAL, parameters={"horizon": 15})
    policy = dv.train(task, point_data(straight=True), MethodConfig(400), 0, CPU)
    assert policy.stride * (policy.upper.horizon - 1) == 16
    goals = np.array([[-0.5, 0.5], [0.6, 0.6], [0.0, -0.7]], np.float32)
    closest = np.linalg.norm(walk(policy, STARTS, goals) - goals, axis=2).min(axis=0)
    assert (closest < 0.3).all(), closest
