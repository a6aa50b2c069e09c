"""The training objective: L_total = L_wdiff + λ_tr L_tr + λ_rd L_rd (eq. 12).

Each term of the paper is a sum over a plan's entries or steps. All three are divided here by the same number, the
entries of a plan (horizon × transition_dim), which leaves the ratios of eq. 12 as printed and makes the diffusion
loss the mean square that Diffuser's code minimises.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmemm.config import TrainConfig
from dmemm.data.windows import Batch
from dmemm.device import mixed_precision
from dmemm.diffusion.denoise import denoise_chain
from dmemm.diffusion.model import DiffusionModel
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel


def transition_loss(
    tau0: Tensor, mask: Tensor, action_dim: int, dynamics: DynamicsEnsemble, member: Tensor | None = None
) -> Tensor:
    """Eq. 9 of each plan: Σ_t ‖s_{t+1} - T̂(s_t, a_t)‖² over transitions that really happened.

    Args:
        tau0: τ̂^0, shape (..., horizon, dim), normalised.
        mask: bool, shape (..., horizon).
        action_dim: size of a.
        dynamics: T̂.
        member: the member of the ensemble to ask, shape (1,); the mean of all by default.

    Returns:
        Shape (...).
    """
    now, following = tau0[..., :-1, :], tau0[..., 1:, action_dim:]
    predicted = dynamics(now[..., action_dim:], now[..., :action_dim], member)
    return ((following - predicted).square().sum(dim=-1) * (mask[..., 1:] & mask[..., :-1])).sum(dim=-1)


def reward_loss(tau0: Tensor, mask: Tensor, action_dim: int, reward: RewardModel) -> Tensor:
    """Eq. 10 of each plan: -Σ_t R̂(s_t, a_t), R̂ standardised; shapes as in `transition_loss`."""
    return -(reward(tau0[..., action_dim:], tau0[..., :action_dim]) * mask).sum(dim=-1)


@dataclass(frozen=True)
class Objective:
    """Eq. 12 for one variant.

    Attributes:
        config: the λs and the choices of method (`denoise`, `modulation_weight`, `weighting`).
        model: network and process.
        dynamics, reward: T̂ and R̂, frozen; None where their λ is 0.
    """

    config: TrainConfig
    model: DiffusionModel
    dynamics: DynamicsEnsemble | None
    reward: RewardModel | None

    @property
    def plans_per_step(self) -> int:
        """Number of plans to draw for one gradient step, which makes `batch_size` evaluations with every estimator.

        An estimator that needs one level evaluates the network once on each of `batch_size` plans. An estimator that
        needs all K levels evaluates it K times on each plan. The remaining evaluations use random levels of one more
        plan, and eq. 8's sum for this plan runs over those levels.
        """
        return math.ceil(self.config.batch_size / self.model.process.steps) if self._chained else self.config.batch_size

    @property
    def _chained(self) -> bool:
        """Whether τ̂^0 needs the network at every level (eq. 8's sum)."""
        return self.config.denoise != "tweedie" and not (self.dynamics is None and self.reward is None)

    def terms(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The scalar terms L_wdiff, L_tr, L_rd (absent where not used) and their sum `total`."""
        device, (horizon, dim) = batch.tau.device, batch.tau.shape[1:]
        noise = torch.randn(batch.tau.shape, generator=generator, device=device)
        plan, k = self._evaluations(len(batch.tau), generator, device)
        tau0, mask = batch.tau[plan], batch.mask[plan]
        process, conditioning = self.model.process, self.model.conditioning
        tau = conditioning.apply(process.q_sample(tau0, k, noise[plan]), tau0)
        with mixed_precision(device, self.model.parameter_count):
            output = self.model.network(tau, k)
        output = output.to(tau0.dtype)

        target = tau0 if self.model.predict == "sample" else noise[plan]
        error = torch.where(conditioning.known, 0, output - target).square() * self._entry_weights(horizon, dim, tau0)
        each = (error * batch.learned[plan, :, None]).sum(dim=(-1, -2))
        weight = batch.weight[plan] if self.config.weighting else 1.0
        entries = horizon * dim
        terms = {"wdiff": (weight * each).mean() / entries}
        total = terms["wdiff"]
        if self.dynamics is not None or self.reward is not None:
            sample = conditioning.apply(self._denoised(batch.tau, noise, tau, k, output), tau0)
            level_weight = process.alphas_cumprod[k] if self.config.modulation_weight == "snr" else 1.0
            action_dim = self.model.action_dim
            if self.dynamics is not None:
                # One member costs a fraction of all. The mean of its losses is eq. 9 plus the members' variance, which
                # draws plans to where they agree.
                member = torch.randint(self.dynamics.members, (1,), generator=generator, device=device)
                with mixed_precision(device, self.model.parameter_count):
                    each = transition_loss(sample, mask, action_dim, self.dynamics, member)
                terms["tr"] = (level_weight * each).mean() / entries
                total = total + self.config.lambda_tr * terms["tr"]
            if self.reward is not None:
                with mixed_precision(device, self.model.parameter_count):
                    each = reward_loss(sample, mask, action_dim, self.reward)
                terms["rd"] = (level_weight * each).mean() / entries
                total = total + self.config.lambda_rd * terms["rd"]
        return {"total": total, **terms}

    def _evaluations(self, plans: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which of the plans the network sees, and at which level k: shape (evaluations,) each, levels in order."""
        steps = self.model.process.steps
        if not self._chained:
            k = torch.randint(steps, (plans,), generator=generator, device=device)
            return torch.arange(plans, device=device), k
        left = self.config.batch_size - (plans - 1) * steps
        chosen = torch.randperm(steps, generator=generator, device=device)[:left].sort().values
        k = torch.cat([torch.arange(steps, device=device).repeat(plans - 1), chosen])
        return torch.arange(len(k), device=device) // steps, k

    def _denoised(self, tau0: Tensor, noise: Tensor, tau: Tensor, k: Tensor, output: Tensor) -> Tensor:
        """τ̂^0 by the configured estimator, shape (evaluations, horizon, dim), as `tau`, `k` and `output`."""
        process, sample_predicted = self.model.process, self.model.predict == "sample"
        if not self._chained:
            return output if sample_predicted else process.sample_from_noise(tau, k, output)
        predicted = process.noise_from_sample(tau, k, output) if sample_predicted else output
        whole = len(tau0) - 1  # plans with all levels; the last one has what is left
        split, estimator = whole * process.steps, self.config.denoise
        grid = predicted[:split].view(whole, process.steps, *predicted.shape[1:])
        return torch.cat(
            [
                denoise_chain(process, tau0[:whole], noise[:whole], grid, estimator).flatten(0, 1),
                denoise_chain(process, tau0[whole:], noise[whole:], predicted[None, split:], estimator, k[split:])[0],
            ]
        )

    def _entry_weights(self, horizon: int, dim: int, like: Tensor) -> Tensor:
        """Diffuser weighs the first action's error more, as that action is the one executed."""
        weights = torch.ones(horizon, dim, device=like.device)
        weights[0, : self.model.action_dim] = self.config.first_action_weight
        return weights
