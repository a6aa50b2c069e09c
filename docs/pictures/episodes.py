"""Draw the scored episodes of Diffuser and DMEMM as a race, TASK.gif beside this file.

Run it in the project's folder when both networks of seed 0 are trained: `python docs/pictures/episodes.py TASK`.
"""

import sys
from pathlib import Path

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmemm import Planner
from dmemm.envs import make_env, set_state_from_observation
from dmemm.evaluation.animation import write
from dmemm.planning.rollout import run_episodes
from dmemm.tasks import Task

EVERY, LANE = 10, 0.4  # steps between frames; metres between lanes
PLANNERS = {"diffuser": ("Diffuser", "tab:orange"), "dmemm": ("DMEMM", "tab:blue")}


def limbs(task: Task, states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the ends of a robot's limbs, along the track and up, in metres: shape (states, limbs, 2, 2)."""
    env = make_env(task)
    env.reset(seed=0)
    base = env.unwrapped
    assert isinstance(base, MujocoEnv)
    capsules = base.model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    ends = []
    for state in states:
        set_state_from_observation(env, state)
        half = base.data.geom_xmat[capsules][:, 2::3] * base.model.geom_size[capsules, 1:2]
        middle = base.data.geom_xpos[capsules]
        ends.append(np.stack([middle - half, middle + half], axis=1)[..., [0, 2]])
    # An observation lacks the place along the track: q without its first entry, then the speeds, this one first.
    places = np.cumsum(states[:, base.model.nq - 1]) * base.dt
    env.close()
    return np.stack(ends) + places[:, None, None, None] * [1, 0]


def main(name: str) -> None:
    """Draw a track for each planner and a lane for each episode; a robot that fell stays there, in grey."""
    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    rows = figure.subplots(len(PLANNERS), sharex=True)
    robots = []
    for axes, (variant, (label, colour)) in zip(rows, PLANNERS.items(), strict=True):
        planner = Planner.load(name, variant)
        episodes = run_episodes(planner.task, planner, episodes=planner.config.episodes, seed=0)
        for lane, states in enumerate(episodes.states):
            height = LANE * (len(episodes.states) - lane)
            axes.axhline(height, color="lightgrey", linewidth=0.5, zorder=0)
            lines = axes.add_collection(LineCollection([], linewidths=2))
            robots.append((lines, limbs(planner.task, states) + [0, height], colour))
        axes.set(ylabel=label, ylim=(0, height + LANE * len(episodes.states) + 1.2), yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
    steps = planner.task.episode_steps
    axes.set(xlabel="metres", xlim=(-1, 1 + max(ends.max() for _, ends, _ in robots)))

    def draw(frame: int) -> None:
        t = frame * EVERY
        for lines, ends, colour in robots:
            lines.set_segments(ends[min(t, len(ends) - 1)])
            lines.set_color("grey" if t >= len(ends) else colour)
            lines.set_alpha(0.5 if t >= len(ends) else 1)

    write((figure, draw, steps // EVERY + 1), Path(__file__).parent / f"{name}.gif")


if __name__ == "__main__":
    main(*sys.argv[1:])
