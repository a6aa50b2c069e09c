"""Problems whose answer is known, for the methods' tests."""

import dataclasses

import numpy as np
import torch

from dmemm.data.raw import RawData
from dmemm.tasks import Task

CPU = torch.device("cpu")
POINT = Task("point", "Point-v0", 20, 0.0, 1.0, {})
GOAL = dataclasses.replace(POINT, goal_dim=2)
STARTS = [[0.8, -0.8], [-0.9, 0.2], [0.1, 0.9]]


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
    policy.requires_grad_(False).eval()  # as loading does
    policy.start(0)
    policy.reset()
    path = [s]
    for _ in range(steps):
        s = (s + np.clip(policy.act(s, goals), -1, 1) / 5).astype(np.float32)
        path.append(s)
    return np.stack(path)


def rests_in_an_open_maze(episodes=300, length=16):
    """Straight lines from rest to rest, of 16 steps: the raw data, and the states (episodes, 17, 4).

    An action is the change of place and of velocity, v' = (v + a) / 2, p' = p + v'.
    """
    rng = np.random.default_rng(0)
    start, goal = rng.uniform(0, 4, (2, episodes, 1, 2))
    share = (1 - np.cos(np.pi * np.linspace(0, 1, length + 1)))[:, None] / 2
    places = start + share * (goal - start)
    velocities = np.diff(places, axis=1, prepend=places[:, :1])
    s = np.concatenate([places, velocities], axis=2)
    a = np.diff(s, axis=1).reshape(episodes, length, 2, 2).sum(axis=2)
    flat = (s[:, :-1].reshape(-1, 4), a.reshape(-1, 2), s[:, 1:].reshape(-1, 4))
    return raw_data(*flat, np.zeros(episodes * length), length), s


def distances_left_in_it(policy, s, steps=16):
    """Of some of the episodes' goals, at first and after so many steps of a policy."""
    policy.requires_grad_(False).eval()  # as loading does
    policy.start(0)
    policy.reset()
    observations, goals = s[::60, 0].astype(np.float32), s[::60, -1, :2].astype(np.float32)
    away = np.linalg.norm(goals - observations[:, :2], axis=1)
    for _ in range(steps):
        v = (observations[:, 2:] + policy.act(observations, goals)) / 2
        observations = np.concatenate([observations[:, :2] + v, v], axis=1).astype(np.float32)
    return away, np.linalg.norm(goals - observations[:, :2], axis=1)
