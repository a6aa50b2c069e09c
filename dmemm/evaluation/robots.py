"""Pictures of a robot: the ends of its plans beside the states that followed, rendered where that is possible."""

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
Images = NDArray[np.uint8]

_STEPS, _FRAMES = 240, 60  # of an animated episode: shown steps, frames at most
_STRIP = 8  # frames of a strip
_LABELS = "planned", "happened"


def ahead(plans: Sequence[Array], path: Array, replan_every: int) -> tuple[list[int], Array, Array]:
    """Return what plans end in, and what the episode was in at that time.

    Args:
        plans: states of the plan at each step, each (horizon, Ds).
        path: states passed through, shape (steps + 1, Ds).
        replan_every: steps between new plans.

    Returns:
        Steps (n), the planned states (n, Ds) and those that followed (n, Ds).
    """
    last = len(plans[0]) - 1
    made = evenly(range(0, max(1, min(len(path), _STEPS) - last), replan_every), _FRAMES)
    steps = [min(t + last, len(path) - 1) for t in made]
    return steps, np.stack([plans[t][-1] for t in made]), path[steps]


def rendered(task: Task, states: Array) -> Images | None:
    """Render a robot in the given states, shape (n, height, width, 3); return None if nothing can be rendered."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        with closing(make_env(task)) as env:
            if not isinstance(env.unwrapped, MujocoEnv):  # no other can be put in a state; its class may not render
                return None
        with closing(make_env(task, render_mode="rgb_array")) as env:
            env.reset(seed=0)
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


def strip(steps: Sequence[int], images: Sequence[Images], title: str) -> Figure:
    """Draw some images of what was planned above those of what happened."""
    chosen = evenly(range(len(steps)), _STRIP)
    figure = Figure(figsize=(1.6 * len(chosen), 3.6), layout="constrained")
    rows = figure.subplots(2, len(chosen), squeeze=False)
    for row, those, label in zip(rows, images, _LABELS, strict=True):
        for axes, i in zip(row, chosen, strict=True):
            axes.imshow(those[i])
            axes.set_xticks([])
            axes.set_yticks([])
            if label == _LABELS[0]:
                axes.set_title(f"step {steps[i]}", fontsize=8)
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


def animate(images: Sequence[Images]) -> Animation:
    """Show images of what was planned beside those of what happened."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    shown = []
    for axes, those, label in zip(figure.subplots(1, 2), images, _LABELS, strict=True):
        axes.set_title(label)
        axes.set_axis_off()
        shown.append((axes.imshow(those[0]), those))

    def draw(frame: int) -> None:
        for image, those in shown:
            image.set_data(those[frame])

    return figure, draw, len(images[0])


def animate_curves(steps: Sequence[int], states: Sequence[Array]) -> Animation:
    """Draw the entries of planned states (n, Ds) beside those of the states that followed, as time passes."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    drawn = []
    for axes, those, label in zip(figure.subplots(1, 2, sharey=True), states, _LABELS, strict=True):
        axes.set_title(label)
        axes.set_xlabel("step")
        drawn += list(zip(axes.plot(steps, those, linewidth=0.8), those.T, strict=True))

    def draw(frame: int) -> None:
        for line, values in drawn:
            line.set_data(steps[: frame + 1], values[: frame + 1])

    return figure, draw, len(steps)
