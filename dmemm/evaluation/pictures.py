"""Pictures of plans: mazes with plans and the paths taken, frames of robots, a plan from noise to clean."""

import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dmemm.config import EvaluateConfig
from dmemm.diffusion.guidance import sample_plans
from dmemm.envs import MAZES, make_env, set_state_from_observation
from dmemm.files import replacing
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.planning.planner import Planner, load_planner
from dmemm.planning.rollout import run_episodes
from dmemm.tasks import Task

Array = NDArray[np.float32]

_EPISODES = 6
_FRAMES = 8  # of a strip
_LEVELS = 6  # of a plan's denoising
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5rem }}
img {{ max-width: 100% }}
</style>
<h1>{title}</h1>
{sections}</html>
"""


def pictures(
    method: Method,
    task: Task,
    config: EvaluateConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
    denoising: Path,
    animation: Path,
    page: Path,
) -> None:
    """Run the stage: draw the first plans of a few episodes beside the rollouts, a plan's denoising, an animation.

    `page` shows the three together and needs no other file. If nothing can be rendered (no EGL, no OSMesa), robots are
    drawn as curves of their states.
    """
    planner = load_planner(task, config, seed, inputs)
    observations, goals = _starts(task, seed)
    planned = planner.plan(observations, goals).states
    planner.reset(seed)
    paths = run_episodes(task, planner, episodes=_EPISODES, seed=seed).states
    levels = _denoising(planner, observations[:1], None if goals is None else goals[:1], seed)
    title = f"{task.name}, {method.name}, seed {seed}"
    with style.context("default"):
        if task.is_maze:
            figure = _maze_panels(task, planned, paths, goals, title)
            _save(figure, output)
            _save(_maze_denoising(task, levels, title), denoising)
            _animate_maze(task, planned[0], paths[0], animation)
        else:
            horizon = planned.shape[1]
            frames = _rendered(task, planned[0]), _rendered(task, paths[0][:horizon])
            _save(_strip(frames, planned[0], paths[0], title), output)
            _save(_curves([level[0] for level in levels], title), denoising)
            _animate_robot(frames, planned[0], paths[0], animation)
    sections = {
        "Plans, and the paths taken": (output, "png"),
        "One plan and its path": (animation, "gif"),
        "One plan, from noise to clean": (denoising, "png"),
    }
    with replacing(page) as temporary:
        temporary.write_text(_PAGE.format(title=title, sections="".join(starmap(_section, sections.items()))))
    print(f"pictures {title} → {output}, {denoising}, {animation}, {page}")


def _section(heading: str, picture: tuple[Path, str]) -> str:
    path, kind = picture
    data = b64encode(path.read_bytes()).decode()
    return f'<h2>{heading}</h2>\n<img alt="{heading}" src="data:image/{kind};base64,{data}">\n'


def _starts(task: Task, seed: int) -> tuple[Array, Array | None]:
    """Return the first observations and goals of the episodes that `run_episodes` runs."""
    env = make_env(task)
    starts = [env.reset(seed=10_000 * seed + i) for i in range(_EPISODES)]
    env.close()
    goals = np.stack([info["goal"] for _, info in starts]).astype(np.float32) if task.has_goal else None
    return np.stack([observation for observation, _ in starts]), goals


def _denoising(planner: Planner, observations: Array, goals: Array | None, seed: int) -> list[Array]:
    """Return the states of one plan at some levels, from noise to clean, each (1, horizon, observation_dim)."""
    planner.reset(seed)
    steps: list[Any] = []
    model = planner.model
    sample_plans(
        model, planner.guide, planner.known(observations, goals), planner.config, planner.generator, trace=steps.append
    )
    chosen = np.linspace(0, len(steps) - 1, min(_LEVELS, len(steps))).round().astype(int)
    return [(steps[i] * model.scale + model.center).cpu().numpy()[..., model.action_dim :] for i in chosen]


def _draw_maze(axes: Axes, task: Task) -> None:
    """Draw walls in grey; x is the column, y the row, and cell i spans i - 0.7 to i + 0.3."""
    grid = np.array(MAZES[task.body])
    rows, columns = grid.shape
    axes.imshow(grid, cmap="Greys", vmin=0, vmax=2, extent=(-0.7, columns - 0.7, rows - 0.7, -0.7))
    axes.autoscale(False)
    axes.set_xticks([])
    axes.set_yticks([])


def _maze_panels(task: Task, planned: Array, paths: Sequence[Array], goals: Array | None, title: str) -> Figure:
    assert goals is not None
    figure = Figure(figsize=(9, 6), layout="constrained")
    for i, axes in enumerate(figure.subplots(2, _EPISODES // 2).flat):
        _draw_maze(axes, task)
        axes.plot(*planned[i, :, 1::-1].T, "o-", markersize=2, linewidth=1, color="#0072B2", label="plan")
        axes.plot(*paths[i][:, 1::-1].T, color="#D55E00", linewidth=1.5, label="path taken")
        axes.plot(*planned[i, 0, 1::-1], "k.", markersize=10, label="start")
        axes.plot(*goals[i, ::-1], "*", color="#009E73", markersize=14, label="goal")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    return figure


def _maze_denoising(task: Task, levels: Sequence[Array], title: str) -> Figure:
    figure = Figure(figsize=(2.4 * len(levels), 2.8), layout="constrained")
    for level, axes in zip(levels, figure.subplots(1, len(levels), squeeze=False)[0], strict=True):
        _draw_maze(axes, task)
        axes.plot(*level[0, :, 1::-1].T, "o-", markersize=2, linewidth=0.5, color="#0072B2")
    figure.suptitle(f"{title}: a plan from noise to clean")
    return figure


def _animate_maze(task: Task, plan: Array, path: Array, output: Path) -> None:
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    _draw_maze(axes, task)
    axes.plot(*plan[:, 1::-1].T, color="#0072B2", linewidth=1)
    (trail,) = axes.plot([], [], color="#D55E00")
    (ball,) = axes.plot([], [], "o", color="#D55E00")
    shown = np.unique(np.linspace(1, len(path), min(60, len(path))).astype(int)).tolist()

    def draw(count: int) -> None:
        trail.set_data(path[:count, 1], path[:count, 0])
        ball.set_data(path[count - 1 : count, 1], path[count - 1 : count, 0])

    _write_animation(figure, draw, shown, output)


def _rendered(task: Task, states: Array) -> NDArray[np.uint8] | None:
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


def _strip(
    frames: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None], plan: Array, path: Array, title: str
) -> Figure:
    """Draw frames of the plan above those of the rollout, or curves of their states."""
    planned, happened = frames
    if planned is None or happened is None:
        return _curves([plan, path[: len(plan)]], title)
    count = min(len(planned), len(happened))
    chosen = np.linspace(0, count - 1, min(_FRAMES, count)).round().astype(int)
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


def _curves(states: Sequence[Array], title: str) -> Figure:
    """Draw each state's entries over time."""
    figure = Figure(figsize=(2.6 * len(states), 2.8), layout="constrained")
    for values, axes in zip(states, figure.subplots(1, len(states), sharey=True, squeeze=False)[0], strict=True):
        axes.plot(values, linewidth=0.8)
        axes.set_xlabel("step")
    figure.suptitle(title)
    return figure


def _animate_robot(
    frames: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None], plan: Array, path: Array, output: Path
) -> None:
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

    _write_animation(figure, draw, range(count), output)


def _write_animation(figure: Figure, draw: Callable[[int], None], steps: Iterable[int], output: Path) -> None:
    canvas, frames = FigureCanvasAgg(figure), []
    for step in steps:
        draw(step)
        canvas.draw()
        figure.set_layout_engine("none")  # keep the first frame's layout: computing it is slower than drawing a frame
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("P"))
    with replacing(output) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=66, loop=0)


def _save(figure: Figure, output: Path) -> None:
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
