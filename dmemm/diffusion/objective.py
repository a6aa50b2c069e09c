"""The training objective: L_total = L_wdiff + λ_tr L_tr + λ_rd L_rd (eq. 12).

Each term of the paper is a sum over a plan's entries or steps. All three are divided here by the same number, the
entries of a plan (horizon × transition_dim), which leaves the ratios of eq. 12 as printed and makes the diffusion
loss the mean square that Diffuser's code minimises.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmemm.config import TrainConfig
from dmemm.data.windows import Batch
from dmemm.device import mixed_precision
from dmemm.diffusion.denoise import denoise_chain
from dmemm.diffusion.model import DiffusionModel
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel


def transition_loss(tau0: Tensor, mask: Tensor, action_dim: int, dynamics: DynamicsEnsemble) -> Tensor:
    """Eq. 9 of each plan: Σ_t ‖s_{t+1} - T̂(s_t, a_t)‖² over transitions that really happened.

    Args:
        tau0: τ̂^0, shape (..., horizon, dim), normalised.
        mask: bool, shape (..., horizon).
        action_dim: size of a.
        dynamics: T̂.

    Returns:
        Shape (...).
    """
    s, a = tau0[..., action_dim:], tau0[..., :action_dim]
    squares = (s[..., 1:, :] - dynamics(s[..., :-1, :], a[..., :-1, :])).square().sum(dim=-1)
    return (squares * (mask[..., 1:] & mask[..., :-1])).sum(dim=-1)


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
        """Plans to draw for one gradient step, so that every variant evaluates the network equally often."""
        return max(1, self.config.batch_size // self._levels) if self._chained else self.config.batch_size

    @property
    def _chained(self) -> bool:
        """Whether τ̂^0 needs the network at every level (eq. 8's sum)."""
        return self.config.denoise != "tweedie" and not (self.dynamics is None and self.reward is None)

    @property
    def _levels(self) -> int:
        return self.model.process.steps if self._chained else 1

    def terms(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The scalar terms L_wdiff, L_tr, L_rd (absent where not used) and their sum `total`."""
        tau0, mask, levels = batch.tau[:, None], batch.mask[:, None], self._levels
        plans, _, horizon, dim = tau0.shape
        noise = torch.randn(tau0.shape, generator=generator, device=tau0.device)
        if self._chained:
            k = torch.arange(levels, device=tau0.device).expand(plans, levels)
        else:
            k = torch.randint(self.model.process.steps, (plans, 1), generator=generator, device=tau0.device)
        process, conditioning = self.model.process, self.model.conditioning
        tau = conditioning.apply(process.q_sample(tau0, k, noise), tau0)
        with mixed_precision(tau0.device, self.model.parameter_count):
            output = self.model.network(tau.flatten(0, 1), k.flatten())
        output = output.to(tau0.dtype).view(plans, levels, horizon, dim)

        target = tau0 if self.model.predict == "sample" else noise
        error = torch.where(conditioning.known, 0, output - target).square() * self._entry_weights(horizon, dim, tau0)
        per_plan = (error * batch.learned[:, None, :, None]).sum(dim=(-1, -2))
        weight = batch.weight[:, None] if self.config.weighting else torch.ones_like(batch.weight[:, None])
        entries = horizon * dim
        terms = {"wdiff": (weight * per_plan).mean() / entries}
        total = terms["wdiff"]
        if self.dynamics is not None or self.reward is not None:
            sample = conditioning.apply(self._denoised(tau0, tau, k, noise, output), tau0)
            level_weight = process.alphas_cumprod[k] if self.config.modulation_weight == "snr" else 1.0
            mask, action_dim = mask.expand(plans, levels, horizon), self.model.action_dim
            if self.dynamics is not None:
                with mixed_precision(tau0.device, self.model.parameter_count):
                    per_plan = transition_loss(sample, mask, action_dim, self.dynamics)
                terms["tr"] = (level_weight * per_plan).mean() / entries
                total = total + self.config.lambda_tr * terms["tr"]
            if self.reward is not None:
                with mixed_precision(tau0.device, self.model.parameter_count):
                    per_plan = reward_loss(sample, mask, action_dim, self.reward)
                terms["rd"] = (level_weight * per_plan).mean() / entries
                total = total + self.config.lambda_rd * terms["rd"]
        return {"total": total, **terms}

    def _denoised(self, tau0: Tensor, tau: Tensor, k: Tensor, noise: Tensor, output: Tensor) -> Tensor:
        """τ̂^0 by the configured estimator, shape (plans, levels, horizon, dim)."""
        process, sample_predicted = self.model.process, self.model.predict == "sample"
        if not self._chained:
            return output if sample_predicted else process.sample_from_noise(tau, k, output)
        predicted = process.noise_from_sample(tau, k, output) if sample_predicted else output
        return denoise_chain(process, tau0[:, 0], noise[:, 0], predicted, self.config.denoise)

    def _entry_weights(self, horizon: int, dim: int, like: Tensor) -> Tensor:
        """Diffuser weighs the first action's error more, as that action is the one executed."""
        weights = torch.ones(horizon, dim, device=like.device)
        weights[0, : self.model.action_dim] = self.config.first_action_weight
        return weights
