"""HDMI: the routes that its upper level learns, and the return that it is given; what it shares with hd: there."""

import dataclasses

import numpy as np
import pytest
import torch

from dmemm.config import MethodConfig
from dmemm.data.raw import episode_slices
from dmemm.errors import UserError
from dmemm.methods import hd, hdmi, levels
from dmemm.models.dit import PlanDit
from tests.methods.problems import CPU, POINT, point_data, raw_data, walk


def with_a_detour():
    """One episode: east for 10, on to 20 and back to 10, then north for 10."""
    east = [(x, 0) for x in [*range(21), *range(19, 9, -1)]]
    s = np.array([*east, *((10, y) for y in range(1, 11))], np.float32)
    return raw_data(s, np.zeros((len(s), 2)), np.roll(s, -1, axis=0), np.ones(len(s)), len(s))


def test_routes_leave_detours_out_and_go_where_the_data_go(monkeypatch):
    monkeypatch.setattr(hdmi, "_NEIGHBOURS", 1)
    raw = with_a_detour()
    places = {tuple(s) for s in raw.observations}
    routes = hdmi.shortest_routes(raw, raw.observations, 50, seed=0)
    lengths = []
    for start, end in episode_slices(routes.ended):
        path = routes.observations[start:end]
        assert {tuple(s) for s in path} <= places
        assert (np.abs(np.diff(path, axis=0)).sum(axis=1) <= 1).all()
        np.testing.assert_array_equal(routes.next_observations[start : end - 1], path[1:])
        lengths.append(end - start)
        # Any jump between two states of one place costs an edge more than the way itself.
        assert end - start - 1 <= np.abs(path[-1] - path[0]).sum() + 2
    assert max(lengths) > 15 and len(lengths) > 1000


def test_routes_are_as_short_as_those_of_a_slow_search(monkeypatch):
    monkeypatch.setattr(hdmi, "_NEIGHBOURS", 3)
    monkeypatch.setattr(hdmi, "_GOALS", 5)
    rng = np.random.default_rng(0)
    s = rng.normal(size=(30, 2)).astype(np.float32)
    raw = raw_data(s, np.zeros((30, 2)), np.roll(s, -1, axis=0), np.arange(30), 10)
    mean = np.mean([np.linalg.norm(s[i + 1] - s[i]) for i in range(29) if i % 10 != 9])
    cost = np.full((30, 30), np.inf)
    for i in range(30):
        away = np.linalg.norm(s - s[i], axis=1)
        for j in np.argsort(away)[1:4]:
            cost[i, j] = 1 + away[j] / mean
        if i % 10 != 9:
            cost[i, i + 1] = 1
    shortest = np.where(np.eye(30, dtype=bool), 0, cost)
    for via in range(30):
        shortest = np.minimum(shortest, shortest[:, via, None] + shortest[None, via])
    routes = hdmi.shortest_routes(raw, s, 6, seed=0)
    for start, end in episode_slices(routes.ended):
        nodes = [int(np.flatnonzero((s == x).all(axis=1))[0]) for x in routes.observations[start:end]]
        total = sum(cost[i, j] for i, j in zip(nodes[:-1], nodes[1:], strict=True))
        assert total == pytest.approx(shortest[nodes[0], nodes[-1]], rel=1e-5) and 0 < total <= 6


def test_it_does_what_brings_the_return_that_is_asked_for(monkeypatch):
    sizes = dataclasses.replace(hdmi._TRAINING, unet_width=16, unet_mults=(1, 2), diffusion_steps=10)
    monkeypatch.setattr(hdmi, "_TRAINING", sizes)
    monkeypatch.setattr(hdmi, "_WIDTH", 32)
    monkeypatch.setattr(hdmi, "_BLOCKS", 2)
    monkeypatch.setattr(hd, "_HORIZON", 16)
    rng = np.random.default_rng(0)
    # Half of the episodes go up and earn 1 a step, the other half down and earn nothing, all from like states.
    good = np.arange(100) % 2
    a = np.zeros((100, 20, 2)) + rng.normal(size=(100, 20, 2)) * 0.05
    a[..., 1] += np.where(good, 0.7, -0.7)[:, None]
    path = rng.uniform(-1, 1, (100, 1, 2)) + np.concatenate([np.zeros((100, 1, 2)), np.cumsum(a / 5, axis=1)], axis=1)
    s, s_next = path[:, :-1].reshape(-1, 2), path[:, 1:].reshape(-1, 2)
    policy = hdmi.train(
        POINT, raw_data(s, a.reshape(-1, 2), s_next, np.repeat(good, 20), 20), MethodConfig(500), 0, CPU
    )
    moved = np.diff(walk(policy, [[0.5, 0], [-0.5, 0.3]], steps=5), axis=0) * 5
    assert moved[..., 1].mean() > 0.4 and np.abs(moved[..., 0]).mean() < 0.3, moved
    policy.asked.neg_()
    assert (np.diff(walk(policy, [[0.5, 0], [-0.5, 0.3]], steps=5), axis=0)[..., 1] * 5).mean() < -0.4


def test_guidance_goes_beyond_the_estimate_with_the_return():
    sizes = {"action_dim": 0, "observation_dim": 4, "horizon": 3, "diffusion_steps": 5, "end_dim": 0}
    model = hdmi.GoalDiffuser({**sizes, "predict": "sample"}, CPU, PlanDit(4, 8, 1))
    model.low.fill_(-10)
    model.high.fill_(10)
    model._evaluate = lambda tau, k: torch.zeros_like(tau) + tau[:, :1, 2:3] + 5 * tau[:, :1, 3:]
    tau = torch.zeros(2, 3, 4)
    tau[:, 0, 2] = torch.tensor([1.0, 2.0])
    estimate = model.estimate(tau, torch.zeros(2), tau)
    # Without a return the entries are 0 and -1: -5; with it r: -5 + 1.2 (r + 5).
    np.testing.assert_allclose(estimate[:, 1:, 0], [[2.2, 2.2], [3.4, 3.4]], rtol=1e-5)
    np.testing.assert_array_equal(estimate[:, 0], tau[:, 0])


def test_the_returns_of_an_episode_that_is_cut_off_go_on_with_its_own_mean():
    raw = raw_data(np.zeros((8, 2)), np.zeros((8, 1)), np.zeros((8, 2)), [1, 1, 1, 1, 3, 3, 3, 3], 4)
    raw = dataclasses.replace(raw, terminals=np.arange(8) == 3, timeouts=np.arange(8) == 7)
    powers = levels.VALUE.discount ** np.arange(4)
    expected = [sum(powers[: 4 - t]) - 100 * powers[3 - t] for t in range(4)] + [3 / (1 - levels.VALUE.discount)] * 4
    np.testing.assert_allclose(hdmi.returns(raw, -100.0), expected, rtol=1e-9)


def test_episodes_that_are_all_too_short_are_refused():
    with pytest.raises(UserError, match="no episode lasts 5 steps; hdmi needs longer ones"):
        hdmi.train(POINT, point_data(20, 3), MethodConfig(1), 0, CPU)
