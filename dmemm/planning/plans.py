"""Plans of a batch of observations, and the record of which plan each environment is following."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Plans:
    """The chosen plan of each observation, in the environment's units.

    Attributes:
        actions: shape (batch, horizon, action_dim).
        states: shape (batch, horizon, observation_dim); the first is the observation planned from.
        values: shape (batch,), the objective minus the veto, by which the plan was chosen.
        returns: shape (batch,), the return Σ r predicted by the reward model; NaN without one.
        transition_errors: shape (batch,), eq. 9 under the ensemble: the mean over the plan's transitions of
            ‖s' - T̂(s, a)‖², normalised states; NaN without an ensemble.
    """

    actions: Array
    states: Array
    values: Array
    returns: Array
    transition_errors: Array


class ActivePlans:
    """The plan that each of several environments is following.

    Args:
        environments: their number.
        horizon: steps of a plan.
        action_dim, observation_dim: sizes of an action and of an observation.

    Attributes:
        plans: the plans, one for each environment; arbitrary where `fresh`.
        steps: int, shape (environments,), steps taken since the plan was made.
        fresh: bool, shape (environments,), whether the environment has no plan of its current episode.
    """

    def __init__(self, environments: int, horizon: int, action_dim: int, observation_dim: int) -> None:
        """Start without plans."""
        actions, states = (np.zeros((environments, horizon, dim), np.float32) for dim in (action_dim, observation_dim))
        self.plans = Plans(actions, states, *np.zeros((3, environments), np.float32))
        self.steps, self.fresh = np.zeros(environments, np.int64), np.ones(environments, dtype=bool)

    def __len__(self) -> int:
        """Return the number of environments."""
        return len(self.steps)

    def due(self, running: NDArray[np.bool_], replan_every: int) -> NDArray[np.bool_]:
        """Return which of the `running` environments need a new plan, shape (environments,)."""
        return running & (self.fresh | (self.steps >= replan_every))

    def replace(self, environments: NDArray[np.int64], plans: Plans) -> None:
        """Give new plans to the environments with these indices."""
        for name, value in vars(plans).items():
            getattr(self.plans, name)[environments] = value
        self.steps[environments], self.fresh[environments] = 0, False

    def remaining(self, environments: NDArray[np.int64]) -> Array:
        """Return the steps that are left of plans, `[actions, states]`, padded with the last one.

        Shape (n, horizon, action_dim + observation_dim).
        """
        plans = np.concatenate([self.plans.actions, self.plans.states], axis=2)[environments]
        last = plans.shape[1] - 1
        steps = np.minimum(np.arange(last + 1) + self.steps[environments, None], last)
        return plans[np.arange(len(environments))[:, None], steps]

    def actions(self, observations: Array, execute: Literal["actions", "waypoints"]) -> Array:
        """Return the action of each environment, shape (environments, action_dim).

        Args:
            observations: shape (environments, observation_dim).
            execute: `actions` takes the plan's own action. `waypoints` tracks its states as Diffuser's maze controller
                does: a = Δposition + Δvelocity towards the next planned state, or towards the last one after the plan's
                end.
        """
        row, last = np.arange(len(self)), self.plans.states.shape[1] - 1
        if execute == "actions":
            return self.plans.actions[row, np.minimum(self.steps, last)]
        away = self.plans.states[row, np.minimum(self.steps + 1, last)] - observations
        return away[:, :2] + away[:, 2:]
