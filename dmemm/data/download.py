"""Stage 1: a task's raw data from one of the sources, checked against its environment."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from dmemm.config import DownloadConfig
from dmemm.data import d4rl, hdf5
from dmemm.data.raw import RawData, statistics, write_raw
from dmemm.envs import make_env
from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.tasks import FOLDER, Task
from dmemm.terminations import termination


def download(task: Task, config: DownloadConfig, output: Path, statistics_output: Path) -> None:
    """Write a task's raw data (HDF5) and its statistics (JSON).

    Every table that is made from the data repeats the `warnings` of the statistics.

    Raises:
        UserError: the task has no data of the source, they cannot be downloaded, are invalid or do not fit the
            environment, or a file cannot be written.
    """
    source = choose_source(task, config.data_source)
    entry = task.data[source]
    expected: Mapping[str, Any] = entry if source == "d4rl" else {}
    blocks: Iterable[RawData]
    ceiling = None
    if source == "local":
        from dmemm.data.local import best_score, collect

        ceiling = best_score(task)
        blocks = [collect(task, config.local_steps, config.data_seed)]
    elif source == "minari":
        from dmemm.data import minari

        blocks = minari.read_blocks(entry, task)
    else:
        path = d4rl.find(entry, config.d4rl_mirrors) if source == "d4rl" else Path(entry).expanduser()
        if path.resolve() in (output.resolve(), statistics_output.resolve()):
            raise UserError(f"{path}: is the data set itself; choose another file to write")
        blocks = hdf5.read_blocks(path, task, source)
    warnings: list[str] = []
    write_raw(output, _fitted(blocks, task, warnings))
    if source == "own" and not hdf5.marks_cuts(path):
        warnings.append(
            f"{task.name}: the data have neither `timeouts` nor `next_observations`, so only `terminals` end an"
            " episode; where one was cut off, the next row is taken for what followed"
        )
    result = statistics(output, task)
    differences = d4rl.differences(result, expected)
    if differences:
        warnings.append(f"{task.name}: NOT D4RL'S DATA? {'; '.join(differences)}")
    result |= {"best_policy_score": ceiling, "expected": expected, "warnings": warnings}
    write_json(statistics_output, result)
    known = f" (D4RL's: {expected['return_mean']} ± {expected['return_std']})" if "return_mean" in expected else ""
    print(
        f"download {task.name} from {source}: {result['transitions']} transitions in {result['episodes']} episodes,"
        f" return {result['return_mean']:.0f} ± {result['return_std']:.0f}{known} → {output}"
    )
    for warning in warnings:
        print(f"{'!' * 100}\n!! {warning}\n{'!' * 100}", file=sys.stderr)


def choose_source(task: Task, data_source: str) -> str:
    """Return the source of a task's data: `data_source`, or the only one that it has.

    Raises:
        UserError: it has several, or none, and not that one.
    """
    if data_source in task.data:
        return data_source
    if len(task.data) == 1:
        return next(iter(task.data))
    path = f"{FOLDER}/{task.name}.yaml"
    if not task.data:
        raise UserError(f"{path}: `data` names no source; add one, for instance `own: FILE.hdf5`")
    raise UserError(f"data_source={data_source}: {path} has no such data; choose one of {', '.join(task.data)}")


def _fitted(blocks: Iterable[RawData], task: Task, warnings: list[str]) -> Iterator[RawData]:
    """Yield the blocks, checked against the environment and the task file, with actions clipped to its bounds."""
    env = make_env(task)
    space, shape = env.action_space, env.observation_space.shape
    env.close()
    assert isinstance(space, Box) and shape
    if task.goal_dim > shape[0]:
        raise UserError(
            f"{FOLDER}/{task.name}.yaml: goal_dim: {task.goal_dim}, but {task.env}'s states have {shape[0]} entries"
        )
    if terminates := termination(task, 0.0, 1.0):
        terminates(np.zeros((2, *shape), np.float32))  # its errors come before anything is trained
    outside = total = jumps = 0
    for raw in blocks:
        for key, found, wanted in (
            ("observations", raw.observations.shape[1:], shape), ("actions", raw.actions.shape[1:], space.shape),
        ):  # fmt: skip
            if found != wanted:
                raise UserError(
                    f"{FOLDER}/{task.name}.yaml: the data's {key} have shape {found}, {task.env}'s {wanted};"
                    " correct `data` or `env`"
                )
        clipped = np.clip(raw.actions, space.low.astype(np.float32), space.high.astype(np.float32))
        outside, total = outside + int((clipped != raw.actions).any(axis=1).sum()), total + len(clipped)
        if raw.data_source == "own":
            starts, ends = raw.observations[1:], raw.next_observations[:-1]
            jumps += int((~raw.ended[:-1] & ~np.isclose(starts, ends, rtol=1e-3, atol=1e-3).all(axis=1)).sum())
        yield replace(raw, actions=clipped)
    if jumps:
        warnings.append(
            f"{task.name}: after {jumps} of {total} transitions that end no episode, the next row starts in another"
            " state; mark the ends of episodes in `timeouts`, or correct `next_observations`"
        )
    if outside:
        warnings.append(f"{task.name}: {outside} of {total} actions lie outside the environment's bounds; clipped")
