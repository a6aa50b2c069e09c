"""The temporal U-Net of Diffuser (Janner et al., 2022): residual convolutions along the plan's time axis."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmemm.models.embedding import sinusoidal

_KERNEL = 5
_GROUPS = 8
_FEW = 1024  # steps, of all plans together, up to which a convolution is faster as a matrix product
_SMALL = 8192  # entries up to which one call of PyTorch's Mish takes less than the several of ours


class _Conv1d(nn.Conv1d):
    """Conv1d, padded to keep the length; of a few plans on a CPU, a product with the kernel as it lies in memory.

    PyTorch's own packs the kernel at every call, which with one plan takes up to five times as long as the product.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=kernel // 2)
        self._matrix = torch.empty(0)  # the kernel, (out, kernel · in)
        self._version = -1  # of the weight that it is made of

    def forward(self, x: Tensor) -> Tensor:
        plans, channels, length = x.shape
        if plans * length > _FEW or x.device.type != "cpu" or self.weight.requires_grad:
            return super().forward(x)
        if self._version != self.weight._version:
            self._matrix = self.weight.transpose(1, 2).flatten(1).contiguous()
            self._version = self.weight._version
        (kernel,), (stride,) = self.kernel_size, self.stride
        padded = functional.pad(x.transpose(1, 2), (0, 0, kernel // 2, kernel // 2)).contiguous()
        length = (length - 1) // stride + 1
        windows = padded.as_strided((plans, length, kernel * channels), (padded.stride(0), stride * channels, 1))
        # One product over all steps: with the plans' axis kept it would be one a plan.
        product = functional.linear(windows.reshape(plans * length, -1), self._matrix, self.bias)
        return product.view(plans, length, -1).transpose(1, 2)


def _convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        _Conv1d(channels_in, channels_out, _KERNEL),
        nn.GroupNorm(_GROUPS, channels_out),
        _Mish(),
    )


class _MishFunction(torch.autograd.Function):
    """Mish of a tensor of any shape: x tanh(softplus(x)) = x v / (2 - v), v = p (2 - p), p = sigmoid(x).

    One exponential instead of an exponential, a logarithm and a tanh: on a CPU less than half the time of PyTorch's,
    which took a sixth of a training step. Nothing overflows. Inside, bfloat16 becomes float32.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        p = _wide(x).sigmoid()
        context.save_for_backward(x, p)
        return _mish(x, p)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        x, p = context.saved_tensors
        u = (1 - p).square_()  # v = 1 - u
        denominator = 1 + u
        slope = (1 - u).addcdiv_((p * x).mul_(u), denominator, value=4).div_(denominator)
        return slope.mul_(gradient).to(gradient.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _mish(x: Tensor, p: Tensor) -> Tensor:
    v = (2 - p).mul_(p)
    return v.div_(2 - v).mul_(_wide(x)).to(x.dtype)


class _Mish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() <= _SMALL:
            return functional.mish(x)
        return _MishFunction.apply(x) if torch.is_grad_enabled() else _mish(x, _wide(x).sigmoid())


class _Residual(nn.Module):
    """Two convolutions with the diffusion step's embedding added in between."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels_out)
        self.second = _convolution(channels_out, channels_out)
        self.step = nn.Sequential(nn.Mish(), nn.Linear(embedding, channels_out))
        self.skip = _Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

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

    def __init__(self, transition_dim: int, width: int = 32, mults: Sequence[int] = (1, 2, 4, 8)) -> None:
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
                self.shrink.append(_Conv1d(here, here, 3, stride=2))
        deepest = channels[-1]
        self.middle = _Level(deepest, deepest, width)
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for here, above in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True):
            self.up.append(_Level(2 * here, above, width))
            self.grow.append(nn.ConvTranspose1d(above, above, 4, stride=2, padding=1))
        self.head = nn.Sequential(_convolution(channels[0], channels[0]), _Conv1d(channels[0], transition_dim, 1))

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
