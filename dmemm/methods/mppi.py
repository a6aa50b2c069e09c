"""MPPI (Williams et al., 2017) on a learned model: at each step, an average of random plans weighted by their returns.

The transition ensemble and the reward model are of the kind of DMEMM's guide, trained here on the same raw data.
Without a goal, the plans are drawn around an imitation of the data, where the model is accurate, and a value is added
after the last step (MBOP, Argenson and Dulac-Arnold, 2021).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import DynamicsConfig, MethodConfig, RewardConfig
from dmemm.data.raw import RawData
from dmemm.methods import base, levels
from dmemm.methods.behaviour import GaussianPolicy, imitate
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.tasks import Task
from dmemm.terminations import termination
from dmemm.training.mechanisms import fit_dynamics, fit_reward

_MEMBERS, _MODEL_WIDTH, _EPOCHS = 5, 64, 20
_IMITATION_STEPS = 4000
_AROUND_PRIOR = {"hopper": (0.1, 0.7)}  # `noise` and `kept`; elsewhere 0.05 and 0.2
_TEMPERATURE = 0.3  # of the weights, relative to the standard deviation of the plans' returns


class Policy(base.Policy):
    """The models, and the last plan of each environment, from which the next step starts.

    Attributes:
        horizon: steps of a plan.
        samples: plans drawn at each step in each environment.
        noise: standard deviation of the plans' actions, relative to the data's range.
        kept: weight of the last plan in the actions to which noise is added; the prior has the rest.
    """

    takes_steps = False

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build the models."""
        super().__init__(task, header)
        sizes = (self.observation_dim, self.action_dim)
        self.dynamics = DynamicsEnsemble(*sizes, _MEMBERS, _MODEL_WIDTH)
        self.reward = RewardModel(*sizes, 1, _MODEL_WIDTH)
        self.value = ValueModel(self.observation_dim, 0, 1, levels.VALUE.mechanism_width)
        self.prior = GaussianPolicy(*sizes)
        self.horizon, self.samples = (16, 256) if task.has_goal else (8, 100)
        self.noise, self.kept = (0.3, 1.0) if task.has_goal else _AROUND_PRIOR.get(task.body, (0.05, 0.2))
        self.plans = torch.zeros(0)
        self.generator = torch.Generator()

    def start(self, seed: int) -> None:
        """Seed the plans' noise."""
        self.generator = torch.Generator(self.center.device).manual_seed(seed)

    def reset(self) -> None:
        """Forget the plans."""
        self.plans = torch.zeros(0)

    def roll_out(
        self, s: Tensor, plans: Tensor, noise: Tensor, kept: float, goals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Roll out actions kept · plan + (1 - kept) · prior + noise, clamped to the data's range; all is normalised.

        Args:
            s: first states, shape (n, Ds).
            plans: shape (n, horizon, Da).
            noise: shape of `plans`.
            kept: see `Policy`.
            goals: shape (n, goal_dim).

        Returns:
            The actions (n, horizon, Da) and their predicted returns (n,). Without a goal, the return is Σ R̂ up to the
            episode's end, plus the termination penalty if it ends, else plus V̂ of the last state. With a goal, it is
            minus the sum of the distances to it, because the data's reward knows only the data's goals.
        """
        tried = []
        action_dim = self.action_dim
        # With a goal, an end would also end the sum of distances, and seem better than the way.
        ended = None if goals is not None else termination(self.task, self.center[action_dim:], self.scale[action_dim:])
        total = torch.zeros(len(s), device=s.device)
        alive = torch.ones(len(s), device=s.device)
        for planned, off in zip(plans.unbind(dim=1), noise.unbind(dim=1), strict=True):
            a = planned if kept == 1 else kept * planned + (1 - kept) * self.prior(s)
            a = (a + off).clamp(self.low, self.high)
            tried.append(a)
            if goals is None:
                gain = self.reward.restore(self.reward(s, a))
            s = self.dynamics(s, a)
            if goals is not None:
                gain = -(s[:, : self.task.goal_dim] - goals).norm(dim=-1)
            total = total + alive * gain
            if ended is not None:
                over = ended(s)
                total = total + alive * over * base.termination_penalty(self.task)
                alive = alive * ~over
        if goals is None:
            total = total + alive * self.value.restore(self.value(s))
        return torch.stack(tried, dim=1), total

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        batch, device = len(observations), observations.device
        if len(self.plans) != batch:
            self.plans = self.first(observations)
        index = torch.as_tensor(np.flatnonzero(running), device=device)
        best = self.improved(observations[index], self.plans[index], None if goals is None else goals[index])
        actions = torch.zeros(batch, self.action_dim, device=device)
        actions[index] = best[:, 0]
        self.plans[index] = torch.cat([best[:, 1:], best[:, -1:]], dim=1)
        return actions

    def first(self, observations: Tensor) -> Tensor:
        """Return the plans that an episode starts from: the middle of the range with a goal, else the prior's."""
        plans = ((self.low + self.high) / 2).expand(len(observations), self.horizon, -1).clone()
        if self.task.has_goal:
            return plans
        return self.roll_out(observations, plans, torch.zeros_like(plans), 0.0, None)[0]

    def improved(self, observations: Tensor, plans: Tensor, goals: Tensor | None) -> Tensor:
        """Return weighted averages of random plans around `plans` (n, horizon, Da), of the same shape."""
        shape = (len(plans) * self.samples, self.horizon, self.action_dim)
        noise = torch.randn(shape, generator=self.generator, device=plans.device) * (
            self.noise * (self.high - self.low)
        )
        around, each = (x.repeat_interleave(self.samples, dim=0) for x in (plans, observations))
        ends = None if goals is None else goals.repeat_interleave(self.samples, dim=0)
        tried, returns = self.roll_out(each, around, noise, self.kept, ends)
        returns = returns.view(-1, self.samples)
        spread = returns.std(dim=1, keepdim=True).clamp(min=1e-6)
        weights = torch.softmax(returns / (_TEMPERATURE * spread), dim=1)
        return (weights[..., None, None] * tried.view(len(plans), self.samples, *tried.shape[1:])).sum(dim=1)

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """Plan as at an episode's first step; the model predicts the states from the actions."""
        actions = self.improved(observations, self.first(observations), goals)
        return torch.cat([actions, self.dynamics.rollout(observations, actions)], dim=-1)


def learned_model(task: Task, raw: RawData, seed: int) -> tuple[DynamicsEnsemble, RewardModel]:
    """Fit the ensemble by maximum likelihood and the reward model by least squares."""
    dynamics, _ = fit_dynamics(task, raw, DynamicsConfig(_MEMBERS, _MODEL_WIDTH, _EPOCHS), seed)
    reward, _ = fit_reward(task, raw, RewardConfig(_MODEL_WIDTH, _EPOCHS), seed)
    return dynamics, reward


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train the models, each with its own number of steps; `method_steps` has no effect."""
    policy = Policy.of(task, raw)
    dynamics, reward = learned_model(task, raw, seed)
    policy.dynamics.load_state_dict(dynamics.state_dict())
    policy.reward.load_state_dict(reward.state_dict())
    levels.learn_value(policy.value, task, raw, seed)
    if not task.has_goal:
        s, a = policy.normalise(raw.observations), policy.normalise_actions(raw.actions)
        imitate(policy.prior, s, a, _IMITATION_STEPS, torch.Generator().manual_seed(seed))
    return policy.to(device)
