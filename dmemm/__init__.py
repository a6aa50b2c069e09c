"""Offline-RL planning with a diffusion model modulated by the environment's mechanisms (DMEMM)."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Import `dmemm.Planner` on first access, so that code without planning need not wait for torch."""
    if name == "Planner":
        return import_module("dmemm.planning.planner").Planner
    raise AttributeError(f"module 'dmemm' has no attribute {name!r}")
