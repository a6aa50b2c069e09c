"""Planning: reverse diffusion under dual guidance (eq. 13, algorithm 1)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dmemm.config import EvaluateConfig
from dmemm.diffusion.model import DiffusionModel
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel


@dataclass(frozen=True)
class Guide:
    """The guide's objective J(τ) = Σ_t R̂(s_t, a_t) + λ Σ_t log T̂(s_{t+1} | s_t, a_t), whose gradient is eq. 13's g.

    Attributes:
        action_dim: size of a.
        reward: R̂, or None (mazes: the goal is in the plan already).
        dynamics: T̂, or None without transition guidance.
        lambda_guide: λ.
        ended: normalised states (..., Ds) → bool (...), the states in which an episode ends; None if it never does.
    """

    action_dim: int
    reward: RewardModel | None
    dynamics: DynamicsEnsemble | None
    lambda_guide: float
    ended: Callable[[Tensor], Tensor] | None = None

    def objective(self, tau: Tensor) -> Tensor:
        """J of each plan, shape (batch,), for tau of shape (batch, horizon, dim), normalised."""
        s, a = tau[..., self.action_dim :], tau[..., : self.action_dim]
        value = torch.zeros(tau.shape[0], device=tau.device)
        if self.reward is not None:
            value = value + self._rewards(s, a, self.reward).sum(dim=-1)
        if self.dynamics is not None:
            log_likelihood = self.dynamics.log_likelihood(s[:, :-1], a[:, :-1], s[:, 1:])
            value = value + self.lambda_guide * log_likelihood.sum(dim=-1)
        return value

    def _rewards(self, s: Tensor, a: Tensor, reward: RewardModel) -> Tensor:
        """R̂ of every step, shape (batch, horizon); what an end leaves is a reward of zero, as R̂ standardises it."""
        rewards = reward(s, a)
        if self.ended is None:
            return rewards
        over = self.ended(s).cumsum(dim=-1) > 0
        return torch.where(over, -reward.target_mean / reward.target_scale, rewards)

    @property
    def active(self) -> bool:
        """Whether there is anything to follow."""
        return self.reward is not None or self.dynamics is not None

    def gradient(self, tau: Tensor) -> Tensor:
        """The g of eq. 13, of the shape of `tau`: with respect to states and actions, in one backward pass."""
        with torch.enable_grad():
            tau = tau.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.objective(tau).sum(), tau)
        return gradient


def sample_plans(
    model: DiffusionModel,
    guide: Guide,
    values: Tensor,
    config: EvaluateConfig,
    generator: torch.Generator,
    previous: Tensor | None = None,
    trace: Callable[[Tensor], object] | None = None,
) -> Tensor:
    """Draw one plan for each row of `values`, guided.

    Ancestral sampling as the paper does: τ^{k-1} ~ N(μ_θ(τ^k, k) + α σ_k² g, σ_k² I), eqs. 3, 4 and 13; or with
    `sampling_steps` below K, DDIM (Song et al., 2021): that many levels and no noise, with the σ_k of ancestral
    sampling for the same jump. g is taken at the denoised estimate τ̂^0 of the step, as R̂ and T̂ know clean plans only;
    no entry is moved by more than σ_k, since the gradient of a sharp log T̂ is unbounded.

    Args:
        model: the trained diffusion model.
        guide: J; unused where α is 0 or in the last `t_stopgrad` levels.
        values: shape (batch, horizon, dim), normalised; the known entries (first observation, goal) are read.
        config: `alpha`, `t_stopgrad`, `sampling_steps`, `warm_start`.
        generator: of the noise, on the model's device.
        previous: plans to start from, shape of `values`: they are noised up to level `warm_start` only (Janner et al.,
            2022, section 5.4). None: from noise.
        trace: called with τ^k at every level, the first and the last included.

    Returns:
        τ^0, shape (batch, horizon, dim).
    """
    process, conditioning = model.process, model.conditioning

    def noise() -> Tensor:
        return torch.randn(values.shape, generator=generator, device=values.device)

    top = process.steps if previous is None else min(config.warm_start, process.steps)
    ddim = 0 < config.sampling_steps < top
    levels = [round(x) for x in np.linspace(top - 1, 0, config.sampling_steps if ddim else top)]
    with torch.no_grad():
        tau = noise() if previous is None else process.q_sample(previous, torch.tensor(top - 1), noise())
        tau = conditioning.apply(tau, values)
        for level, below in pairwise([*levels, -1]):
            if trace is not None:
                trace(tau)
            k = torch.full((len(values),), level, device=values.device)
            with torch.autocast(values.device.type, torch.bfloat16, enabled=values.is_cuda):
                sample = model.estimate(tau, k, values).float()
            predicted = process.noise_from_sample(tau, k, sample)
            if ddim:
                mean, sigma = process.ddim_mean(sample, predicted, below), process.jump_sigma(level, below)
            else:
                mean, sigma = process.reverse_mean(tau, k, predicted), process.sigmas[level]
            if guide.active and config.alpha > 0 and level >= config.t_stopgrad:
                mean = mean + (config.alpha * sigma**2 * guide.gradient(sample)).clamp(-sigma, sigma)
            tau = conditioning.apply(mean if ddim or level == 0 else mean + sigma * noise(), values)
    if trace is not None:
        trace(tau)
    return tau
