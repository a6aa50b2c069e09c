"""A transformer over the steps of a plan: for short plans whose steps lie far apart in time."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.models.embedding import sinusoidal

_HEADS = 4


class _Block(nn.Module):
    """Attention over all steps and a two-layer perceptron, each after a LayerNorm and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for part in self.queries(self.before(x)).chunk(3, dim=-1)
        )
        x = x + self.mixed(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.perceptron(self.after(x))


class PlanTransformer(nn.Module):
    """Noise network ε_θ(τ^k, k), or with `predict: sample` the clean plan itself, of one horizon.

    Args:
        horizon: steps of a plan.
        transition_dim: size of a step.
        width: of a step's features; a multiple of 8.
        blocks: layers.
    """

    def __init__(self, horizon: int, transition_dim: int, width: int, blocks: int) -> None:
        """Build the layers."""
        super().__init__()
        self.width = width
        self.embedding = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(transition_dim, width)
        self.position = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, transition_dim))

    def forward(self, tau: Tensor, k: Tensor) -> Tensor:
        """Evaluate the network: tau (batch, horizon, transition_dim), k (batch,), counted from 0; the shape of tau."""
        x = self.first(tau) + self.position + self.embedding(sinusoidal(k, self.width))[:, None]
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.last(x)
        return output
