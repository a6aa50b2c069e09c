"""Behaviour cloning, by d3rlpy with its default settings."""

from typing import Any

from dmemm.methods.offline import Policy, actor_critic

__all__ = ["Policy", "train"]


def _algorithm(*_: Any) -> Any:
    import d3rlpy

    return d3rlpy.algos.BCConfig()


train = actor_critic(_algorithm)
