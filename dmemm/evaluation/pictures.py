"""Pictures of plans: mazes with plans and the paths taken, frames of robots, a plan from noise to clean."""

from base64 import b64encode
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmemm.config import EvaluateConfig
from dmemm.envs import make_env
from dmemm.evaluation import mazes, robots
from dmemm.evaluation.animation import evenly, write
from dmemm.files import replacing
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.planning.planner import Planner, load_planner
from dmemm.planning.rollout import env_seeds, run_episodes
from dmemm.tasks import Task

Array = NDArray[np.float32]

_EPISODES = 6
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
    """Run the stage: draw plans beside what happened, candidates from noise to clean, and an animated episode.

    `page` shows the three together and needs no other file. If nothing can be rendered (no EGL, no OSMesa), robots are
    drawn as curves of their states.
    """
    planner = load_planner(task, config, seed, inputs)
    observations, goals = starts(task, seed)
    levels = candidates(planner, observations[:1], None if goals is None else goals[:1], seed)
    plans, path = episode(planner, seed)
    title = f"{task.name}, {method.name}, seed {seed}"
    with style.context("default"):
        shown = evenly(levels, _LEVELS)
        if task.is_maze:
            assert goals is not None
            planner.reset(seed)
            planned = planner.plan(observations, goals).states
            planner.reset(seed)
            paths = run_episodes(task, planner, episodes=_EPISODES, seed=seed).states
            _save(mazes.panels(task, planned, paths, goals, title), output)
            _save(mazes.denoising(task, shown, title), denoising)
            write(mazes.animate(task, levels, plans, path, goals[0]), animation)
        else:
            steps, *states = robots.ahead(plans, path, min(config.replan_every, len(plans[0])))
            frames = robots.rendered(task, np.concatenate(states))
            if frames is None:
                _save(robots.curves(states, title), output)
                write(robots.animate_curves(steps, states), animation)
            else:
                images = np.split(frames, len(states))
                _save(robots.strip(steps, images, title), output)
                write(robots.animate(images), animation)
            _save(robots.curves([level[0] for level in shown], title), denoising)
    sections = {
        "Plans, and what happened": (output, "png"),
        "An episode": (animation, "gif"),
        "One plan, from noise to clean": (denoising, "png"),
    }
    with replacing(page) as temporary:
        temporary.write_text(_PAGE.format(title=title, sections="".join(starmap(_section, sections.items()))))
    print(f"pictures {title} → {output}, {denoising}, {animation}, {page}")


def _section(heading: str, picture: tuple[Path, str]) -> str:
    path, kind = picture
    data = b64encode(path.read_bytes()).decode()
    return f'<h2>{heading}</h2>\n<img alt="{heading}" src="data:image/{kind};base64,{data}">\n'


def starts(task: Task, seed: int) -> tuple[Array, Array | None]:
    """Return the first observations and goals of the episodes that `run_episodes` runs."""
    env = make_env(task)
    starts = [env.reset(seed=start) for start in env_seeds(seed, _EPISODES)]
    env.close()
    goals = np.stack([info["goal"] for _, info in starts]).astype(np.float32) if task.has_goal else None
    return np.stack([observation for observation, _ in starts]), goals


def candidates(planner: Planner, observations: Array, goals: Array | None, seed: int) -> list[Array]:
    """Return the states of an observation's candidates, the chosen one first, at all levels from noise to clean.

    Each is of shape (candidates, horizon, observation_dim).
    """
    planner.reset(seed)
    steps: list[Any] = []
    model = planner.model
    _, merit = planner.draw(planner.known(observations, goals), trace=steps.append)
    order = merit[0].argsort(descending=True, stable=True)
    return [(step[order] * model.scale + model.center).cpu().numpy()[..., model.action_dim :] for step in steps]


class _Watched:
    """A planner in one episode, with the states of the plan that it follows at each step."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self.reset = planner.reset
        self.plans_made = 0  # they are not counted
        self.plans: list[Array] = []

    def act(self, observations: Array, goals: Array | None, running: NDArray[np.bool_]) -> Array:
        actions = self._planner.act(observations, goals, running)
        assert self._planner.following is not None
        self.plans.append(self._planner.following.states[0].copy())
        return actions


def episode(planner: Planner, seed: int) -> tuple[list[Array], Array]:
    """Return the plan at each step of the first episode, and its path; the first plan is that of `candidates`."""
    planner.reset(seed)
    watched = _Watched(planner)
    (path,) = run_episodes(planner.task, watched, episodes=1, seed=seed).states
    return watched.plans, path


def _save(figure: Figure, output: Path) -> None:
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
