"""Episodes that execute plans: the planner is batched over environments, which run in one process."""

import time
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from dmemm.envs import make_env
from dmemm.planning.planner import Planner, Plans
from dmemm.progress import progress
from dmemm.tasks import Task

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Episodes:
    """Outcome of a batch of episodes.

    Attributes:
        returns: shape (episodes,), undiscounted.
        lengths: shape (episodes,), steps until termination or the limit.
        success: bool, shape (episodes,), whether the goal was reached at any time; None without a goal.
        planning_seconds: time spent in the planner, all episodes together.
        plans: number of plans made.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    success: NDArray[np.bool_] | None
    planning_seconds: float
    plans: int


def follow(plans: Plans, step: int, observations: Array, execute: str) -> Array:
    """The action at the `step`-th step after planning, shape (batch, action_dim).

    `actions` executes the plan's own action. `waypoints` follows its states as Diffuser's maze controller does:
    a = Δposition + Δvelocity towards the next planned state, the last one once the plan is over.
    """
    if execute == "actions":
        return plans.actions[:, step]
    target = plans.states[:, min(step + 1, plans.states.shape[1] - 1)]
    return (target - observations)[:, :2] + (target - observations)[:, 2:]


def run_episodes(
    task: Task, planner: Planner, *, episodes: int, replan_every: int, execute: str, seed: int
) -> Episodes:
    """Run all episodes at once, planning anew every `replan_every` steps (at the latest when a plan is used up).

    Episode i starts from the environment's seed 10000·seed + i, whatever is evaluated.
    """
    envs = SyncVectorEnv([lambda: make_env(task)] * episodes)
    low, high = envs.single_action_space.low, envs.single_action_space.high  # type: ignore[attr-defined]
    every = min(replan_every, planner.model.horizon)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    reached = np.zeros(episodes, dtype=bool)
    running = np.ones(episodes, dtype=bool)
    seconds, plans_made = 0.0, 0
    try:
        observations, info = envs.reset(seed=[10_000 * seed + i for i in range(episodes)])
        for t in progress(range(task.episode_steps), f"evaluate {task.name} seed {seed}"):
            if t % every == 0:
                planned = np.flatnonzero(running)  # finished episodes drop out of the planner's batch only here
                start = time.perf_counter()
                goals = info["goal"][planned].astype(np.float32) if task.has_goal else None
                plans = planner.plan(observations[planned].astype(np.float32), goals)
                seconds += time.perf_counter() - start
                plans_made += len(planned)
            actions = np.zeros((episodes, planner.model.action_dim), dtype=np.float32)
            actions[planned] = follow(plans, t % every, observations[planned].astype(np.float32), execute)
            observations, rewards, terminated, truncated, info = envs.step(np.clip(actions, low, high))
            returns += rewards * running
            lengths += running
            if task.has_goal:
                reached |= running & info["success"]
            running &= ~(terminated | truncated)
            if not running.any():
                break
    finally:
        envs.close()
    return Episodes(returns, lengths, reached if task.has_goal else None, seconds, plans_made)
