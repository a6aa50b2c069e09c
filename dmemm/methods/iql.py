"""IQL (Kostrikov et al., 2022), by d3rlpy with its published settings for D4RL."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmemm.methods.offline import Policy, actor_critic
from dmemm.tasks import Task

__all__ = ["Policy", "train"]


def _algorithm(task: Task, steps: int, returns: NDArray[np.float64]) -> Any:
    import d3rlpy

    spread = float(returns.max() - returns.min()) or 1.0
    return d3rlpy.algos.IQLConfig(
        actor_learning_rate=3e-4,
        critic_learning_rate=3e-4,
        actor_optim_factory=d3rlpy.optimizers.AdamFactory(
            lr_scheduler_factory=d3rlpy.optimizers.CosineAnnealingLRFactory(T_max=steps)
        ),
        batch_size=256,
        weight_temp=3.0,
        max_weight=100.0,
        expectile=0.7,
        reward_scaler=d3rlpy.preprocessing.MultiplyRewardScaler(1000 / spread),
    )


train = actor_critic(_algorithm)
