"""Planning: reverse diffusion under dual guidance (eq. 13, algorithm 1)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dmemm.config import EvaluateConfig
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.outcome import Familiarity, Outcome
from dmemm.models.mechanisms import DynamicsEnsemble
from dmemm.models.plan_value import PlanValue


@dataclass(frozen=True)
class Guide:
    """The objective that guides the sampling of plans and ranks the candidates.

    The objective is the outcome of a plan, with a goal its nearness to the data, plus λ Σ_t log T̂(s_{t+1} | s_t, a_t).
    Its gradient is the g of eq. 13. The candidate with the largest objective minus `veto` times its transition error is
    chosen. This error is the mean over the plan's transitions.

    With `rollout`, the outcome by which candidates are chosen is the lower of two: that of the planned states, and that
    of the states that T̂ predicts for the plan's actions. Guidance is by the planned states alone: with a
    gradient through T̂, a plan takes nearly twice as long and is no better (docs/results/guidance.md).

    Attributes:
        action_dim: size of a.
        outcome: expected outcome of a clean plan; with a goal, how near it stays to the data. None with `plan_value`.
        dynamics: T̂. May be None if λ and `veto` are 0 and `rollout` is False.
        lambda_guide: λ.
        veto: weight of the transition error in the choice.
        plan_value: J(τ^k, k), the value of a noisy plan, used instead of `outcome`.
        rollout: whether the predicted states count in the choice.
    """

    action_dim: int
    outcome: Outcome | Familiarity | None = None
    dynamics: DynamicsEnsemble | None = None
    lambda_guide: float = 0.0
    veto: float = 0.0
    plan_value: PlanValue | None = None
    rollout: bool = False

    @property
    def steers(self) -> bool:
        """Whether there is an objective, whose gradient can guide the sampling."""
        return self.outcome is not None or self.plan_value is not None or self.lambda_guide > 0

    @property
    def chooses(self) -> bool:
        """Whether candidates can be ranked: by an objective, by the veto, or by both."""
        return self.steers or self.veto > 0

    def objective(self, tau: Tensor) -> Tensor:
        """The objective of clean plans, shape (batch,), for tau of shape (batch, horizon, dim), normalised."""
        value = self._of_clean(tau, self.rollout)
        if self.plan_value is not None:
            value = value + self.plan_value(tau, torch.zeros(len(tau), device=tau.device))
        return value

    def merit(self, tau: Tensor) -> Tensor:
        """Return the objective minus the veto of clean plans, by which candidates are ranked, shape (batch,)."""
        value = self.objective(tau)
        if self.veto == 0:
            return value
        assert self.dynamics is not None
        return value - self.veto * transition_errors(tau, self.action_dim, self.dynamics).mean(dim=-1)

    def gradient(self, sample: Tensor, tau: Tensor, k: Tensor) -> Tensor:
        """The g of eq. 13, of the shape of `tau`.

        Args:
            sample: the denoised estimate τ̂^0, at which R̂, V̂ and T̂ are taken: they know clean plans only.
            tau: τ^k, at which J is taken.
            k: shape (batch,).
        """
        gradient = torch.zeros_like(tau)
        if self.outcome is not None or self.lambda_guide > 0:
            gradient = _slope(lambda x: self._of_clean(x, rollout=False), sample)
        if (plan_value := self.plan_value) is not None:
            gradient = gradient + _slope(lambda x: plan_value(x, k), tau)
        return gradient

    def _of_clean(self, tau: Tensor, rollout: bool) -> Tensor:
        """The objective, J left out."""
        s, a = tau[..., self.action_dim :], tau[..., : self.action_dim]
        value = tau.new_zeros(len(tau))
        if self.outcome is not None:
            brings = self.outcome(s, a)
            if rollout:
                assert self.dynamics is not None
                kept = self.outcome(self.dynamics.rollout(s[:, 0], a), a)
                # In a long plan, predictions may overflow; argmax would take NaN for the largest.
                brings = torch.where(kept.isnan(), -torch.inf, torch.minimum(brings, kept))
            value = value + brings
        if self.lambda_guide > 0:
            assert self.dynamics is not None
            log_likelihood = self.dynamics.log_likelihood(s[:, :-1], a[:, :-1], s[:, 1:])
            value = value + self.lambda_guide * log_likelihood.sum(dim=-1)
        return value


def _slope(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(at).sum(), at)
    return gradient


def transition_errors(tau: Tensor, action_dim: int, dynamics: DynamicsEnsemble) -> Tensor:
    """The terms of eq. 9, ‖s' - T̂(s, a)‖² of each transition of a plan: (batch, horizon - 1)."""
    s, a = tau[..., action_dim:], tau[..., :action_dim]
    return (s[:, 1:] - dynamics(s[:, :-1], a[:, :-1])).square().sum(dim=-1)


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

    By default, use ancestral sampling, as in the paper: τ^{k-1} ~ N(μ_θ(τ^k, k) + α σ_k² g, σ_k² I), eqs. 3, 4 and 13.
    With `sampling_steps` between 0 and K, use DDIM (Song et al., 2021) over that many levels, or over all levels of a
    warm start if it has fewer. DDIM adds no noise; its σ_k is that of ancestral sampling for the same jump. Guidance
    moves no entry by more than σ_k, because the gradient of a sharp log T̂ is unbounded.

    Args:
        model: the trained diffusion model.
        guide: g; unused where α is 0 or in the last `t_stopgrad` levels.
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
    ddim = 0 < config.sampling_steps < process.steps
    levels = [round(x) for x in np.linspace(top - 1, 0, min(config.sampling_steps, top) if ddim else top)]
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
            if guide.steers and config.alpha > 0 and level >= config.t_stopgrad:
                mean = mean + (config.alpha * sigma**2 * guide.gradient(sample, tau, k)).clamp(-sigma, sigma)
            tau = conditioning.apply(mean if ddim or level == 0 else mean + sigma * noise(), values)
    if trace is not None:
        trace(tau)
    return tau
