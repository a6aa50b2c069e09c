"""RvS (Emmons et al., 2022): supervised learning of actions, conditioned on their outcome.

Without a goal, the outcome is the mean reward of the episode's remaining steps (RvS-R); with one, it is the goal
(RvS-G). Width, learning rate and loss are the paper's; the batch is smaller than its 16384.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_bounds
from dmemm.methods import base
from dmemm.progress import progress
from dmemm.tasks import Task

_WIDTH = 1024
_BATCH = 256
_LEARNING_RATE = 1e-3


class Policy(base.Policy):
    """Two hidden layers from state and outcome to the action.

    Attributes:
        target: shape (1,), the standardised outcome to act for: the mean reward per step of the data's best episode.
    """

    target: Tensor

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build the layers."""
        super().__init__(task, header)
        self.register_buffer("target", torch.zeros(1))
        self.network = nn.Sequential(
            nn.Linear(self.observation_dim + (task.goal_dim or 1), _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, self.action_dim),
        )

    def forward(self, s: Tensor, outcome: Tensor) -> Tensor:
        """Normalised actions (batch, Da) for normalised states (batch, Ds) and outcomes (batch, goal_dim or 1)."""
        return self.network(torch.cat([s, outcome], dim=-1))

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        outcome = self.target.expand(len(observations), 1) if goals is None else goals
        return self(observations, outcome).clamp(self.low, self.high)


def mean_rewards_to_go(raw: RawData, task: Task) -> tuple[NDArray[np.float64], float]:
    """Return the mean reward to go of each transition, shape (N,), and that of the best episode from its start.

    The mean is over the steps that an episode could still last, so an early fall lowers it.
    """
    start, end = episode_bounds(raw.ended)
    index = np.arange(len(raw.rewards))
    total = np.concatenate([[0.0], np.cumsum(raw.rewards, dtype=np.float64)])
    left = np.maximum(task.episode_steps - (index - start), end - index)
    means = (total[end] - total[index]) / left
    return means, float(means[np.unique(start)].max())


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train by least squares on the data's actions."""
    policy = Policy.of(task, raw).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    s = policy.normalise(raw.observations)
    s_next = policy.normalise(raw.next_observations)
    a = policy.normalise_actions(raw.actions)
    ends = torch.as_tensor(episode_bounds(raw.ended)[1], device=device)
    means, best = mean_rewards_to_go(raw, task)
    deviation = float(means.std()) or 1.0
    policy.target.fill_((best - float(means.mean())) / deviation)
    outcomes = torch.as_tensor((means - means.mean()) / deviation, dtype=torch.float32, device=device)[:, None]

    optimiser = torch.optim.Adam(policy.parameters(), lr=_LEARNING_RATE, fused=True)
    curve = base.LossCurve(config.method_steps)
    for _ in progress(range(config.method_steps), f"rvs {task.name} seed {seed}"):
        index = torch.randint(len(a), (_BATCH,), generator=generator, device=device)
        if task.has_goal:  # the goal is the place of a random later step of the same episode
            share = torch.rand(_BATCH, generator=generator, device=device)
            later = index + (share * (ends[index] - index)).long()
            outcome = s_next[later, : task.goal_dim]
        else:
            outcome = outcomes[index]
        loss = functional.mse_loss(policy(s[index], outcome), a[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        curve.add(loss)
    policy.losses = curve.rows
    return policy
