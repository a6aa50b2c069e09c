"""A trained trajectory diffusion model with all that planning needs: network, process, normaliser, sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dmemm.data.normaliser import Normaliser
from dmemm.device import bfloat16_is_faster
from dmemm.diffusion.conditioning import Conditioning
from dmemm.diffusion.process import Process
from dmemm.models.mlp import PlanMlp
from dmemm.models.storage import load_artifact, rebuilding, save_weights
from dmemm.models.traced import Traced
from dmemm.models.unet import TemporalUnet


class DiffusionModel(nn.Module):
    """Plans of shape (batch, horizon, action_dim + observation_dim) in normalised units.

    Args:
        header: what rebuilds the model: action_dim, observation_dim, horizon, diffusion_steps, predict, network (`mlp`
            with mlp_width and mlp_blocks, or `unet` with unet_width and unet_mults), end_dim (leading entries of the
            last observation that are given); and the task it was trained for and the digest (`data`) of the raw data
            that its windows and the mechanisms in its loss were made from.
        network: instead of the header's.
    """

    center: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, header: dict[str, Any], device: torch.device, network: nn.Module | None = None) -> None:
        """Build the network and the process on `device`."""
        super().__init__()
        self.header = header
        for name, least in (("action_dim", 0), ("observation_dim", 1), ("horizon", 1), ("diffusion_steps", 1)):
            if int(header[name]) < least:
                raise ValueError(f"{name} is {header[name]}")
        self.action_dim = int(header["action_dim"])
        self.horizon = int(header["horizon"])
        self.predict = str(header["predict"])
        dim = self.action_dim + int(header["observation_dim"])
        self.network: nn.Module
        if network is not None:
            self.network = network
        elif header["network"] == "mlp":
            self.network = PlanMlp(
                self.horizon, dim, header["diffusion_steps"], header["mlp_width"], header["mlp_blocks"]
            )
        else:
            self.network = TemporalUnet(dim, header["unet_width"], header["unet_mults"])
        self._evaluate: Callable[[Tensor, Tensor], Tensor] | None = None  # the network, made fast
        self.parameter_count = sum(parameter.numel() for parameter in self.network.parameters())
        self.process = Process(header["diffusion_steps"], device)
        self.conditioning = Conditioning.of(self.horizon, self.action_dim, dim, header["end_dim"], device)
        for name in Normaliser.names():
            self.register_buffer(name, torch.zeros(dim))
        self.to(device)

    def set_normaliser(self, normaliser: Normaliser) -> None:
        """Take over the normaliser of `[action, observation]`."""
        for name in Normaliser.names():
            getattr(self, name).copy_(torch.as_tensor(getattr(normaliser, name)))

    def estimate(self, tau: Tensor, k: Tensor, values: Tensor) -> Tensor:
        """τ̂^0 from τ^k, within the data's range, known entries written over; shapes as `tau`, k (batch,)."""
        output = (self._evaluate or self.network)(tau, k)
        sample = output if self.predict == "sample" else self.process.sample_from_noise(tau, k, output)
        return self.conditioning.apply(sample.clamp(self.low, self.high), values)

    def make_fast(self) -> None:
        """Let `estimate` take less time from now on; the weights must not change any more."""
        if self.center.is_cuda:
            self.compile_network()
        else:
            many = None
            if isinstance(self.network, PlanMlp) and bfloat16_is_faster(self.center.device, self.parameter_count):
                many = self.network.in_bfloat16()
            self._evaluate = Traced(self.network, many)

    def compile_network(self) -> None:
        """On a GPU, compile the network: a minute that the many small operations of all but an MLP repay."""
        if self.center.is_cuda and not isinstance(self.network, PlanMlp):
            self.network.compile()

    def save(self, path: Path) -> None:
        """Write weights, normaliser and header."""
        save_weights(path, self.state_dict(), {"kind": "DiffusionModel", **self.header})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "DiffusionModel":
        """Load a trained model, frozen.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        tensors, header = load_artifact(path, "DiffusionModel")
        with rebuilding(path):
            model = cls(header, device)
            model.load_state_dict(tensors)
        return model.requires_grad_(False).eval()
