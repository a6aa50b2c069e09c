"""Planning: reverse diffusion under dual guidance (eq. 13, algorithm 1)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
    model: DiffusionModel, guide: Guide, values: Tensor, alpha: float, t_stopgrad: int, generator: torch.Generator
) -> Tensor:
    """Draw one plan for each row of `values` by ancestral sampling, guided.

    τ^{k-1} ~ N(μ_θ(τ^k, k) + α σ_k² g, σ_k² I), eqs. 3, 4 and 13. g is taken at the denoised estimate τ̂^0 of the
    step, as R̂ and T̂ know clean plans only; no entry is moved by more than σ_k, since the gradient of a sharp log T̂
    is unbounded.

    Args:
        model: the trained diffusion model.
        guide: J; unused where α is 0 or in the last `t_stopgrad` steps.
        values: shape (batch, horizon, dim), normalised; the known entries (first observation, goal) are read.
        alpha: α, the guide scale.
        t_stopgrad: last steps without guidance.
        generator: of the noise, on the model's device.

    Returns:
        τ^0, shape (batch, horizon, dim).
    """
    process, conditioning = model.process, model.conditioning

    def noise() -> Tensor:
        return torch.randn(values.shape, generator=generator, device=values.device)

    with torch.no_grad():
        tau = conditioning.apply(noise(), values)
        for step in reversed(range(process.steps)):
            k = torch.full((len(values),), step, device=values.device)
            with torch.autocast(values.device.type, torch.bfloat16, enabled=values.is_cuda):
                sample = model.estimate(tau, k, values).float()
            mean = process.reverse_mean(tau, k, process.noise_from_sample(tau, k, sample))
            sigma = process.sigmas[step]
            if guide.active and alpha > 0 and step >= t_stopgrad:
                mean = mean + (alpha * sigma**2 * guide.gradient(sample)).clamp(-sigma, sigma)
            tau = conditioning.apply(mean + sigma * noise() if step > 0 else mean, values)
    return tau
