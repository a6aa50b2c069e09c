"""TD3+BC (Fujimoto and Gu, 2021), by d3rlpy with its published settings for D4RL."""

from typing import Any

from dmemm.methods import offline


class Policy(offline.Policy):
    """An ONNX graph that takes normalised observations."""

    normalised = True


def _algorithm(*_: Any) -> Any:
    import d3rlpy

    return d3rlpy.algos.TD3PlusBCConfig(
        actor_learning_rate=3e-4,
        critic_learning_rate=3e-4,
        batch_size=256,
        target_smoothing_sigma=0.2,
        target_smoothing_clip=0.5,
        alpha=2.5,
        update_actor_interval=2,
    )


train = offline.actor_critic(_algorithm, Policy)
