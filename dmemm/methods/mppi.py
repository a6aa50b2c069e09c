"""MPPI (Williams et al., 2017) on a learned model: at each step, an average of random plans weighted by their returns.

The transition ensemble and the reward model are those of DMEMM's own guide, trained here on the same raw data.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import DynamicsConfig, MethodConfig, RewardConfig
from dmemm.data.raw import RawData
from dmemm.methods import base
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.tasks import Task
from dmemm.terminations import termination
from dmemm.training.mechanisms import fit_dynamics, fit_reward

_MEMBERS, _MODEL_WIDTH, _EPOCHS, _PATIENCE = 5, 64, 20, 3
_HORIZON = 16
_SAMPLES = 256  # plans a step, of each environment
_NOISE = 0.3  # deviation of the plans' actions, as a share of the data's range
_TEMPERATURE = 0.3  # of the weights, as a share of the deviation of the plans' returns


class Policy(base.Policy):
    """The model, and the plan of each environment, which the next step starts from."""

    takes_steps = False

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build the models."""
        super().__init__(task, header)
        sizes = (self.observation_dim, self.action_dim)
        self.dynamics = DynamicsEnsemble(*sizes, _MEMBERS, _MODEL_WIDTH)
        self.reward = RewardModel(*sizes, 1, _MODEL_WIDTH)
        self.plans = torch.zeros(0)
        self.generator = torch.Generator()

    def start(self, seed: int) -> None:
        """Seed the plans' noise."""
        self.generator = torch.Generator(self.center.device).manual_seed(seed)

    def reset(self) -> None:
        """Forget the plans."""
        self.plans = torch.zeros(0)

    def returns(self, s: Tensor, plans: Tensor, goals: Tensor | None) -> Tensor:
        """Of plans (n, horizon, Da) from states (n, Ds), both normalised: Σ R̂ up to the end of the episode, (n,).

        An end costs the termination penalty. With a goal: minus the distances to it, as the data's reward knows its
        own goals only.
        """
        action_dim = self.action_dim
        ended = termination(self.task, self.center[action_dim:], self.scale[action_dim:])
        total = torch.zeros(len(s), device=s.device)
        alive = torch.ones(len(s), device=s.device)
        for a in plans.unbind(dim=1):
            if goals is None:
                gain = self.reward(s, a) * self.reward.target_scale + self.reward.target_mean
            s = self.dynamics(s, a)
            if goals is not None:
                gain = -(s[:, : self.task.goal_dim] - goals).norm(dim=-1)
            total = total + alive * gain
            if ended is not None:
                over = ended(s)
                if goals is None:
                    total = total + alive * over * base.termination_penalty(self.task)
                alive = alive * ~over
        return total

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        batch, device = len(observations), observations.device
        if len(self.plans) != batch:
            self.plans = ((self.low + self.high) / 2).expand(batch, _HORIZON, -1).clone()
        index = torch.as_tensor(np.flatnonzero(running), device=device)
        best = self.improved(observations[index], self.plans[index], None if goals is None else goals[index])
        actions = torch.zeros(batch, self.action_dim, device=device)
        actions[index] = best[:, 0]
        self.plans[index] = torch.cat([best[:, 1:], best[:, -1:]], dim=1)
        return actions

    def improved(self, observations: Tensor, plans: Tensor, goals: Tensor | None) -> Tensor:
        """Weighted averages of random plans around `plans` (n, horizon, Da): of the same shape."""
        shape = (len(plans), _SAMPLES, _HORIZON, self.action_dim)
        noise = torch.randn(shape, generator=self.generator, device=plans.device) * (_NOISE * (self.high - self.low))
        tried = (plans[:, None] + noise).clamp(self.low, self.high)
        each = observations.repeat_interleave(_SAMPLES, dim=0)
        ends = None if goals is None else goals.repeat_interleave(_SAMPLES, dim=0)
        returns = self.returns(each, tried.flatten(0, 1), ends).view(-1, _SAMPLES)
        spread = returns.std(dim=1, keepdim=True).clamp(min=1e-6)
        weights = torch.softmax(returns / (_TEMPERATURE * spread), dim=1)
        return (weights[..., None, None] * tried).sum(dim=1)

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """As at an episode's first step; the states are those that the model expects of the actions."""
        start = ((self.low + self.high) / 2).expand(len(observations), _HORIZON, -1)
        actions = self.improved(observations, start, goals)
        states = [observations]
        for a in actions[:, :-1].unbind(dim=1):
            states.append(self.dynamics(states[-1], a))
        return torch.cat([actions, torch.stack(states, dim=1)], dim=-1)


def learned_model(task: Task, raw: RawData, seed: int) -> tuple[DynamicsEnsemble, RewardModel]:
    """The ensemble by likelihood, the reward by least squares."""
    dynamics, _ = fit_dynamics(task, raw, DynamicsConfig(_MEMBERS, _MODEL_WIDTH, _EPOCHS, _PATIENCE), seed)
    reward, _ = fit_reward(task, raw, RewardConfig(_MODEL_WIDTH, _EPOCHS, _PATIENCE), seed)
    return dynamics, reward


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """The model is all that learns; `method_steps` plays no part."""
    policy = Policy.of(task, raw)
    dynamics, reward = learned_model(task, raw, seed)
    policy.dynamics.load_state_dict(dynamics.state_dict())
    policy.reward.load_state_dict(reward.state_dict())
    return policy.to(device)
