"""A residual MLP over the flattened plan, faster than the U-Net."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.errors import UserError
from dmemm.models.embedding import sinusoidal

_EXPANSION = 2


class _Block(nn.Sequential):
    """LayerNorm and a two-layer perceptron, added to the input."""

    def __init__(self, width: int) -> None:
        wide = _EXPANSION * width
        super().__init__(nn.LayerNorm(width), nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class PlanMlp(nn.Module):
    """Noise network ε_θ(τ^k, k), or with `predict: sample` the clean plan itself, of one horizon.

    Args:
        horizon: steps of a plan.
        transition_dim: action_dim + observation_dim.
        steps: K.
        width: units of a layer; even.
        blocks: residual blocks.
    """

    levels: Tensor

    def __init__(self, horizon: int, transition_dim: int, steps: int, width: int, blocks: int) -> None:
        """Build the layers."""
        super().__init__()
        self.horizon = horizon
        self.register_buffer("levels", sinusoidal(torch.arange(steps), width), persistent=False)
        self.embedding = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(horizon * transition_dim, width)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
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
        dtype = self.first.weight.dtype
        embedding = functional.embedding(k, self.embedding(self.levels.to(dtype)))  # of K levels, fewer than plans
        x = self.blocks(self.first(tau.flatten(1).to(dtype)) + embedding)
        # Out of mixed precision: three digits are too few for the states of a plan.
        with torch.autocast(x.device.type, enabled=False):
            return self.last(x.to(self.last.weight.dtype)).view(tau.shape)

    def in_bfloat16(self) -> "PlanMlp":
        """Return a copy whose layers are in bfloat16, except the last; its input and output stay in float32."""
        copied = copy.deepcopy(self)
        for part in (copied.embedding, copied.first, copied.blocks):
            part.to(torch.bfloat16)
        return copied
