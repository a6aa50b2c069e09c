"""The other methods: what they learn on problems whose answer is known, and that they are saved, seeded and refused."""

import dataclasses

import numpy as np
import pytest
import torch

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData
from dmemm.errors import UserError
from dmemm.methods import METHODS, mppi, rvs
from dmemm.methods.base import load_policy, method_module, train_method
from dmemm.tasks import Task

CPU = torch.device("cpu")
POINT = Task("point", "Point-v0", 20, 0.0, 1.0, {})
GOAL = dataclasses.replace(POINT, goal_dim=2)


def raw_data(s, a, s_next, r, length) -> RawData:
    """Transitions in episodes of `length` steps that time out."""
    s, a, s_next, r = (np.asarray(x, np.float32) for x in (s, a, s_next, r))
    timeouts = np.arange(len(r)) % length == length - 1
    return RawData(s, a, r, np.zeros(len(r), dtype=bool), timeouts, s_next, "own", "point")


def point_data(episodes=150, length=20, straight=False) -> RawData:
    """A point in the plane, s' = s + a / 5, moved at random or in straight lines.

    The reward is minus the squared distance to (0, 0).
    """
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (episodes, length, 2))
    if straight:
        a = np.clip(a[:, :1] + a * 0.1, -1, 1)
    path = rng.uniform(-1, 1, (episodes, 1, 2)) + np.concatenate(
        [np.zeros((episodes, 1, 2)), np.cumsum(a / 5, axis=1)], axis=1
    )
    s, s_next = path[:, :-1].reshape(-1, 2), path[:, 1:].reshape(-1, 2)
    return raw_data(s, a.reshape(-1, 2), s_next, -(s_next**2).sum(axis=1), length)


def walk(policy, start, goals=None, steps=20):
    """The states that a policy reaches in the true environment."""
    s = np.asarray(start, np.float32)
    policy.start(0)
    policy.reset()
    path = [s]
    for _ in range(steps):
        s = (s + np.clip(policy.act(s, goals), -1, 1) / 5).astype(np.float32)
        path.append(s)
    return np.stack(path)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rvs, "_WIDTH", 128)


STARTS = [[0.8, -0.8], [-0.9, 0.2], [0.1, 0.9]]


def test_mppi_goes_where_the_reward_is_highest_and_to_a_goal():
    policy = mppi.train(POINT, point_data(), MethodConfig(1), 0, CPU)
    ends = np.linalg.norm(walk(policy, STARTS)[-1], axis=1)
    assert (ends < 0.15).all(), ends
    policy = mppi.train(GOAL, point_data(), MethodConfig(1), 0, CPU)
    goals = np.array([[-0.5, 0.5], [0.6, 0.6], [0.0, -0.7]], np.float32)
    ends = np.linalg.norm(walk(policy, STARTS, goals)[-1] - goals, axis=1)
    assert (ends < 0.15).all(), ends


def test_mppis_returns_are_those_of_a_loop_that_stops_at_the_end_of_the_episode():
    task = dataclasses.replace(POINT, terminal="tests.methods.test_methods:far")
    policy = mppi.train(task, point_data(20), MethodConfig(1), 0, CPU)
    rng = torch.Generator().manual_seed(1)
    s, plans = torch.randn(6, 2, generator=rng), torch.randn(6, 8, 2, generator=rng) * 3
    expected, ended = [], 0
    with torch.no_grad():
        for state, plan in zip(s, plans, strict=True):
            total = 0.0
            for action in plan:
                r = policy.reward(state[None], action[None])[0] * policy.reward.target_scale + policy.reward.target_mean
                total += float(r)
                state = policy.dynamics(state[None], action[None])[0]
                if far(state * policy.scale[2:] + policy.center[2:]):
                    ended += 1
                    break
            expected.append(total)
        got = policy.returns(s, plans, None)
    assert 0 < ended < 6
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def far(states):
    return states[..., 0] > 1.0


def test_rvs_takes_the_actions_of_the_best_outcome():
    # Half of the episodes go up and earn 1 a step, the other half down and earn nothing, all from like states.
    rng = np.random.default_rng(0)
    good = np.repeat(rng.random(60) < 0.5, 10)
    s = rng.normal(size=(600, 2))
    a = np.where(good, 0.7, -0.7)[:, None] + rng.normal(size=(600, 1)) * 0.05
    raw = raw_data(s, a, s, good, 10)
    policy = rvs.train(dataclasses.replace(POINT, episode_steps=10), raw, MethodConfig(300), 0, CPU)
    actions = policy.act(rng.normal(size=(50, 2)).astype(np.float32))
    assert np.abs(actions - 0.7).mean() < 0.1


def test_rvs_goes_to_its_goal():
    policy = rvs.train(GOAL, point_data(straight=True), MethodConfig(1500), 0, CPU)
    goals = np.array([[-0.5, 0.5], [0.6, 0.6], [0.0, -0.7]], np.float32)
    path = walk(policy, STARTS, goals)
    closest = np.linalg.norm(path - goals, axis=2).min(axis=0)
    assert (closest < 0.2).all(), closest


def test_mean_rewards_to_go_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    r = rng.normal(size=50).astype(np.float32)
    raw = raw_data(np.zeros((50, 2)), np.zeros((50, 1)), np.zeros((50, 2)), r, 8)
    terminals = raw.timeouts & (np.arange(50) < 20)
    raw = dataclasses.replace(raw, terminals=terminals, timeouts=raw.timeouts & ~terminals)
    means, best = rvs.mean_rewards_to_go(raw, dataclasses.replace(POINT, episode_steps=12))
    expected, whole = [], []
    for i in range(50):
        start, end = 8 * (i // 8), min(8 * (i // 8) + 8, 50)
        expected.append(sum(r[i:end].astype(float)) / (12 - (i - start)))
        if i == start:
            whole.append(expected[-1])
    np.testing.assert_allclose(means, expected, rtol=1e-9)
    assert best == pytest.approx(max(whole))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_the_same_after_loading_and_for_the_same_seed(method, tmp_path, monkeypatch):
    monkeypatch.setattr("dmemm.methods.base.read_raw", lambda path: point_data(20))
    monkeypatch.setattr("dmemm.methods.base.choose_device", lambda: CPU)

    def train(name, seed):
        files = {"output": tmp_path / f"{name}.safetensors", "report": tmp_path / f"{name}.json"}
        train_method(POINT, method, MethodConfig(5), seed, raw_path=tmp_path / "raw.hdf5", **files)
        return files["output"].read_bytes()

    assert train("first", 3) == train("again", 3) != train("other", 4)
    observations = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    running = np.array([True, False, True, True])
    one, two = (load_policy(POINT, method, 3, tmp_path / f"{name}.safetensors") for name in ("first", "again"))
    actions = one.act(observations, None, running)
    assert actions.shape == (4, 2) and actions.dtype == np.float32 and (actions[1] == 0).all() and actions[0].any()
    assert (actions == two.act(observations, None, running)).all()
    assert one.plans_made == 3
    with pytest.raises(UserError, match="observation 2 is not finite"):
        observations[2] = np.nan
        one.act(observations, None, running)


def test_weights_of_another_method_and_unknown_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dmemm.methods.base.read_raw", lambda path: point_data(20))
    files = {"output": tmp_path / "a.safetensors", "report": tmp_path / "a.json"}
    train_method(POINT, "rvs", MethodConfig(2), 0, raw_path=tmp_path, **files)
    with pytest.raises(UserError, match="holds rvs, but mppi was expected"):
        load_policy(POINT, "mppi", 0, files["output"])
    with pytest.raises(UserError, match="os: unknown method; choose one of mppi, rvs"):
        method_module("os")
