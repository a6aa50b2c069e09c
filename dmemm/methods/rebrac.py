"""ReBRAC (Tarasov et al., 2023), by d3rlpy with its authors' settings for D4RL."""

from typing import Any

from dmemm.methods.offline import Policy, actor_critic
from dmemm.tasks import Task

__all__ = ["Policy", "train"]

# β of the actor and of the critic: the authors' for each data set of Table 1; other tasks use those for mazes.
_BETAS = {
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "hopper-medium": (0.01, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-medium-expert": (0.1, 0.01),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-medium-expert": (0.01, 0.01),
}
_BETAS_ELSEWHERE = (0.003, 0.001)


def _algorithm(task: Task, *_: Any) -> Any:
    import d3rlpy

    published = task.name in _BETAS
    actor_beta, critic_beta = _BETAS.get(task.name, _BETAS_ELSEWHERE)
    rate, layers = (1e-3 if published else 3e-4), [256, 256, 256]
    return d3rlpy.algos.ReBRACConfig(
        actor_learning_rate=rate,
        critic_learning_rate=rate,
        actor_encoder_factory=d3rlpy.models.VectorEncoderFactory(layers),
        critic_encoder_factory=d3rlpy.models.VectorEncoderFactory(layers, use_layer_norm=True),
        batch_size=1024 if published else 256,
        actor_beta=actor_beta,
        critic_beta=critic_beta,
        update_actor_interval=2,
    )


train = actor_critic(_algorithm)
