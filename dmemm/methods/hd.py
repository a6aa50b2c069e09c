"""Hierarchical Diffuser with dense actions (HD-DA; Chen et al., 2024): plans of every n-th state, filled in by others.

Both levels are Diffuser's U-Net. A step of the upper level is a state with the n actions that follow it; the lower
level makes the n steps between two of its states. Without a goal the upper level is guided by a value model, and of
several of its plans the best by it is taken.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_bounds
from dmemm.data.segments import make_segments
from dmemm.data.windows import Windows
from dmemm.methods import levels
from dmemm.tasks import Task

_HORIZONS = levels.HORIZONS
_HORIZON = 32
_STRIDE, _STRIDE_IN_MAZES = 4, 16
_TRAINING = levels.TRAINING
_CANDIDATES = 8  # plans of the upper level


class Policy(levels.TwoLevels):
    """Two diffusion models; a plan to a goal is followed to its end (in mazes its states), others are made anew."""

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build both levels."""
        super().__init__(task, header)
        self.stride = _STRIDE_IN_MAZES if task.is_maze else _STRIDE
        self.horizon = _HORIZONS.get(task.body, _HORIZON)
        self.build_levels()
        self.reset()

    def build_levels(self) -> None:
        """Build both levels, and what else their actions take."""
        upper = {"action_dim": self.stride * self.action_dim, "horizon": self.horizon // self.stride + 1}
        lower = {"action_dim": self.action_dim, "horizon": self.stride + 1}
        self.build(
            self.level(_TRAINING, **upper, end_dim=self.task.end_dim),
            self.level(_TRAINING, **lower, end_dim=self.observation_dim),
        )

    def reset(self) -> None:
        """Forget the plans."""
        self.plans, self.age = torch.zeros(0), 0

    def subgoals(self, s: Tensor, goals: Tensor | None, candidates: int = 1) -> Tensor:
        """The upper level's plans from states (batch, Ds): states, shape (batch, horizon / stride + 1, Ds).

        Without a goal the best of several candidates is taken.
        """
        tau = self.drawn(s, goals, candidates)
        merit = self.guide().merit(tau.flatten(0, 1)).view(-1, candidates)
        return levels.best_of(tau, merit)[..., self.upper.action_dim :]

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        if not self.task.has_goal:
            subgoals = self.subgoals(observations, goals, _CANDIDATES)
            return self.between(subgoals[:, 0], subgoals[:, 1])[:, 0, : self.action_dim]
        # A plan ends at the goal when it is over: replanned at every step, it would never get there.
        if len(self.plans) != len(observations) or self.age == self.horizon:
            self.plans, self.age = self.plan(observations, goals), 0
        self.age += 1
        if not self.task.is_maze:
            return self.plans[:, self.age - 1, : self.action_dim]
        away = (self.plans[:, self.age, self.action_dim :] - observations) * self.scale[self.action_dim :]
        scale, center = self.scale[: self.action_dim], self.center[: self.action_dim]
        return (away[:, :2] + away[:, 2:] - center) / scale  # a = Δposition + Δvelocity

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """A plan of the upper level, with all that the lower level puts between its states."""
        return self.whole(self.subgoals(observations, goals))

    def whole(self, subgoals: Tensor) -> Tensor:
        """Plans through subgoals (batch, horizon / stride + 1, Ds): shape (batch, horizon + 1, Da + Ds)."""
        pieces = self.between(subgoals[:, :-1].flatten(0, 1), subgoals[:, 1:].flatten(0, 1))
        steps = pieces[:, :-1].reshape(len(subgoals), self.horizon, -1)
        return torch.cat([steps, pieces.view(len(subgoals), -1, *pieces.shape[1:])[:, -1, -1:]], dim=1)


def with_next_actions(raw: RawData, count: int) -> RawData:
    """The same steps, each with the actions of its next `count` steps; an episode's last action is repeated."""
    _, ends = episode_bounds(raw.ended)
    steps = np.arange(len(raw.rewards))[:, None] + np.arange(count)
    index = np.minimum(steps, ends[:, None] - 1)
    return dataclasses.replace(raw, actions=raw.actions[index].reshape(len(raw.rewards), -1))


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Both levels by Diffuser's loss, `method_steps` each; the value by least squares."""
    policy = Policy.of(task, raw)
    blocks = with_next_actions(raw, policy.stride)
    levels.learn_value(policy.value, task, raw, seed)
    policy.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    segments = make_segments(blocks, task, policy.horizon + 1, weight_floor=1.0)
    windows = Windows(blocks, segments, task, device, policy.stride)
    upper = levels.fit(policy.upper, windows, _TRAINING, config, generator, "hd upper")
    # The end of a window is given to the network, so it must have happened.
    segments = levels.whole_windows(raw, task, policy.stride + 1, "hd")
    windows = Windows(raw, segments, task, device)
    lower = levels.fit(policy.lower, windows, _TRAINING, config, generator, "hd lower")
    policy.losses = levels.added(upper, lower)
    return policy
