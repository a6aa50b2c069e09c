"""Decision Transformer (Chen et al., 2021), by d3rlpy with its published settings for D4RL."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmemm.methods import offline
from dmemm.tasks import Task

_CONTEXT = 20
_MAX_TIMESTEP = 1000
# Published target returns; other tasks use the return of the data's best episode.
_TARGETS = {"hopper": 3600.0, "halfcheetah": 6000.0, "walker2d": 5000.0}
_REWARD_SCALE = 0.001  # published for these tasks; in others, the best return is scaled to 1


class Policy(offline.Policy):
    """Chooses actions from the last steps of each environment and the return that is still to be reached."""

    inputs = ("observations", "actions", "returns", "timesteps", "mask")

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Allocate the graph."""
        super().__init__(task, header)
        self.target = _TARGETS.get(task.body, header["best_return"])
        self.reset()

    def reset(self) -> None:
        """Forget the episodes."""
        self.history: dict[str, NDArray[Any]] = {}
        self.wanted: NDArray[np.float32] = np.zeros(0, np.float32)

    def take_rewards(self, rewards: NDArray[np.float32]) -> None:
        """Subtract the rewards of the last actions, (batch,), from the return that is still to be reached."""
        self.wanted = self.wanted - rewards

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        known, batch = self.environment(observations, goals), len(observations)
        if not self.history:
            self.wanted = np.full(batch, self.target, np.float32)
        step = self.history["timesteps"][:, -1] + 1 if self.history else np.ones((batch, 1), np.float32)
        # The action is not known yet.
        now = {
            "observations": known,
            "actions": np.zeros((batch, self.action_dim), np.float32),
            "returns": self.wanted[:, None],
            "timesteps": np.minimum(step, _MAX_TIMESTEP),
            "mask": np.ones((batch, 1), np.float32),
        }
        for name, value in now.items():
            past = (
                self.history[name] if name in self.history else np.zeros((batch, _CONTEXT, value.shape[1]), np.float32)
            )
            self.history[name] = np.concatenate([past[:, 1:], value[:, None]], axis=1)
        decided = self.run(**self.history)
        span = (self.high - self.low).clamp(min=1e-6)
        self.history["actions"][:, -1] = (2 * (decided - self.low) / span - 1).cpu().numpy()
        return decided


class _Last(nn.Module):
    """The transformer's action for the last step; takes histories with unscaled returns."""

    def __init__(self, trained: Any) -> None:
        super().__init__()
        self.trained, self.transformer = trained, trained.impl.modules.transformer

    def forward(
        self, observations: Tensor, actions: Tensor, returns: Tensor, timesteps: Tensor, mask: Tensor
    ) -> Tensor:
        config = self.trained.config
        mask = mask[..., 0]
        # The scaler is applied to the zeros of the padding too.
        scaled = config.observation_scaler.transform(observations)
        returns = config.reward_scaler.transform(returns)
        return self.transformer(scaled, actions, returns, timesteps[..., 0].long(), 1 - mask)[:, -1]


def _network(trained: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    sizes = {
        "observations": trained.impl.observation_shape[0],
        "actions": trained.impl.action_size,
        "returns": 1,
        "timesteps": 1,
        "mask": 1,
    }
    return _Last(trained), {name: torch.ones(2, _CONTEXT, n) for name, n in sizes.items()}


def _algorithm(task: Task, steps: int, returns: NDArray[np.float64]) -> Any:
    import d3rlpy

    scale = _REWARD_SCALE if task.body in _TARGETS else 1 / (abs(float(returns.max())) or 1.0)
    return d3rlpy.algos.DecisionTransformerConfig(
        batch_size=64,
        learning_rate=1e-4,
        optim_factory=d3rlpy.optimizers.AdamWFactory(
            weight_decay=1e-4,
            clip_grad_norm=0.25,
            lr_scheduler_factory=d3rlpy.optimizers.WarmupSchedulerFactory(warmup_steps=max(1, steps // 10)),
        ),
        encoder_factory=d3rlpy.models.VectorEncoderFactory([128], exclude_last_activation=True),
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
        reward_scaler=d3rlpy.preprocessing.MultiplyRewardScaler(scale),
        position_encoding_type=d3rlpy.PositionEncodingType.SIMPLE,
        context_size=_CONTEXT,
        num_heads=1,
        num_layers=3,
        max_timestep=_MAX_TIMESTEP,
    )


train = partial(offline.fit, _algorithm, _network, Policy)
