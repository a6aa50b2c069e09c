"""Minari data sets: regenerated, so never to be called D4RL, or the user's own."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import minari
import numpy as np
import requests
from minari.storage.datasets_root_dir import get_dataset_path

from dmemm.data.raw import RawData, check_raw
from dmemm.envs import GOAL_RADIUS, GOALS, from_point_maze
from dmemm.errors import UserError
from dmemm.tasks import Task

_SERVERS = {"hf": os.environ.get("HF_ENDPOINT", "https://huggingface.co"), "gcp": "https://storage.googleapis.com"}
_TIMEOUT_S = 5


def read_blocks(ids: Sequence[str], task: Task) -> Iterator[RawData]:
    """The transitions of all data sets of `ids`, an episode at a time; those that are not here are downloaded.

    An observation that is a dict with a goal becomes `[achieved_goal, observation]`, as `dmemm.envs` shows it; D4RL's
    mazes get their own frame, and the rewards of maze2d's goal.

    Raises:
        UserError: no network, no such data set, a damaged one, or observations and actions that are not vectors.
    """
    for name in ids:
        for episode in _episodes(name):
            where = f"{name}: episode {episode.id}"
            try:
                raw = _transitions(episode, task, name)
            except (LookupError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{where}: unlike {task.env}'s ({reason}); choose another data set") from error
            if raw is not None:
                check_raw(raw, where, "choose another data set")
                yield raw


def _episodes(name: str) -> Iterator[Any]:
    """The episodes of a data set; what h5py raises for a damaged one becomes one line."""
    data = _load(name)
    try:
        yield from data.iterate_episodes()
    except (OSError, RuntimeError, TypeError, ValueError, LookupError, MemoryError) as error:
        reason, folder = " ".join(str(error).split()), get_dataset_path(name)
        raise UserError(f"{name}: damaged ({reason}); delete {folder}, and record or download it again") from error


def _transitions(episode: Any, task: Task, name: str) -> RawData | None:
    """Those of an episode; None if it has none."""
    states, actions = _states(episode.observations, task, name), np.asarray(episode.actions)
    if len(actions) == 0:
        return None
    if task.is_maze:
        states, actions = from_point_maze(task.body, states, actions)
        distance = np.linalg.norm(states[1:, :2] - GOALS[task.body], axis=1)
        rewards = (distance <= GOAL_RADIUS).astype(np.float32)
    else:
        rewards = np.asarray(episode.rewards, np.float32)
    terminals, timeouts = np.asarray(episode.terminations, np.bool_), np.zeros(len(actions), np.bool_)
    timeouts[-1] = not terminals[-1]  # an episode ends where its record does
    return RawData(
        states[:-1].astype(np.float32), actions.astype(np.float32), rewards, terminals, timeouts,
        states[1:].astype(np.float32), "minari", task.name,
    )  # fmt: skip


def _states(observations: Any, task: Task, name: str) -> np.ndarray[Any, Any]:
    """Shape (steps + 1, Ds)."""
    if isinstance(observations, dict) and {"observation", "achieved_goal"} <= observations.keys():
        inner = np.asarray(observations["observation"])
        observations = inner if task.is_maze else np.concatenate([observations["achieved_goal"], inner], axis=1)
    if isinstance(observations, dict | tuple) or np.ndim(observations) != 2:
        raise UserError(f"{name}: observations are not vectors; only Box spaces of one dimension are supported")
    return np.asarray(observations)


def _load(name: str) -> minari.MinariDataset:
    if not (get_dataset_path(name) / "data").exists():
        # Without a network, Minari retries for half a minute and then prints pages of traceback.
        server = _SERVERS.get(os.environ.get("MINARI_REMOTE", "hf://").partition(":")[0])
        try:
            if server:
                requests.head(server, timeout=_TIMEOUT_S)
        except requests.RequestException:
            raise UserError(
                f"{name}: not in {get_dataset_path('')} and {server} cannot be reached; check the network, or copy the"
                " data set there"
            ) from None
    try:
        return minari.load_dataset(name, download=True)
    except Exception as error:  # the remote's library raises errors of its own kinds
        raise UserError(f"{name}: Minari cannot load it: {' '.join(str(error).split())[:300]}") from error
