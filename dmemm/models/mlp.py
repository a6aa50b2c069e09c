"""A residual MLP over the flattened plan: for short plans, in less time than the U-Net."""

import torch
from torch import Tensor, nn

from dmemm.errors import UserError
from dmemm.models.embedding import sinusoidal

_EXPANSION = 2


class _Block(nn.Module):
    """LayerNorm and a two-layer perceptron, added to the input; the step's embedding is added before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, _EXPANSION * width)
        self.narrow = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return x + self.narrow(nn.functional.silu(self.wide(self.norm(x + embedding))))


class PlanMlp(nn.Module):
    """Noise network ε_θ(τ^k, k), or with `predict: sample` the clean plan itself, of one horizon.

    Args:
        horizon: steps of a plan.
        transition_dim: action_dim + observation_dim.
        width: units of a layer; even.
        blocks: residual blocks.
    """

    def __init__(self, horizon: int, transition_dim: int, width: int = 256, blocks: int = 3) -> None:
        """Build the layers."""
        super().__init__()
        self.horizon, self.width = horizon, width
        self.embedding = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(horizon * transition_dim, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = nn.Linear(width, horizon * transition_dim)

    def forward(self, tau: Tensor, k: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            tau: shape (batch, horizon, transition_dim).
            k: shape (batch,), diffusion step, counted from 0.

        Returns:
            Shape (batch, horizon, transition_dim).

        Raises:
            UserError: the plans have another horizon than the network.
        """
        if tau.shape[1] != self.horizon:
            raise UserError(f"plans of {tau.shape[1]} steps: the network is for {self.horizon}; set horizon to that")
        embedding = self.embedding(sinusoidal(k, self.width))
        x = self.first(tau.flatten(1))
        for block in self.blocks:
            x = block(x, embedding)
        # Out of mixed precision: three digits are too few for the states of a plan.
        with torch.autocast(x.device.type, enabled=False):
            return self.last(x.to(self.last.weight.dtype)).view(tau.shape)
