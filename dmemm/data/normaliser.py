"""Normalisers: an affine map per dimension, fitted to the data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Narrower than this, relative to its magnitude where that is above 1, a dimension counts as constant: dividing by its
# spread would only amplify rounding errors.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Normaliser:
    """x ↦ (x - center) / scale, with the range that the data then have.

    Attributes:
        center, scale: shape (dim,); the scale of a constant dimension is 1.
        low, high: shape (dim,), smallest and largest normalised value in the data.
    """

    center: Array
    scale: Array
    low: Array
    high: Array

    @classmethod
    def fit(cls, x: Array, kind: Literal["gaussian", "limits"]) -> "Normaliser":
        """Fit to x of shape (n, dim): zero mean and unit variance, or [-1, 1].

        Diffuser uses `gaussian` for locomotion and `limits` for mazes.
        """
        low, high = x.min(axis=0), x.max(axis=0)
        if kind == "gaussian":
            center, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        else:
            center, scale = (high.astype(np.float64) + low) / 2, (high.astype(np.float64) - low) / 2
        scale = np.where(scale <= _CONSTANT * np.maximum(1, np.abs(center)), 1.0, scale)
        center, scale = center.astype(np.float32), scale.astype(np.float32)
        return cls(center, scale, (low - center) / scale, (high - center) / scale)

    @classmethod
    def join(cls, *parts: "Normaliser") -> "Normaliser":
        """The normaliser of the parts' concatenated dimensions."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.names()))

    @staticmethod
    def names() -> tuple[str, ...]:
        """The arrays' names, in files and in state dictionaries."""
        return ("center", "scale", "low", "high")

    def normalise(self, x: Array) -> Array:
        """Map x of shape (..., dim) to normalised units."""
        return (x - self.center) / self.scale

    def unnormalise(self, x: Array) -> Array:
        """The inverse of `normalise`."""
        return x * self.scale + self.center
