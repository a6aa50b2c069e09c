"""Data collected on this machine, where D4RL's cannot be had. It follows D4RL's recipes but is never to be called D4RL.

Mazes: one long trajectory between random goals. Locomotion: linear policies found by `dmemm.data.search`.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmemm.data.maze_controller import Navigator, cell_of
from dmemm.data.raw import RawData
from dmemm.envs import Env, MazeEnv, make_env
from dmemm.progress import progress
from dmemm.tasks import Task

MAZE_NOISE = 0.5
LOCOMOTION_NOISE = 0.1
# `medium` is the iterate whose return is nearest to this share of the best one's.
MEDIUM_SHARE = 0.5

Array = NDArray[np.float64]
# observation, action, reward, terminal, timeout, next observation
Transition = tuple[Any, Any, float, bool, bool, Any]


def load_policies(body: str) -> list[dict[str, Any]]:
    """Iterates of the search for `body`, from random to best.

    Returns:
        For each: `weights` (Da, Ds) and `bias` (Da,) of the policy `clip(weights @ observation + bias, -1, 1)`, and
        `return_mean` and `return_std` as measured with action noise at the time of the search.
    """
    iterates = json.loads((Path(__file__).parent / "policies" / f"{body}.json").read_text())
    return [item | {"weights": np.array(item["weights"]), "bias": np.array(item["bias"])} for item in iterates]


def policies_of_level(body: str, level: str) -> list[dict[str, Any]]:
    """The policies whose transitions make up a level in equal shares: `expert`, or one of the tasks' levels."""
    iterates = load_policies(body)
    best = iterates[-1]
    medium = min(iterates, key=lambda item: abs(item["return_mean"] - MEDIUM_SHARE * best["return_mean"]))
    return {"expert": [best], "medium": [medium], "medium-expert": [medium, best], "medium-replay": iterates}[level]


def collect(task: Task, steps: int, seed: int) -> RawData:
    """Collect `steps` transitions for `task`; the same seed gives the same bits.

    Both maze protocols get the same data, with rewards for maze2d's fixed goal.
    """
    if task.is_maze:
        env = make_env(replace(task, env_arguments={"maze": task.body, "random_goal": False}))
        transitions = _navigate(env.unwrapped, steps, seed)
    else:
        env = make_env(task)
        policies = policies_of_level(task.body, task.data["local"])
        shares = np.diff(np.linspace(0, steps, len(policies) + 1).astype(int))
        transitions = (
            transition
            for i, (policy, share) in enumerate(zip(policies, shares, strict=True))
            for transition in _walk(env, policy, int(share), [seed, i])
        )
    columns: tuple[list[Any], ...] = tuple([] for _ in range(6))
    with progress(steps, f"{task.name} local data") as shown:
        for transition in transitions:
            for column, value in zip(columns, transition, strict=True):
                column.append(value)
            shown.update()
    env.close()
    observations, actions, rewards, terminals, timeouts, next_observations = columns
    return RawData(
        observations=np.array(observations, np.float32),
        actions=np.array(actions, np.float32),
        rewards=np.array(rewards, np.float32),
        terminals=np.array(terminals, np.bool_),
        timeouts=np.array(timeouts, np.bool_),
        next_observations=np.array(next_observations, np.float32),
        data_source="local",
        task=task.name,
    )


def _navigate(env: Any, steps: int, seed: int) -> Iterator[Transition]:
    """One trajectory; a new goal, never in the current cell, whenever one is reached."""
    assert isinstance(env, MazeEnv)
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    navigator = None
    for step in range(steps):
        if navigator is None:
            goal = env.random_position(rng)
            while cell_of(goal) == cell_of(observation[:2]):
                goal = env.random_position(rng)
            navigator = Navigator(env.maze_map, observation[:2], goal)
        force, reached = navigator.action(observation)
        action = np.clip(force + MAZE_NOISE * rng.standard_normal(2), -1, 1).astype(np.float32)
        next_observation, reward, _, _, _ = env.step(action)
        yield observation, action, float(reward), False, reached or step == steps - 1, next_observation
        observation = next_observation
        if reached:
            navigator = None


def _walk(env: Env, policy: dict[str, Any], steps: int, seed: list[int]) -> Iterator[Transition]:
    """Episodes of one policy; the last one is cut off where the share ends."""
    rng = np.random.default_rng(seed)
    weights, bias = policy["weights"], policy["bias"]
    ended = True
    for step in range(steps):
        if ended:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
        noise = LOCOMOTION_NOISE * rng.standard_normal(len(bias))
        action = np.clip(weights @ observation + bias + noise, -1, 1).astype(np.float32)
        next_observation, reward, terminal, timeout, _ = env.step(action)
        timeout = (timeout or step == steps - 1) and not terminal
        ended = terminal or timeout
        yield observation, action, float(reward), terminal, timeout, next_observation
        observation = next_observation
