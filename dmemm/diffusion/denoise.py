"""Proposition 1: the clean plan τ̂^0 as a function of the network, by three estimators."""

from torch import Tensor

from dmemm.diffusion.process import Process


def denoise_chain(process: Process, tau0: Tensor, noise: Tensor, predicted: Tensor, estimator: str) -> Tensor:
    """τ̂^0 for every k at once, from the network's noise at all K levels of one (τ^0, ε).

    τ̂^0_k = τ^0 + f_k ε - Σ_{i≤k} c_i ε_θ(τ^i, i), with f_k = sqrt((1-ᾱ_k)/ᾱ_k). No ε_θ(τ^i, i) depends on k, so a
    cumulative sum gives the sums for all k.

    * `paper`: c_i = (1-α_i) / sqrt((1-ᾱ_i) ᾱ_i), eq. 8 as printed. With a perfect network it misses τ^0 by
      (f_k - Σ c_i) ε.
    * `ddim`: c_i = f_i - f_{i-1}. The sum telescopes: a perfect network gives τ^0.

    Args:
        process: constants for K steps.
        tau0: τ^0, shape (batch, horizon, dim).
        noise: ε, the same shape.
        predicted: ε_θ(τ^i, i), shape (batch, K, horizon, dim).
        estimator: `paper` or `ddim`.

    Returns:
        Shape (batch, K, horizon, dim).
    """
    coefficients = process.paper_coefficients if estimator == "paper" else process.ddim_coefficients
    removed = (coefficients[:, None, None] * predicted).cumsum(dim=1)
    return tau0[:, None] + process.noise_ratio[:, None, None] * noise[:, None] - removed
