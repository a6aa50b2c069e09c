"""The diffusion process: schedule, forward noising (eq. 2) and one reverse step (eqs. 3 and 4)."""

import math

import torch
from torch import Tensor


def cosine_betas(steps: int) -> Tensor:
    """β_1 … β_K of the cosine schedule (Nichol & Dhariwal, 2021): s = 0.008, β ≤ 0.999; float64, shape (K,)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


class Process:
    """Constants of the process for K steps; index k = 0 … K-1 stands for the paper's 1 … K.

    Attributes:
        steps: K.
        betas, alphas, alphas_cumprod: shape (K,), β_k, α_k = 1 - β_k, ᾱ_k = Π α_i.
        sigmas: shape (K,), standard deviation of the reverse step; 0 at k = 0.
        noise_ratio: shape (K,), f_k = sqrt((1-ᾱ_k)/ᾱ_k) of eq. 8.
    """

    def __init__(self, steps: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        """Compute the constants in float64, keep them in `dtype`."""
        self.steps = steps
        betas = cosine_betas(steps)
        cumprod = torch.cumprod(1 - betas, dim=0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
        variances = betas * (1 - previous) / (1 - cumprod)

        def keep(x: Tensor) -> Tensor:
            return x.to(device, dtype)

        self.betas, self.alphas, self.alphas_cumprod = keep(betas), keep(1 - betas), keep(cumprod)
        self.sigmas = keep(variances.sqrt())
        self._signal, self._noise = keep(cumprod.sqrt()), keep((1 - cumprod).sqrt())
        self.noise_ratio = keep(((1 - cumprod) / cumprod).sqrt())

    def q_sample(self, tau0: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """τ^k = sqrt(ᾱ_k) τ^0 + sqrt(1 - ᾱ_k) ε (eq. 2); tau0 and noise (..., horizon, dim), k (...)."""
        return _at(self._signal, k) * tau0 + _at(self._noise, k) * noise

    def noise_from_sample(self, tau: Tensor, k: Tensor, sample: Tensor) -> Tensor:
        """ε_θ of a network that predicts the clean plan: eq. 2 solved for ε."""
        return (tau - _at(self._signal, k) * sample) / _at(self._noise, k)

    def sample_from_noise(self, tau: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """τ̂^0 of a network that predicts the noise: eq. 2 solved for τ^0 (Tweedie)."""
        return (tau - _at(self._noise, k) * noise) / _at(self._signal, k)

    def reverse_mean(self, tau: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """μ_θ(τ^k, k) of eq. 4, given ε_θ."""
        coefficient = _at(self.betas, k) / _at(self._noise, k)
        return (tau - coefficient * noise) / _at(self.alphas, k).sqrt()

    def ddim_mean(self, sample: Tensor, noise: Tensor, below: int) -> Tensor:
        """The plan at level `below` on the deterministic path through τ̂^0 and ε_θ (DDIM, η = 0); -1: τ̂^0 itself."""
        return sample if below < 0 else self._signal[below] * sample + self._noise[below] * noise

    def jump_sigma(self, level: int, below: int) -> Tensor:
        """Deviation of the reverse step from `level` to `below`; of adjacent levels it is `sigmas`."""
        above = self.alphas_cumprod[level]
        under = self.alphas_cumprod[below] if below >= 0 else torch.ones_like(above)
        return ((1 - under) / (1 - above) * (1 - above / under)).sqrt()


def _at(values: Tensor, k: Tensor) -> Tensor:
    """The value at each k, shaped to multiply (..., horizon, dim)."""
    return values[k][..., None, None]
