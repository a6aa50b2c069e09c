"""Diffusion Veteran (Lu et al., 2025): a transformer draws unguided plans of states, and a critic chooses one.

A second diffusion model, the inverse dynamics, gives the action from the first state of the plan to the second. In
mazes, a plan has only every n-th state and ends at the goal; the plan with the most states at the goal is chosen.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_slices
from dmemm.data.windows import Windows
from dmemm.envs import at_goal
from dmemm.methods import base, levels
from dmemm.models.dit import PlanDit
from dmemm.tasks import Task
from dmemm.training.mechanisms import returns_to_go, value_beyond

_STATES = 4  # of a plan without a goal, consecutive, as published
_STRIDE_IN_MAZES = 16  # published: 15
_STRIDE_TO_GOALS = 4
_WIDTH, _BLOCKS = 64, 2  # published: 256, 2
_CANDIDATES = 50  # as published
_SHARPNESS = 2.0  # of the windows' weights, as published
_UPPER = dataclasses.replace(levels.TRAINING, diffusion_steps=20, batch_size=128, learning_rate=2e-3, weighting=True)
_LOWER = dataclasses.replace(
    _UPPER, network="mlp", mlp_width=256, mlp_blocks=2, diffusion_steps=10, batch_size=256, weighting=False
)
_PLANNING = dataclasses.replace(levels.PLANNING, sampling_steps=5)  # no guidance; published: 20 levels


class Policy(levels.TwoLevels):
    """The planner of states, and the inverse dynamics."""

    planning = _PLANNING

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build both models."""
        super().__init__(task, header)
        self.stride = _STRIDE_IN_MAZES if task.is_maze else _STRIDE_TO_GOALS if task.has_goal else 1
        states = levels.goal_horizon(task, self.stride) // self.stride + 1 if task.has_goal else _STATES
        network = PlanDit(self.observation_dim, _WIDTH, _BLOCKS)
        self.build(
            self.level(_UPPER, network, action_dim=0, horizon=states, end_dim=task.end_dim),
            self.level(_LOWER, action_dim=self.action_dim, horizon=2, end_dim=self.observation_dim),
        )

    def merit(self, plans: Tensor, goals: Tensor | None) -> Tensor:
        """Return the merit of plans (batch, count, states, Ds), shape (batch, count): V̂, or the states at the goal."""
        if goals is None:
            return self.guide().merit(plans.flatten(0, 1)).view(plans.shape[:2])
        scale = self.scale[self.action_dim :][: self.task.goal_dim]
        places, ends = (x[..., : self.task.goal_dim] * scale for x in (plans, goals[:, None, None]))
        at = at_goal(self.task, places.cpu().numpy(), ends.cpu().numpy(), scale.cpu().numpy())
        return torch.as_tensor(at.sum(axis=-1), device=plans.device)

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        index = torch.as_tensor(np.flatnonzero(running), device=observations.device)
        s, ends = observations[index], None if goals is None else goals[index]
        plans = self.drawn(s, ends, _CANDIDATES)
        best = levels.best_of(plans, self.merit(plans, ends))
        actions = torch.zeros(len(observations), self.action_dim, device=observations.device)
        actions[index] = self.between(s, best[:, 1])[:, 0, : self.action_dim]
        return actions


def window_weights(returns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return exp(2 (v - 1)), shape (N,), with v the return to go (N,) at a window's start scaled to [-1, 1]."""
    spread = float(returns.max() - returns.min()) or 1.0
    v = 2 * (returns - returns.min()) / spread - 1
    weights: NDArray[np.float32] = np.exp(_SHARPNESS * (v - 1)).astype(np.float32)
    return weights


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train planner and inverse dynamics by Diffuser's loss, `method_steps` each, and V̂ by least squares."""
    policy = Policy.of(task, raw)
    levels.learn_value(policy.value, task, raw, seed)
    policy.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    states = dataclasses.replace(raw, actions=raw.actions[:, :0])
    segments = levels.whole_windows(states, task, policy.stride * (policy.upper.horizon - 1) + 1, "dv")
    if not task.has_goal:
        last = policy.normalise(raw.next_observations[episode_slices(raw.ended)[:, 1] - 1])
        value = levels.VALUE
        beyond = value_beyond(policy.value, last)
        returns = returns_to_go(raw, value.discount, base.termination_penalty(task), beyond)
        segments = dataclasses.replace(segments, weights=window_weights(returns))
    windows = Windows(states, segments, task, device, policy.stride)
    upper = levels.fit(policy.upper, windows, _UPPER, config, generator, "dv planner")
    segments = levels.whole_windows(raw, task, policy.stride + 1, "dv")
    windows = Windows(raw, segments, task, device, policy.stride)
    lower = levels.fit(policy.lower, windows, _LOWER, config, generator, "dv inverse dynamics")
    policy.losses = levels.added(upper, lower)
    return policy
