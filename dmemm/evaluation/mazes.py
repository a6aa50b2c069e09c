"""Pictures of a maze: plans and the paths taken, candidates from noise to clean, an animated episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmemm.envs import GOAL_RADIUS, MAZES
from dmemm.evaluation.animation import Animation, evenly
from dmemm.tasks import Task

Array = NDArray[np.float32]

_STEPS, _AFTER = 60, 20  # of an animated episode: at most, and after its arrival
_CHOICE = 10  # frames that show the chosen plan among the candidates
_DOTS: dict[str, Any] = {"markersize": 3.5, "markeredgewidth": 0}
_PLAN, _REJECTED, _PATH, _GOAL = "#0072B2", "#6DB1DE", "#D55E00", "#009E73"


def _draw_maze(axes: Axes, task: Task) -> None:
    """Draw walls in grey; x is the column, y the row, and cell i spans i - 0.7 to i + 0.3."""
    grid = np.array(MAZES[task.body])
    rows, columns = grid.shape
    axes.imshow(grid, cmap="Greys", vmin=0, vmax=2, extent=(-0.7, columns - 0.7, rows - 0.7, -0.7))
    axes.autoscale(False)
    axes.set_xticks([])
    axes.set_yticks([])


def panels(task: Task, planned: Array, paths: Sequence[Array], goals: Array, title: str) -> Figure:
    """Draw plans (n, horizon, Ds) and goals (n, 2) with the paths (steps, Ds) that were taken."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    for i, axes in enumerate(figure.subplots(2, -(-len(paths) // 2)).flat):
        _draw_maze(axes, task)
        axes.plot(*planned[i, :, 1::-1].T, "o-", markersize=2, linewidth=1, color=_PLAN, label="plan")
        axes.plot(*paths[i][:, 1::-1].T, color=_PATH, linewidth=1.5, label="path taken")
        axes.plot(*planned[i, 0, 1::-1], "k.", markersize=10, label="start")
        axes.plot(*goals[i, ::-1], "*", color=_GOAL, markersize=14, label="goal")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    return figure


def denoising(task: Task, levels: Sequence[Array], title: str) -> Figure:
    """Draw the candidates (n, horizon, Ds) at each level; the first is the chosen one."""
    figure = Figure(figsize=(2.4 * len(levels), 2.8), layout="constrained")
    for level, axes in zip(levels, figure.subplots(1, len(levels), squeeze=False)[0], strict=True):
        _draw_maze(axes, task)
        for number, candidate in reversed(list(enumerate(level))):
            axes.plot(*candidate[:, 1::-1].T, ".", color=_REJECTED if number else _PLAN, **_DOTS)
    figure.suptitle(f"{title}: candidates from noise to clean, and the chosen one")
    return figure


def animate(task: Task, levels: Sequence[Array], plans: Sequence[Array], path: Array, goal: Array) -> Animation:
    """Draw the first plan's candidates from noise to clean, then the path, with the plan followed at each step.

    Args:
        task: a maze.
        levels: states of the candidates, each (candidates, horizon, Ds).
        plans: states of the plan at each step, each (horizon, Ds).
        path: states passed through, shape (steps + 1, Ds).
        goal: shape (2,).
    """
    rows, columns = np.array(MAZES[task.body]).shape
    figure = Figure(figsize=(4.8, 4.8 * rows / columns))
    axes = figure.add_axes((0, 0, 1, 1))
    _draw_maze(axes, task)
    axes.plot(*path[0, 1::-1], "k.", markersize=10)
    axes.plot(*goal[::-1], "*", color=_GOAL, markersize=14)
    candidates = [axes.plot([], [], ".", color=_REJECTED, **_DOTS)[0] for _ in levels[0]]
    (plan,) = axes.plot([], [], color=_PLAN, linewidth=1.5)
    (trail,) = axes.plot([], [], color=_PATH, linewidth=2)
    (ball,) = axes.plot([], [], "o", color=_PATH)
    there = np.flatnonzero(np.linalg.norm(path[:, :2] - goal, axis=1) <= GOAL_RADIUS)
    last = min(there[0] + _AFTER, len(plans)) if len(there) else len(plans)
    shown = [*levels, *[0] * _CHOICE, *evenly(range(last), _STEPS)]

    def draw(frame: int) -> None:
        now = shown[frame]
        if isinstance(now, int):
            for line in candidates:
                line.set_visible(now == 0)
            plan.set_data(*plans[now][:, 1::-1].T)
            trail.set_data(*path[: now + 1, 1::-1].T)
            ball.set_data(*path[now : now + 1, 1::-1].T)
        else:
            for line, candidate in zip(candidates, now, strict=True):
                line.set_data(*candidate[:, 1::-1].T)

    return figure, draw, len(shown)
