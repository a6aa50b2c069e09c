"""Episodes: what acts is batched over environments, which run in one process."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dmemm.envs import make_env
from dmemm.errors import UserError
from dmemm.progress import progress
from dmemm.tasks import Task

# Added to the environments' seeds of episodes that choose settings, so that none is a scored one. The largest sum is
# below 2^31, which environments with a generator in C may need.
CALIBRATION = 1_000_000_000
_SEEDS, _EPISODES = 100_000, 10_000


class Actor(Protocol):
    """What can be evaluated: a planner, or another method's policy.

    Attributes:
        plans_made: plans, or decisions, so far.
    """

    plans_made: int

    def reset(self) -> None:
        """Forget the environments: new episodes begin."""

    def act(
        self, observations: NDArray[np.float32], goals: NDArray[np.float32] | None, running: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The actions (batch, Da) for observations (batch, Ds), of which only those of `running` (batch,) count."""


@dataclass(frozen=True)
class Episodes:
    """Outcome of a batch of episodes.

    Attributes:
        returns: shape (episodes,), undiscounted.
        lengths: shape (episodes,), steps until termination or the limit.
        success: bool, shape (episodes,), whether the goal was reached at any time; None without a goal.
        states: of each episode, shape (length + 1, observation_dim).
        planning_seconds: time spent on deciding, all episodes together.
        plans: number of plans made.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    success: NDArray[np.bool_] | None
    states: list[NDArray[np.float32]]
    planning_seconds: float
    plans: int


def env_seeds(seed: int, episodes: int, offset: int = 0) -> range:
    """Return the environments' seeds of a seed's episodes, offset + 10000·seed + i: no two seeds share one.

    Args:
        seed: below 100000.
        episodes: at most 10000.
        offset: 0, or `CALIBRATION` for episodes that are never scored.

    Raises:
        UserError: more seeds or episodes than that.
    """
    if not 0 <= seed < _SEEDS:
        raise UserError(f"seed {seed}: use one from 0 to {_SEEDS - 1}")
    if episodes > _EPISODES:
        raise UserError(f"{episodes} episodes of one seed: use at most {_EPISODES}, or more seeds")
    first = offset + _EPISODES * seed
    return range(first, first + episodes)


def run_episodes(task: Task, actor: Actor, *, episodes: int, seed: int, offset: int = 0) -> Episodes:
    """Run all episodes at once, from the starts that `env_seeds` gives, the same for every method.

    Raises:
        UserError: an environment failed, gave numbers that are not finite or observations of different shapes, or lacks
            the goal or the success that the task needs; or a plan is not finite. The message names the episode.
    """
    seeds = env_seeds(seed, episodes, offset)
    envs = [make_env(task) for _ in range(episodes)]
    space = envs[0].action_space
    assert isinstance(space, Box)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    reached, running = np.zeros(episodes, dtype=bool), np.ones(episodes, dtype=bool)
    seconds, made = 0.0, actor.plans_made
    actor.reset()

    def attempt(i: int, call: Any, *arguments: Any, **keywords: Any) -> Any:
        """Call environment i; a failure names the episode and is never scored."""
        where = f"{task.name}: episode {i} of seed {seed} (environment seed {seeds[i]}), step {lengths[i]}"
        try:
            result = call(*arguments, **keywords)
            if len(result) == 5:
                state, reward, *rest = result
                result = state, np.asarray(reward).item(), *rest
        except Exception as error:  # an environment may raise anything
            raise UserError(f"{where}: the environment failed: {type(error).__name__}: {error}") from error
        if not np.isfinite(result[0]).all() or (len(result) == 5 and not np.isfinite(result[1])):
            raise UserError(f"{where}: the environment gave a number that is not finite; it has diverged")
        if len(result) == 5 and np.shape(result[0]) != observations.shape[1:]:
            raise UserError(f"{where}: an observation of shape {np.shape(result[0])} after {observations.shape[1:]}")
        for key in ("goal", "success") if len(result) == 5 else ("goal",):
            if task.has_goal and key not in result[-1]:
                raise UserError(f"{where}: the environment gave no info[{key!r}]; a task with goal_dim needs it")
        return result

    try:
        starts = [attempt(i, env.reset, seed=seeds[i]) for i, env in enumerate(envs)]
        observations, infos = np.stack([start[0] for start in starts]), [start[1] for start in starts]
        states = [[state.copy()] for state in observations]  # an environment may use its array again
        for t in progress(range(task.episode_steps), f"evaluate {task.name} seed {seed}"):
            goals = np.stack([info["goal"] for info in infos]).astype(np.float32) if task.has_goal else None
            start = time.perf_counter()
            try:
                actions = np.clip(actor.act(observations, goals, running), space.low, space.high)
            except UserError as error:
                raise UserError(f"{task.name}: seed {seed}, step {t} (observations are episodes): {error}") from error
            seconds += time.perf_counter() - start
            rewards = np.zeros(episodes, np.float32)
            for i in np.flatnonzero(running).tolist():
                state, reward, terminated, truncated, infos[i] = attempt(i, envs[i].step, actions[i])
                rewards[i] = reward
                returns[i], lengths[i], observations[i] = returns[i] + reward, lengths[i] + 1, state
                states[i].append(observations[i].copy())
                reached[i] |= task.has_goal and bool(infos[i]["success"])
                running[i] = not (terminated or truncated)
            if not running.any():
                break
            if hasattr(actor, "take_rewards"):  # a Decision Transformer's
                actor.take_rewards(rewards)
    finally:
        for env in envs:
            env.close()
    return Episodes(
        returns,
        lengths,
        reached if task.has_goal else None,
        [np.stack(path) for path in states],
        seconds,
        actor.plans_made - made,
    )
