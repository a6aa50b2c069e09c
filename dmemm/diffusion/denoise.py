"""Proposition 1: the clean plan τ̂^0 as a function of the network, by three estimators."""

import torch
from torch import Tensor

from dmemm.diffusion.process import Process


def denoise_chain(
    process: Process, tau0: Tensor, noise: Tensor, predicted: Tensor, estimator: str, levels: Tensor | None = None
) -> Tensor:
    """τ̂^0 for every k at once, from the network's noise at several levels of one (τ^0, ε).

    τ̂^0_k = τ^0 + f_k ε - Σ_{i≤k} c_i ε_θ(τ^i, i), with f_k = sqrt((1-ᾱ_k)/ᾱ_k). No ε_θ(τ^i, i) depends on k, so a
    cumulative sum gives the sums for all k.

    * `paper`: c_i = (1-α_i) / sqrt((1-ᾱ_i) ᾱ_i) = (f_i² - f_{i-1}²) / f_i, eq. 8 as printed. With a perfect network it
      misses τ^0 by (f_k - Σ c_i) ε.
    * `ddim`: c_i = f_i - f_{i-1}. The sum telescopes: a perfect network gives τ^0.

    If only some `levels` are given, i-1 stands for the given level before i, as in a process with fewer steps.

    Args:
        process: constants for K steps.
        tau0: τ^0, shape (batch, horizon, dim).
        noise: ε, the same shape.
        predicted: ε_θ(τ^i, i), shape (batch, levels, horizon, dim).
        estimator: `paper` or `ddim`.
        levels: in increasing order, shape (levels,); all K by default.

    Returns:
        Shape (batch, levels, horizon, dim).
    """
    ratio = process.noise_ratio if levels is None else process.noise_ratio[levels]
    below = torch.cat([ratio.new_zeros(1), ratio[:-1]])
    coefficients = (ratio.square() - below.square()) / ratio if estimator == "paper" else ratio - below
    removed = (coefficients[:, None, None] * predicted).cumsum(dim=1)
    return tau0[:, None] + ratio[:, None, None] * noise[:, None] - removed
