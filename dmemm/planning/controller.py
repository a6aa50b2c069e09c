"""The controller that turns a plan into the next action."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dmemm.planning.plans import Array, Plans


def follow(
    plans: Plans, steps: NDArray[np.int64], observations: Array, execute: Literal["actions", "waypoints"]
) -> Array:
    """Return the action of each environment, shape (batch, action_dim).

    Args:
        plans: the plan of each environment.
        steps: shape (batch,), steps since the plan was made.
        observations: shape (batch, observation_dim).
        execute: `actions` takes the plan's own action. `waypoints` tracks its states as Diffuser's maze controller
            does: a = Δposition + Δvelocity towards the next planned state, or towards the last one after the plan's
            end.
    """
    row, last = np.arange(len(steps)), plans.states.shape[1] - 1
    if execute == "actions":
        return plans.actions[row, np.minimum(steps, last)]
    away = plans.states[row, np.minimum(steps + 1, last)] - observations
    return away[:, :2] + away[:, 2:]
