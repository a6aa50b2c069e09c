"""BCQ (Fujimoto et al., 2019), by d3rlpy with its published settings for D4RL."""

from typing import Any

from dmemm.methods.offline import Policy, actor_critic

__all__ = ["Policy", "train"]


def _algorithm(*_: Any) -> Any:
    import d3rlpy

    encoder = d3rlpy.models.VectorEncoderFactory([400, 300])
    return d3rlpy.algos.BCQConfig(
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        imitator_learning_rate=1e-3,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        imitator_encoder_factory=d3rlpy.models.VectorEncoderFactory([750, 750]),
        batch_size=100,
        lam=0.75,
        action_flexibility=0.05,
        n_action_samples=100,
    )


train = actor_critic(_algorithm)
