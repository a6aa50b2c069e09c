"""Sinusoidal embeddings of diffusion steps and places in a sequence."""

import math

import torch
from torch import Tensor


def sinusoidal(k: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (Vaswani et al., 2017), shape (batch, dim), of steps k (batch,)."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=k.device) * (-math.log(10000) / (half - 1)))
    angles = k[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
