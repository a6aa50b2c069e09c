"""What a plan must contain: the first observation and, where there is one, the goal in the last one."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Known entries of a plan, never noised and written over after every step.

    Attributes:
        known: bool, shape (horizon, dim).
    """

    known: Tensor

    @classmethod
    def of(cls, horizon: int, action_dim: int, dim: int, end_dim: int, device: torch.device) -> "Conditioning":
        """Mark the observation of the first step and the leading `end_dim` entries of the last step's observation."""
        known = torch.zeros(horizon, dim, dtype=torch.bool, device=device)
        known[0, action_dim:] = True
        known[-1, action_dim : action_dim + end_dim] = True
        return cls(known)

    def apply(self, tau: Tensor, values: Tensor) -> Tensor:
        """Write the known entries of `values` over `tau`, both (..., horizon, dim)."""
        return torch.where(self.known, values, tau)
