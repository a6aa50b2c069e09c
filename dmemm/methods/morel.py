"""MOReL (Kidambi et al., 2020): a policy for the learned model, whose episodes end, at a loss, where members disagree.

The transition ensemble and the reward model are those of DMEMM's own guide, trained here on the same raw data. The
policy is d3rlpy's SAC with its default settings, in the place of the paper's natural policy gradient.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData
from dmemm.methods import base
from dmemm.methods.mppi import learned_model
from dmemm.methods.offline import Policy, best_actions, library, taken_over
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.terminations import termination

__all__ = ["Policy", "train"]

_THRESHOLD = 5.0  # deviations above the data's mean disagreement at which a state-action pair is unknown
_STEPS = 100  # of an episode in the model; each starts at a state of the data
_DISCOUNT = 0.99

Array = NDArray[np.float32]


def disagreement(dynamics: DynamicsEnsemble, s: Tensor, a: Tensor) -> Tensor:
    """The largest distance between two members' expected next states, of normalised s (n, Ds) and a (n, Da): (n,)."""
    means = dynamics.outputs(s, a)[..., : dynamics.observation_dim] * dynamics.target_scale
    return (means[:, None] - means[None]).norm(dim=-1).amax(dim=(0, 1))


class PessimisticModel(gym.Env[Array, Array]):
    """The paper's pessimistic MDP: the learned model, and a state of lasting loss behind what it does not know.

    Observations are the environment's, with the goal behind them if there is one; actions are in [-1, 1], from the
    smallest to the largest of the data. The reward is R̂, or minus the normalised distance to the goal. Where members
    disagree, the episode ends with the worst reward for ever: of the data, or of the largest distance to a goal.
    """

    def __init__(self, known: base.Policy, raw: RawData, dynamics: DynamicsEnsemble, reward: RewardModel) -> None:
        """Measure the disagreement on the data.

        Args:
            known: the normalisers.
            raw: the data.
            dynamics: the ensemble.
            reward: the reward model.
        """
        self.known, self.task, self.dynamics, self.reward = known, known.task, dynamics, reward
        self.states = known.normalise(raw.observations)
        actions = (torch.as_tensor(raw.actions) - known.center[: known.action_dim]) / known.scale[: known.action_dim]
        with torch.no_grad():
            parts = zip(self.states.split(10_000), actions.split(10_000), strict=True)
            seen = torch.cat([disagreement(dynamics, s, a) for s, a in parts])
        self.threshold = float(seen.mean() + _THRESHOLD * seen.std())
        goal_dim = self.task.goal_dim if self.task.has_goal else 0
        places = self.states[:, :goal_dim]
        worst = -float((places.amax(dim=0) - places.amin(dim=0)).norm()) if goal_dim else float(raw.rewards.min())
        self.loss = worst / (1 - _DISCOUNT)
        self.ended = termination(self.task, known.center[known.action_dim :], known.scale[known.action_dim :])
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.states.shape[1] + goal_dim,))
        self.action_space = gym.spaces.Box(-1, 1, (known.action_dim,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """A state of the data, and the place of another as the goal."""
        super().reset(seed=seed)
        start, goal = self.np_random.integers(len(self.states), size=2)
        self.s, self.steps = self.states[start, None], 0
        self.goal = self.states[goal, None, : self.task.goal_dim] if self.task.has_goal else None
        return self._observation(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One of the model's."""
        known = self.known
        share = (torch.as_tensor(action, dtype=torch.float32)[None] + 1) / 2
        a = known.low + share * (known.high - known.low)
        self.steps += 1
        with torch.no_grad():
            if float(disagreement(self.dynamics, self.s, a)) > self.threshold:
                return self._observation(), self.loss, True, False, {}
            gain = self.reward(self.s, a) * self.reward.target_scale + self.reward.target_mean
            self.s = self.dynamics(self.s, a)
        if self.goal is not None:
            gain = -(self.s[:, : self.task.goal_dim] - self.goal).norm(dim=-1)
        ended = self.ended is not None and bool(self.ended(self.s))
        return self._observation(), float(gain), ended, self.steps >= _STEPS, {}

    def _observation(self) -> Array:
        parts = self.s if self.goal is None else torch.cat([self.s, self.goal], dim=1)
        columns = [*range(self.s.shape[1]), *range(parts.shape[1] - self.s.shape[1])]
        scale, center = self.known.scale[self.known.action_dim :], self.known.center[self.known.action_dim :]
        return (parts * scale[columns] + center[columns])[0].numpy()


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """The models as MPPI's; then `method_steps` steps in the pessimistic model, an update after each."""
    d3rlpy = library(seed)
    dynamics, reward = learned_model(task, raw, seed)
    model = PessimisticModel(base.Policy.of(task, raw), raw, dynamics.cpu().eval(), reward.cpu().eval())
    model.reset(seed=seed)
    algorithm = d3rlpy.algos.SACConfig(gamma=_DISCOUNT).create("cuda:0" if device.type == "cuda" else "cpu")
    bar = progress(config.method_steps, f"MOReL {task.name} seed {seed}")
    algorithm.fit_online(
        model, n_steps=config.method_steps, n_steps_per_epoch=config.method_steps + 1, show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(), callback=lambda *_: bar.update(),
    )  # fmt: skip
    bar.close()
    return taken_over(algorithm, best_actions, Policy, task, raw)
