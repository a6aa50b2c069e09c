"""MOReL (Kidambi et al., 2020): a policy trained in a learned model whose episodes end, at a loss, where it is unsure.

The transition ensemble and the reward model are of the kind of DMEMM's guide, trained here on the same raw data. As in
the paper, the policy is Gaussian, starts from an imitation of the data and follows the natural gradient (Kakade, 2001).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_bounds
from dmemm.methods import base
from dmemm.methods.behaviour import GaussianPolicy, imitate
from dmemm.methods.mppi import learned_model
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.terminations import termination

# A state-action pair is unknown if the members' disagreement exceeds the data's mean by so many standard deviations.
_THRESHOLD = 5.0
_EPISODES, _STEPS = 100, 100  # in the model, each iteration; each episode starts at a state of the data
_DISCOUNT, _LAMBDA = 0.99, 0.97  # of returns, of advantages (Schulman et al., 2016)
_STEPS_AN_ITERATION = 50  # `method_steps` for each iteration
_IMITATION_STEPS = 4000
_VALUE_EPOCHS = 3
_KL, _DAMPING, _CONJUGATE_STEPS = 0.02, 0.01, 10  # of the first natural gradient step; the KL falls to 0
_FISHER_EVERY = 5  # the Fisher matrix is estimated on every fifth state
_LOG_STD = (-2.5, -0.5)  # range, for normalised actions


class Policy(base.Policy):
    """The mean of a Gaussian over actions, given the observation and, if there is one, the goal."""

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build the policy."""
        super().__init__(task, header)
        self.policy = GaussianPolicy(self.observation_dim + task.goal_dim, self.action_dim)

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        return self.policy(known(observations, goals)).clamp(self.low, self.high)


def known(s: Tensor, goals: Tensor | None) -> Tensor:
    """Return the policy's input: s (n, Ds), with the goals (n, goal_dim) appended if there are any."""
    return s if goals is None else torch.cat([s, goals], dim=-1)


def disagreement(dynamics: DynamicsEnsemble, s: Tensor, a: Tensor) -> Tensor:
    """Return the largest distance between two members' mean next states, (n,), for normalised s (n, Ds), a (n, Da)."""
    means = dynamics.outputs(s, a)[..., : dynamics.observation_dim] * dynamics.target_scale
    return (means[:, None] - means[None]).norm(dim=-1).amax(dim=(0, 1))


class PessimisticModel:
    """The paper's pessimistic MDP: the learned model, where unknown state-action pairs end the episode at a loss.

    States and actions are normalised as for `base.Policy`. The reward is R̂, or minus the distance to the goal. The
    loss is the worst reward for ever: the data's lowest reward, or minus the largest distance to a goal.

    Attributes:
        states: states of the data, shape (N, Ds).
        threshold: disagreement above which a state-action pair is unknown.
        loss: reward of an unknown state-action pair.
    """

    def __init__(self, policy: base.Policy, raw: RawData, dynamics: DynamicsEnsemble, reward: RewardModel) -> None:
        """Measure the disagreement on the data.

        Args:
            policy: provides the normalisers.
            raw: the data.
            dynamics: the ensemble.
            reward: the reward model.
        """
        self.dynamics, self.reward = dynamics, reward
        self.low, self.high = policy.low, policy.high
        self.states, actions = policy.normalise(raw.observations), policy.normalise_actions(raw.actions)
        with torch.no_grad():
            parts = zip(self.states.split(10_000), actions.split(10_000), strict=True)
            seen = torch.cat([disagreement(dynamics, s, a) for s, a in parts])
        self.threshold = float(seen.mean() + _THRESHOLD * seen.std())
        self.goal_dim = policy.task.goal_dim
        places = self.states[:, : self.goal_dim]
        worst = -float((places.amax(dim=0) - places.amin(dim=0)).norm()) if self.goal_dim else float(raw.rewards.min())
        self.loss = worst / (1 - _DISCOUNT)
        dim = policy.action_dim
        # With a goal, an end would also end the sum of distances, and seem better than the way.
        self.ended = None if self.goal_dim else termination(policy.task, policy.center[dim:], policy.scale[dim:])

    def start(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw states of the data (count, Ds), and the places of others as goals (count, goal_dim)."""
        index = torch.randint(len(self.states), (2, count), generator=generator, device=generator.device)
        return self.states[index[0]], self.states[index[1], : self.goal_dim] if self.goal_dim else None

    def step(self, s: Tensor, a: Tensor, goals: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next states (n, Ds), the rewards (n,) and whether the episode ended, bool (n,)."""
        a = a.clamp(self.low, self.high)
        unknown = disagreement(self.dynamics, s, a) > self.threshold
        after = self.dynamics(s, a)
        if goals is None:
            gain = self.reward.restore(self.reward(s, a))
        else:
            gain = -(after[:, : self.goal_dim] - goals).norm(dim=-1)
        over = unknown if self.ended is None else unknown | self.ended(after)
        return after, torch.where(unknown, self.loss, gain), over


def advantages(rewards: Tensor, over: Tensor, values: Tensor) -> Tensor:
    """Compute generalised advantages Σ_i (γλ)^i δ_{t+i} up to the episode's end, shape (T, n).

    Args:
        rewards: shape (T, n).
        over: bool, shape (T, n), whether that step ended its episode.
        values: shape (T + 1, n), values of the states before each step and after the last.
    """
    result, ahead = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        going_on = (~over[t]).float()
        delta = rewards[t] + _DISCOUNT * going_on * values[t + 1] - values[t]
        result[t] = ahead = delta + _DISCOUNT * _LAMBDA * going_on * ahead
    return result


class Value(nn.Module):
    """The policy's value function; the network's output is in units of `scale`."""

    def __init__(self, inputs: int, scale: float) -> None:
        """Build the network and its optimiser."""
        super().__init__()
        self.network = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        self.scale, self.optimiser = scale, torch.optim.Adam(self.network.parameters(), lr=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return values, shape (...), for x of shape (..., inputs)."""
        values: Tensor = self.network(x)[..., 0] * self.scale
        return values

    def fit(self, x: Tensor, target: Tensor, generator: torch.Generator) -> None:
        """Fit by least squares to x (n, inputs) and target (n,), for a few epochs."""
        for _ in range(_VALUE_EPOCHS):
            for index in torch.randperm(len(x), generator=generator).split(256):
                loss = ((self(x[index]) - target[index]) / self.scale).square().mean()
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                self.optimiser.step()


def improve(
    policy: GaussianPolicy, value: Value, model: PessimisticModel, kl: float, generator: torch.Generator
) -> None:
    """Run an iteration: episodes in the model, restarted where one ends; a policy step; a fit of the value function."""
    s, goals = model.start(_EPISODES, generator)
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for _ in range(_STEPS):
            x = known(s, goals)
            a = policy(x) + policy.log_std.exp() * torch.randn(len(x), model.low.shape[0], generator=generator)
            s, gain, over = model.step(s, a, goals)
            steps.append((x, a, gain, over))
            fresh, others = model.start(_EPISODES, generator)
            s = torch.where(over[:, None], fresh, s)
            if goals is not None and others is not None:
                goals = torch.where(over[:, None], others, goals)
        seen, done, rewards, ends = (torch.stack(part) for part in zip(*steps, strict=True))
        x = torch.cat([seen, known(s, goals)[None]])
        values = value(x)
        advantage = advantages(rewards, ends, values)
    x, target = x[:-1].flatten(0, 1), (advantage + values[:-1]).flatten()
    flat = advantage.flatten()
    natural_step(policy, x, done.flatten(0, 1), (flat - flat.mean()) / flat.std().clamp(min=1e-6), kl)
    value.fit(x, target, generator)


def natural_step(policy: GaussianPolicy, x: Tensor, a: Tensor, advantage: Tensor, kl: float) -> None:
    """Take a step along F⁻¹∇J that changes the policy by about a given KL divergence.

    Args:
        policy: changed in place.
        x: inputs of the policy, shape (n, inputs).
        a: actions taken, shape (n, Da).
        advantage: their standardised advantages, shape (n,).
        kl: the divergence.
    """
    parameters = list(policy.parameters())
    slope = _flat(torch.autograd.grad((policy.log_prob(x, a) * advantage).mean(), parameters))
    few = x[::_FISHER_EVERY]
    mean, log_std = policy(few), policy.log_std
    variance = (2 * (log_std - log_std.detach())).exp()
    distance = ((mean - mean.detach()) / log_std.detach().exp()).square()
    divergence = (0.5 * (distance + variance) - log_std).sum(dim=-1).mean()
    bent = _flat(torch.autograd.grad(divergence, parameters, create_graph=True))

    def fisher(v: Tensor) -> Tensor:
        return _flat(torch.autograd.grad(bent @ v, parameters, retain_graph=True)) + _DAMPING * v

    direction = conjugate_gradient(fisher, slope)
    direction = direction * (2 * kl / (direction @ fisher(direction)).clamp(min=1e-12)).sqrt()
    with torch.no_grad():
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(parameters) + direction, parameters)
        policy.log_std.clamp_(*_LOG_STD)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Return an x with product(x) ≈ b, where `product` multiplies by a positive definite matrix."""
    x, rest = torch.zeros_like(b), b.clone()
    along, left = rest.clone(), rest @ rest
    for _ in range(_CONJUGATE_STEPS):
        if left < 1e-10:
            break
        image = product(along)
        size = left / (along @ image)
        x, rest = x + size * along, rest - size * image
        left, before = rest @ rest, left
        along = rest + left / before * along
    return x


def _flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train MPPI's models and an imitation, then take a natural gradient step for every 50 of `method_steps`."""
    generator = torch.Generator().manual_seed(seed)
    policy = Policy.of(task, raw)
    dynamics, reward = learned_model(task, raw, seed)
    model = PessimisticModel(policy, raw, dynamics.cpu().eval(), reward.cpu().eval())
    s, a, goals = model.states, policy.normalise_actions(raw.actions), None
    if model.goal_dim:
        goals = s[episode_bounds(raw.ended)[1] - 1, : model.goal_dim]
    imitate(policy.policy, known(s, goals), a, _IMITATION_STEPS, generator)
    with torch.no_grad():
        policy.policy.log_std.clamp_(*_LOG_STD)
    value = Value(s.shape[1] + model.goal_dim, abs(model.loss) or 1.0)
    iterations = config.method_steps // _STEPS_AN_ITERATION
    for i in progress(range(iterations), f"MOReL {task.name} seed {seed}"):
        improve(policy.policy, value, model, _KL * (1 - i / iterations), generator)
    return policy.to(device)
