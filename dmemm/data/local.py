"""Data collected on this machine, for use without a network. They follow D4RL's recipes but must never be called D4RL.

Mazes: one long trajectory between random goals. Locomotion: policies of soft actor-critic, their actions sampled, from
workflow/scripts/train_policies.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from dmemm.data.maze_controller import Navigator, cell_of
from dmemm.data.raw import ARRAYS, DTYPES, RawData
from dmemm.envs import Env, MazeEnv, make_env
from dmemm.progress import progress
from dmemm.tasks import Task

MAZE_NOISE = 0.5
_LOG_STD = (-20.0, 2.0)
# Level of a task's data → levels of the policies that collect them.
_LEVELS = {
    "expert": ("expert",),
    "medium": ("medium",),
    "medium-expert": ("medium", "expert"),
    "medium-replay": ("replay", "medium"),
}

Floats = NDArray[np.float32]
# In the order of ARRAYS.
Transition = tuple[Any, Any, float, bool, bool, Any]


@dataclass(frozen=True)
class Policy:
    """An actor of soft actor-critic, a = tanh(N(mean(s), std(s))), which collects data; two hidden layers.

    Attributes:
        layers: weight (out, in) and bias (out,) of each layer, float32.
    """

    layers: tuple[tuple[Floats, Floats], ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Any], steps: int) -> "Policy":
        """The actor after so many gradient steps, in a file of several."""
        names = [(f"{steps}.weight{layer}", f"{steps}.bias{layer}") for layer in range(3)]
        return cls(
            tuple((tensors[weight].astype(np.float32), tensors[bias].astype(np.float32)) for weight, bias in names)
        )

    def sample(self, observation: Floats, rng: np.random.Generator) -> Floats:
        """Draw an action, shape (Da,), for an observation of shape (Ds,)."""
        x = observation
        for weight, bias in self.layers[:-1]:
            x = np.maximum(weight @ x + bias, 0)
        weight, bias = self.layers[-1]
        mean, log_std = np.split(weight @ x + bias, 2)
        noise = rng.standard_normal(len(mean), np.float32)
        return np.tanh(mean + np.exp(np.clip(log_std, *_LOG_STD)) * noise)


def load_policies(body: str) -> tuple[list[dict[str, Any]], list[Policy]]:
    """The policies of `body` from random to expert, and what is known of each.

    Returns:
        For each `steps` (of its training), `level` (replay, medium or expert), `seed`, and `return_mean` and
        `return_std` of its episodes with sampled actions; and the policies.
    """
    with safe_open(Path(__file__).parent / "policies" / f"{body}.safetensors", "np") as file:
        table = json.loads(file.metadata()["policies"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    return table, [Policy.of(tensors, row["steps"]) for row in table]


def policies_of_level(body: str, level: str) -> list[Policy]:
    """The policies that collect a level in equal shares: of `medium-replay` all up to the medium one."""
    table, policies = load_policies(body)
    return [policy for row, policy in zip(table, policies, strict=True) if row["level"] in _LEVELS[level]]


def best_score(task: Task) -> float | None:
    """The score of the best policy that collects the task's data; None in mazes."""
    if task.is_maze:
        return None
    table, _ = load_policies(task.body)
    levels = _LEVELS[task.data["local"]]
    return max(task.score(row["return_mean"]) for row in table if row["level"] in levels)


def collect(task: Task, steps: int, seed: int) -> RawData:
    """Collect `steps` transitions for `task`; the same seed gives the same bits."""
    env = make_env(task)
    if task.is_maze:
        transitions = _navigate(env.unwrapped, steps, seed)
    else:
        policies = policies_of_level(task.body, task.data["local"])
        shares = np.diff(np.linspace(0, steps, len(policies) + 1).astype(int))
        transitions = (
            transition
            for i, (policy, share) in enumerate(zip(policies, shares, strict=True))
            for transition in _walk(env, policy, int(share), [seed, i])
        )
    columns: dict[str, list[Any]] = {key: [] for key in ARRAYS}
    with progress(steps, f"{task.name} local data") as shown:
        for transition in transitions:
            for column, value in zip(columns.values(), transition, strict=True):
                column.append(value)
            shown.update()
    env.close()
    arrays: dict[str, Any] = {key: np.array(column, DTYPES[key]) for key, column in columns.items()}
    return RawData(**arrays, data_source="local", task=task.name)


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


def _walk(env: Env, policy: Policy, steps: int, seed: list[int]) -> Iterator[Transition]:
    """Episodes of one policy; the last one is cut off where the share ends."""
    rng = np.random.default_rng(seed)
    ended = True
    for step in range(steps):
        if ended:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
        action = policy.sample(observation, rng)
        next_observation, reward, terminal, timeout, _ = env.step(action)
        timeout = (timeout or step == steps - 1) and not terminal
        ended = terminal or timeout
        yield observation, action, float(reward), terminal, timeout, next_observation
        observation = next_observation
