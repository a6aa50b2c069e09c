"""BEAR (Kumar et al., 2019), by d3rlpy with its published settings for D4RL."""

from typing import Any

from dmemm.methods.offline import Policy, actor_critic
from dmemm.tasks import Task

__all__ = ["Policy", "train"]


def _algorithm(task: Task, steps: int, _: Any) -> Any:
    import d3rlpy

    return d3rlpy.algos.BEARConfig(
        actor_learning_rate=1e-4,
        critic_learning_rate=3e-4,
        imitator_learning_rate=3e-4,
        alpha_learning_rate=1e-3,
        temp_learning_rate=0.0,
        initial_temperature=1e-20,
        imitator_encoder_factory=d3rlpy.models.VectorEncoderFactory([750, 750]),
        batch_size=256,
        mmd_sigma=20.0,
        mmd_kernel="gaussian" if task.body == "halfcheetah" else "laplacian",
        n_mmd_action_samples=4,
        alpha_threshold=0.05,
        n_target_samples=10,
        n_action_samples=100,
        warmup_steps=steps * 40 // 500,  # as published, of 500,000
    )


train = actor_critic(_algorithm)
