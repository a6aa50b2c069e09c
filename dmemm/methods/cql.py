"""CQL (Kumar et al., 2020), by d3rlpy with its published settings for D4RL."""

from typing import Any

from dmemm.methods.offline import Policy, actor_critic

__all__ = ["Policy", "train"]


def _algorithm(*_: Any) -> Any:
    import d3rlpy

    encoder = d3rlpy.models.VectorEncoderFactory([256, 256, 256])
    return d3rlpy.algos.CQLConfig(
        actor_learning_rate=1e-4,
        critic_learning_rate=3e-4,
        temp_learning_rate=1e-4,
        alpha_learning_rate=0.0,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        batch_size=256,
        n_action_samples=10,
        conservative_weight=5.0,
    )


train = actor_critic(_algorithm)
