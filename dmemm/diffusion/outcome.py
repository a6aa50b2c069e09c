"""What a plan is worth: the objectives of planning (docs/method.md), without the value of noisy plans."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from dmemm.models.mechanisms import RewardModel, ValueModel

_REACH = 0.2  # distance from the data at which a place costs a plan 1/2; normalised data span [-1, 1]


@dataclass(frozen=True)
class Outcome:
    """The objective of clean plans by R̂ and V̂; s_0 is the state planned from, H the horizon.

    * `reward`: Σ_{t<H} R̂(s_t, a_t), eq. 13 as printed, standardised.
    * `return`: Σ_{t<H-1} γ^t R̂(s_t, a_t) + γ^{H-1} V̂(s_{H-1}), in units of V̂'s target's deviation.
    * `value`: the mean of V̂(s_t) over t = 1 … H-1, standardised.

    A plan ends at its first state in which an episode terminates. There, `termination_penalty` replaces the reward or
    V̂. In `value`, it also replaces V̂ of all later states; in the other objectives, later states count 0.

    Attributes:
        objective: which of the objectives to compute.
        reward: R̂; may be None for `value`.
        value: V̂; may be None for `reward`.
        discount: γ.
        termination_penalty: in units of the reward.
        ended: normalised states (..., Ds) → bool (...), the states in which an episode terminates; None if none does.
    """

    objective: Literal["reward", "return", "value"]
    reward: RewardModel | None
    value: ValueModel | None
    discount: float = 1.0
    termination_penalty: float = 0.0
    ended: Callable[[Tensor], Tensor] | None = None

    def __call__(self, s: Tensor, a: Tensor) -> Tensor:
        """The objective of each plan, shape (batch,), for normalised s and a of shape (batch, horizon, ·)."""
        # Detached, because a function of the user's may call NumPy.
        over = None if self.ended is None else self.ended(s.detach()).cumsum(dim=-1)
        if self.objective == "value":
            assert self.value is not None
            values = self.value(s[:, 1:])
            if over is not None:
                values = torch.where(over[:, 1:] > 0, self.value.standardise(self.termination_penalty), values)
            return values.mean(dim=-1)
        assert self.reward is not None
        gains = self.reward.restore(self.reward(s, a))
        if self.objective == "return":
            assert self.value is not None
            last = self.value.restore(self.value(s[:, -1:]))
            gains = torch.cat([gains[:, :-1], last], dim=1)
        if over is not None:
            first = over.cumsum(dim=-1) == 1
            gains = torch.where(over > 0, self.termination_penalty * first, gains)
        if self.objective == "reward":
            return self.reward.standardise(gains).sum(dim=-1)
        assert self.value is not None
        powers = self.discount ** torch.arange(gains.shape[1], device=gains.device)
        return (gains * powers).sum(dim=-1) / self.value.target_scale


@dataclass(frozen=True)
class Familiarity:
    """The objective of clean plans with a goal: -½ weight Σ_t ‖(p_t - p̂_t) / 0.2‖², which keeps plans near the data.

    p_t is the place in s_t, its first `goal_dim` entries, and p̂_t the nearest place in the data. Where no data are, T̂
    is no guide: its members agree on free motion through a wall, which no data cross.

    Attributes:
        visited: the places of the data, normalised, shape (n, goal_dim).
        weight: of the objective.
    """

    visited: Tensor
    weight: float = 1.0

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.visited.numpy(force=True))

    def nearest(self, places: Tensor) -> Tensor:
        """The one of `visited` that is nearest to each place, of the shape of `places`, (..., goal_dim)."""
        # A place that is not finite has a nearest one, too: its plan is refused where every plan is checked.
        flat = np.nan_to_num(places.reshape(-1, places.shape[-1]).numpy(force=True))
        _, index = self._tree.query(flat, workers=torch.get_num_threads())
        return self.visited[torch.as_tensor(index, device=self.visited.device)].view_as(places)

    def __call__(self, s: Tensor, a: Tensor) -> Tensor:
        """The objective of each plan, shape (batch,), for normalised s of shape (batch, horizon, ·)."""
        places = s[..., : self.visited.shape[1]]
        away = (places - self.nearest(places)) / _REACH
        return -self.weight / 2 * away.square().sum(dim=(-1, -2))
