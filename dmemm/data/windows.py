"""Batches of windows for training, drawn from data that stay on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmemm.data.raw import RawData
from dmemm.data.segments import Segments
from dmemm.tasks import Task


@dataclass(frozen=True)
class Batch:
    """Windows as plans.

    Attributes:
        tau: shape (batch, horizon, action_dim + observation_dim), normalised `[action, observation]`.
        mask: bool, shape (batch, horizon), the steps that really happened.
        learned: bool, shape (batch, horizon), the steps of the diffusion loss: `mask`, and with a goal the padding.
        weight: shape (batch,), eq. 11.
    """

    tau: Tensor
    mask: Tensor
    learned: Tensor
    weight: Tensor


class Windows:
    """All windows of a data set; the transitions are held once, windows are gathered from them.

    Windows that reach beyond an episode's end are padded, and `mask` leaves the padding out. With a goal, the padding
    rests at the episode's last state (no action; in mazes no velocity), so that plans arrive at the data's pace and
    stay; without one, it repeats the last step.
    """

    def __init__(self, raw: RawData, segments: Segments, task: Task, device: torch.device, stride: int = 1) -> None:
        """Normalise the transitions and put them on `device`; of a window, every `stride`-th step is kept."""
        self.normaliser = segments.normaliser
        transitions = self.normaliser.normalise(np.concatenate([raw.actions, raw.observations], axis=1))
        self._transitions = torch.as_tensor(transitions, device=device)
        self._starts = torch.as_tensor(segments.starts, device=device)
        self._lengths = torch.as_tensor(segments.lengths, device=device)
        self._weights = torch.as_tensor(segments.weights, device=device)
        self._trained = torch.as_tensor(np.flatnonzero(~segments.held_out), device=device)
        self._offsets = torch.arange(0, segments.horizon, stride, device=device)
        self.horizon = len(self._offsets)
        self._rest: Tensor | None = None
        if task.has_goal:
            rest = np.concatenate([np.zeros_like(raw.actions), raw.next_observations], axis=1)
            if task.is_maze:
                rest[:, -2:] = 0  # velocities
            self._rest = torch.as_tensor(self.normaliser.normalise(rest), device=device)

    def batch(self, index: Tensor) -> Batch:
        """Gather the windows with the given indices, shape (batch,)."""
        starts, lengths = self._starts[index, None], self._lengths[index, None]
        mask = self._offsets < lengths
        tau = self._transitions[starts + torch.minimum(self._offsets, lengths - 1)]
        if self._rest is None:
            return Batch(tau, mask, mask, self._weights[index])
        tau = torch.where(mask[..., None], tau, self._rest[starts + lengths - 1])
        return Batch(tau, mask, torch.ones_like(mask), self._weights[index])

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw windows that are not held out, uniformly, with replacement."""
        drawn = torch.randint(len(self._trained), (count,), generator=generator, device=self._starts.device)
        return self.batch(self._trained[drawn])
