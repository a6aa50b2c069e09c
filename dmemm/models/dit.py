"""A diffusion transformer over the steps of a plan (DiT, Peebles & Xie, 2023), for Diffusion Veteran and HDMI."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.models.embedding import sinusoidal

_HEAD = 32  # units of an attention head, as in Diffusion Veteran
_EXPANSION = 4


def _normed(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class _Block(nn.Module):
    """Attention and a perceptron; the step's embedding shifts, scales and gates both (adaLN-Zero)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD)
        self.attention = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.wide = nn.Linear(width, _EXPANSION * width)
        self.narrow = nn.Linear(_EXPANSION * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale, gate, shift_wide, scale_wide, gate_wide = self.modulation(embedding).chunk(6, dim=-1)
        qkv = self.attention(_normed(x, shift, scale)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + gate[:, None] * self.merge(mixed.transpose(1, 2).flatten(-2))
        wide = functional.gelu(self.wide(_normed(x, shift_wide, scale_wide)), approximate="tanh")
        return x + gate_wide[:, None] * self.narrow(wide)


class PlanDit(nn.Module):
    """Noise network ε_θ(τ^k, k), or the clean plan with `predict: sample`, for plans of any horizon.

    Args:
        transition_dim: entries of a step.
        width: units of a layer; even, and a multiple of 32 or less than 64.
        blocks: transformer blocks.
    """

    def __init__(self, transition_dim: int, width: int, blocks: int) -> None:
        """Build the layers; the output starts at zero."""
        super().__init__()
        self.width = width
        self.embedding = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, width), nn.Mish())
        self.first = nn.Linear(transition_dim, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, transition_dim)
        for layer in (self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tau: Tensor, k: Tensor) -> Tensor:
        """Evaluate the network on plans (batch, horizon, transition_dim) at steps k (batch,): the shape of `tau`."""
        embedding = self.embedding(sinusoidal(k, self.width))
        positions = torch.arange(tau.shape[1], device=tau.device)
        x = self.first(tau) + sinusoidal(positions, self.width)
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        # Leave mixed precision: its three digits are too few for the states of a plan.
        with torch.autocast(x.device.type, enabled=False):
            return self.last(_normed(x, shift, scale).to(self.last.weight.dtype))
