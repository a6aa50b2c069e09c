"""Offline-RL planning with a diffusion model modulated by the environment's mechanisms (DMEMM)."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """`dmemm.Planner`, imported when it is asked for: no stage but planning waits for torch."""
    if name == "Planner":
        return import_module("dmemm.planning.planner").Planner
    raise AttributeError(f"module 'dmemm' has no attribute {name!r}")
