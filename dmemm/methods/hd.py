"""Hierarchical Diffuser with dense actions (HD-DA; Chen et al., 2024): a plan of every n-th state, then the rest.

A step of the upper level is a state with the n actions that follow it; the lower level plans the n steps between two
of these states. Both are DMEMM's MLP: Diffuser's U-Net, which the authors take, learns less in the same time
(docs/results/methods.md). Without a goal, a value model chooses the best of several plans of the upper level; the
authors' also guides them.
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

_HORIZON = 32
_STRIDE, _STRIDE_IN_MAZES = 4, 16
_REPLAN_EVERY = 64  # steps in a maze, as for DMEMM and Diffuser
_TRAINING = dataclasses.replace(
    levels.TRAINING, network="mlp", mlp_width=512, mlp_blocks=3, batch_size=256, learning_rate=2e-3
)
_CANDIDATES = 8  # plans of the upper level


class Policy(levels.TwoLevels):
    """Two diffusion models. A plan to a goal is followed for several steps, in mazes by its states; others for one."""

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build both levels."""
        super().__init__(task, header)
        self.stride = _STRIDE_IN_MAZES if task.is_maze else _STRIDE
        self.horizon = levels.goal_horizon(task, self.stride) if task.has_goal else _HORIZON
        self.lasts = min(self.horizon, _REPLAN_EVERY) if task.is_maze else self.horizon
        self.build_levels()
        self.reset()

    def build_levels(self) -> None:
        """Build both levels and the value model."""
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
        """Return the states of upper-level plans from `s` (batch, Ds), shape (batch, horizon / stride + 1, Ds).

        Without a goal, they are those of the best of several candidates.
        """
        tau = self.drawn(s, goals, candidates)
        merit = self.guide().merit(tau.flatten(0, 1)).view(-1, candidates)
        return levels.best_of(tau, merit)[..., self.upper.action_dim :]

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        if not self.task.has_goal:
            index = torch.as_tensor(np.flatnonzero(running), device=observations.device)
            subgoals = self.subgoals(observations[index], None, _CANDIDATES)
            actions = torch.zeros(len(observations), self.action_dim, device=observations.device)
            actions[index] = self.between(subgoals[:, 0], subgoals[:, 1])[:, 0, : self.action_dim]
            return actions
        # A plan reaches the goal only at its last step, so replanning at every step would never get there.
        if len(self.plans) != len(observations) or self.age == self.lasts:
            self.plans, self.age = self.plan(observations, goals), 0
        self.age += 1
        if not self.task.is_maze:
            return self.plans[:, self.age - 1, : self.action_dim]
        away = (self.plans[:, self.age, self.action_dim :] - observations) * self.scale[self.action_dim :]
        scale, center = self.scale[: self.action_dim], self.center[: self.action_dim]
        return (away[:, :2] + away[:, 2:] - center) / scale  # a = Δposition + Δvelocity

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """Return an upper-level plan together with the steps that the lower level fills in."""
        return self.whole(self.subgoals(observations, goals))

    def whole(self, subgoals: Tensor) -> Tensor:
        """Fill in plans through subgoals (batch, horizon / stride + 1, Ds): shape (batch, horizon + 1, Da + Ds)."""
        pieces = self.between(subgoals[:, :-1].flatten(0, 1), subgoals[:, 1:].flatten(0, 1))
        steps = pieces[:, :-1].reshape(len(subgoals), self.horizon, -1)
        return torch.cat([steps, pieces.view(len(subgoals), -1, *pieces.shape[1:])[:, -1, -1:]], dim=1)


def with_next_actions(raw: RawData, count: int) -> RawData:
    """Replace each step's action by the actions of the next `count` steps, itself included.

    An episode's last action is repeated.
    """
    _, ends = episode_bounds(raw.ended)
    steps = np.arange(len(raw.rewards))[:, None] + np.arange(count)
    index = np.minimum(steps, ends[:, None] - 1)
    return dataclasses.replace(raw, actions=raw.actions[index].reshape(len(raw.rewards), -1))


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train both levels by Diffuser's loss, `method_steps` each, and the value model by least squares."""
    policy = Policy.of(task, raw)
    blocks = with_next_actions(raw, policy.stride)
    levels.learn_value(policy.value, task, raw, seed)
    policy.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    segments = make_segments(blocks, task, policy.horizon + 1, weight_floor=1.0)
    windows = Windows(blocks, segments, task, device, policy.stride)
    upper = levels.fit(policy.upper, windows, _TRAINING, config, generator, "hd upper")
    # The network is conditioned on the end of a window, so windows must not be padded.
    segments = levels.whole_windows(raw, task, policy.stride + 1, "hd")
    windows = Windows(raw, segments, task, device)
    lower = levels.fit(policy.lower, windows, _TRAINING, config, generator, "hd lower")
    policy.losses = levels.added(upper, lower)
    return policy
