"""The temporal U-Net of Diffuser (Janner et al., 2022): residual convolutions along the plan's time axis."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.models.embedding import sinusoidal
from dmemm.models.kernels import Conv1d, Mish

_KERNEL = 5
_GROUPS = 8


def _convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        Conv1d(channels_in, channels_out, _KERNEL),
        nn.GroupNorm(_GROUPS, channels_out),
        Mish(),
    )


class _Residual(nn.Module):
    """Two convolutions with the diffusion step's embedding added in between."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels_out)
        self.second = _convolution(channels_out, channels_out)
        self.step = nn.Sequential(nn.Mish(), nn.Linear(embedding, channels_out))
        self.skip = Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.second(self.first(x) + self.step(embedding)[..., None]) + self.skip(x)


class _Level(nn.Module):
    """Two residual blocks."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.first = _Residual(channels_in, channels_out, embedding)
        self.second = _Residual(channels_out, channels_out, embedding)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.second(self.first(x, embedding), embedding)


class TemporalUnet(nn.Module):
    """Noise network ε_θ(τ^k, k), or with `predict: sample` the clean plan itself.

    Args:
        transition_dim: action_dim + observation_dim.
        width: channels of the first level; a multiple of 8.
        mults: channel multipliers, one a level; every level but the first halves the time resolution.
    """

    def __init__(self, transition_dim: int, width: int, mults: Sequence[int]) -> None:
        """Build the layers."""
        super().__init__()
        channels = [width * mult for mult in mults]
        self.width = width
        self.embedding = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, (below, here) in enumerate(zip([transition_dim, *channels], channels, strict=False)):
            self.down.append(_Level(below, here, width))
            if level < len(channels) - 1:
                self.shrink.append(Conv1d(here, here, 3, stride=2))
        deepest = channels[-1]
        self.middle = _Level(deepest, deepest, width)
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for here, above in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True):
            self.up.append(_Level(2 * here, above, width))
            self.grow.append(nn.ConvTranspose1d(above, above, 4, stride=2, padding=1))
        self.head = nn.Sequential(_convolution(channels[0], channels[0]), Conv1d(channels[0], transition_dim, 1))

    def forward(self, tau: Tensor, k: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            tau: shape (batch, horizon, transition_dim), any horizon.
            k: shape (batch,), diffusion step, counted from 0.

        Returns:
            Shape (batch, horizon, transition_dim).
        """
        horizon = tau.shape[1]
        multiple = 2 ** len(self.shrink)
        x = tau.transpose(1, 2)
        x = functional.pad(x, (0, -horizon % multiple), mode="replicate")
        embedding = self.embedding(sinusoidal(k, self.width))
        skips = []
        for level, blocks in enumerate(self.down):
            x = blocks(x, embedding)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.middle(x, embedding)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = grow(blocks(torch.cat([x, skips.pop()], dim=1), embedding))
        x, last = self.head[0](x), self.head[1]
        # Out of mixed precision: three digits are too few for the states of a plan.
        with torch.autocast(x.device.type, enabled=False):
            return last(x.to(last.weight.dtype))[..., :horizon].transpose(1, 2)
