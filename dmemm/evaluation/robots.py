"""Pictures of a robot, rendered where that is possible: a plan beside what happened; else curves of the states."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmemm.envs import make_env, set_state_from_observation
from dmemm.evaluation.animation import Animation, evenly
from dmemm.tasks import Task

Array = NDArray[np.float32]

_FRAMES = 8  # of a strip


def rendered(task: Task, states: Array) -> NDArray[np.uint8] | None:
    """Render a robot in the given states, shape (n, height, width, 3); return None if nothing can be rendered."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        env = make_env(task, render_mode="rgb_array")
        with closing(env):
            env.reset(seed=0)
            if not isinstance(env.unwrapped, MujocoEnv):
                return None
            frames = []
            for state in states:
                set_state_from_observation(env, state)
                frames.append(np.asarray(env.render()))
        return np.stack(frames)
    except Exception as error:  # each backend fails in its own way
        print(
            f"pictures: nothing can be rendered here ({' '.join(str(error).split())}); drawing curves", file=sys.stderr
        )
        return None


def strip(
    frames: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None], plan: Array, path: Array, title: str
) -> Figure:
    """Draw frames of the plan above those of the rollout, or curves of their states."""
    planned, happened = frames
    if planned is None or happened is None:
        return curves([plan, path[: len(plan)]], title)
    count = min(len(planned), len(happened))
    chosen = evenly(range(count), _FRAMES)
    figure = Figure(figsize=(1.6 * len(chosen), 3.6), layout="constrained")
    rows = figure.subplots(2, len(chosen), squeeze=False)
    for row, images, label in zip(rows, (planned, happened), ("plan", "rollout"), strict=True):
        for axes, t in zip(row, chosen, strict=True):
            axes.imshow(images[t])
            axes.set_xticks([])
            axes.set_yticks([])
            if label == "plan":
                axes.set_title(f"step {t}", fontsize=8)
        row[0].set_ylabel(label)
    figure.suptitle(title)
    return figure


def curves(states: Sequence[Array], title: str) -> Figure:
    """Draw each state's entries over time."""
    figure = Figure(figsize=(2.6 * len(states), 2.8), layout="constrained")
    for values, axes in zip(states, figure.subplots(1, len(states), sharey=True, squeeze=False)[0], strict=True):
        axes.plot(values, linewidth=0.8)
        axes.set_xlabel("step")
    figure.suptitle(title)
    return figure


def animate(frames: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None], plan: Array, path: Array) -> Animation:
    """Show the frames of a plan beside those of the rollout, or draw curves of their states."""
    planned, happened = frames
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title("plan")
    right.set_title("rollout")
    if planned is None or happened is None:
        count = min(len(plan), len(path))
        lines = [axes.plot(values[:count]) for axes, values in ((left, plan), (right, path))]

        def draw(t: int) -> None:
            for group, values in zip(lines, (plan, path), strict=True):
                for line, column in zip(group, values.T, strict=True):
                    line.set_data(np.arange(t + 1), column[: t + 1])
    else:
        count = min(len(planned), len(happened))
        for axes in (left, right):
            axes.set_axis_off()
        images = left.imshow(planned[0]), right.imshow(happened[0])

        def draw(t: int) -> None:
            images[0].set_data(planned[t])
            images[1].set_data(happened[t])

    return figure, draw, count
