"""Diffuser's guide: the value J(τ^k, k) of a noisy plan as a whole."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dmemm.models.embedding import sinusoidal
from dmemm.models.storage import load_artifact, rebuilding, save_weights

_WIDTH = 256
_EMBEDDING = 32  # of the diffusion step


class PlanValue(nn.Module):
    """J(τ^k, k), the discounted return of the episode that goes on from a plan, in units of its deviation in the data.

    An MLP over the flattened plan and the step's embedding, three hidden layers of 256. Diffuser's is the descending
    half of its U-Net; at the horizons of locomotion an MLP sees as much at a fraction of the time.

    Args:
        header: what rebuilds it: horizon, transition_dim (action_dim + observation_dim), diffusion_steps; and the
            task's name and the digest (`data`) of its raw data.
    """

    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, header: dict[str, Any]) -> None:
        """Build the layers; the target's statistics are set by training or loading."""
        super().__init__()
        self.header = header
        inputs = int(header["horizon"]) * int(header["transition_dim"]) + _EMBEDDING
        layers: list[nn.Module] = []
        for size in (inputs, _WIDTH, _WIDTH):
            layers += [nn.Linear(size, _WIDTH), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(_WIDTH, 1))
        self.register_buffer("target_mean", torch.zeros(()))
        self.register_buffer("target_scale", torch.ones(()))

    def forward(self, tau: Tensor, k: Tensor) -> Tensor:
        """Standardised value, shape (batch,), of normalised plans (batch, horizon, dim) at steps k (batch,) from 0."""
        return self.network(torch.cat([tau.flatten(1), sinusoidal(k, _EMBEDDING)], dim=1))[:, 0]

    def save(self, path: Path) -> None:
        """Write weights and header."""
        save_weights(path, self.state_dict(), {"kind": "PlanValue", **self.header})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "PlanValue":
        """Load a trained network, frozen.

        Raises:
            UserError: the file is missing, damaged or of another version.
        """
        tensors, header = load_artifact(path, "PlanValue")
        with rebuilding(path):
            model = cls(header)
            model.load_state_dict(tensors)
        return model.requires_grad_(False).eval().to(device)
