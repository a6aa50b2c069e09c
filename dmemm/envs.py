"""Gymnasium environments of the tasks, all with float32 observations and actions.

Mazes are gymnasium-robotics' point mazes seen in D4RL's frame: the observation is (row, col, row velocity,
col velocity) in cells and cells per second, and the action the force along (row, col). Integer positions are what
D4RL calls the middle of a cell; walls are not quite symmetric around them (cell `i` spans `i - 0.7` to `i + 0.3`).
"""

import logging
import os
import warnings
from typing import Any

import farama_notifications
import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.wrappers import DtypeObservation, TimeLimit
from numpy.typing import NDArray

# The import below would print a notice about robot hands, which no task here uses.
farama_notifications.notifications.pop("gymnasium_robotics", None)
from gymnasium_robotics.envs.maze import maps  # noqa: E402
from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv  # noqa: E402

from dmemm.errors import UserError  # noqa: E402
from dmemm.tasks import FOLDER, Task, load_object  # noqa: E402

Env = gym.Env[NDArray[np.float32], NDArray[np.float32]]
Floats = NDArray[np.float32]

MAZES = {"umaze": maps.U_MAZE, "medium": maps.MEDIUM_MAZE, "large": maps.LARGE_MAZE}
# D4RL's fixed goals, (row, col).
GOALS = {"umaze": (1.0, 1.0), "medium": (6.0, 6.0), "large": (7.0, 9.0)}
GOAL_RADIUS = 0.5
_GOAL_SHARE = 0.05  # the radius of other tasks' goals, in normalised units
# D4RL's simulation starts the ball 0.2 off the middle of the cell that its position names.
_OFFSET = 0.2
_log = logging.getLogger(__name__)


def is_free(maze_map: NDArray[np.int64], positions: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether positions (n, 2), (row, col), lie in free cells of `maze_map` (1 = wall); outside is not free."""
    cells = np.floor(np.asarray(positions, np.float64) + 0.5 + _OFFSET).astype(np.int64)
    inside = ((cells >= 0) & (cells < maze_map.shape)).all(1)
    cells = np.clip(cells, 0, np.array(maze_map.shape) - 1)
    return np.asarray(inside & (maze_map[cells[:, 0], cells[:, 1]] == 0))


def at_goal(task: Task, places: Floats, goals: Floats, scale: Floats) -> NDArray[np.bool_]:
    """Return whether positions (..., goal_dim) are at their goals, of the same shape.

    In mazes these are the positions with a reward of 1. Other tasks define no radius: theirs is 0.05 in units of
    `scale` (goal_dim,), the normaliser's.
    """
    away = places - goals if task.is_maze else (places - goals) / scale
    return np.asarray(np.linalg.norm(away, axis=-1) <= (GOAL_RADIUS if task.is_maze else _GOAL_SHARE))


def _shift(maze_map: Any) -> NDArray[np.float64]:
    """The point maze's (x, y) is (col + shift[0], shift[1] - row)."""
    height, width = np.shape(maze_map)
    return np.array([0.5 + _OFFSET - width / 2, height / 2 - 0.5 - _OFFSET])


class MazeEnv(Env):
    """D4RL's maze2d: reward 1 at every step within 0.5 of the goal, else 0; it never terminates.

    `info["goal"]` is (row, col) float32 and `info["success"]` whether the agent is within 0.5 of it, at
    resets and at steps.
    """

    def __init__(self, maze: str, random_goal: bool) -> None:
        """Build the maze `umaze`, `medium` or `large`, with its fixed goal or a new one at every reset."""
        point_maze = PointMazeEnv(maze_map=MAZES[maze])
        # The environment never deletes its model file from the temporary folder; the simulator has read it by now.
        os.remove(point_maze.tmp_xml_file_path)
        self._point = point_maze.point_env
        self.maze_map = np.array(MAZES[maze], np.int64)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self._free_cells = np.argwhere(self.maze_map == 0)
        self._random_goal = random_goal
        self._goal = np.array(GOALS[maze], np.float32)
        self._shift = _shift(MAZES[maze])

    def random_position(self, rng: np.random.Generator) -> Floats:
        """Draw a free cell, ±0.1: (row, col)."""
        cell = self._free_cells[rng.integers(len(self._free_cells))]
        return (cell + rng.uniform(-0.1, 0.1, 2)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Start at a random free cell ±0.1 with velocity 0.1·N(0, 1)."""
        super().reset(seed=seed)
        position = self.random_position(self.np_random)
        velocity = 0.1 * self.np_random.standard_normal(2)
        if self._random_goal:
            self._goal = self.random_position(self.np_random)
        self.set_observation(np.concatenate([position, velocity]))
        observation = self._observation()
        return observation, self._info(observation)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Push with `action` (2,), clipped to [-1, 1], for 0.01 s."""
        self._point.step(np.array([action[1], -action[0]], np.float64))
        observation = self._observation()
        info = self._info(observation)
        return observation, float(info["success"]), False, False, info

    def set_observation(self, observation: NDArray[Any]) -> None:
        """Put the ball at `observation` (4,)."""
        row, col, row_velocity, col_velocity = observation
        mujoco.mj_resetData(self._point.model, self._point.data)  # the solver's warm start would carry over
        self._point.set_state(self._shift + [col, -row], np.array([col_velocity, -row_velocity]))

    def _observation(self) -> Floats:
        (x, y), (x_velocity, y_velocity) = self._point.data.qpos - self._shift, self._point.data.qvel
        return np.array([-y, x, -y_velocity, x_velocity], np.float32)

    def _info(self, observation: Floats) -> dict[str, Any]:
        success = bool(np.linalg.norm(observation[:2] - self._goal) <= GOAL_RADIUS)
        return {"goal": self._goal.copy(), "success": success}


def from_point_maze(maze: str, states: NDArray[Any], actions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """States (n, 4) and actions (m, 2) of gymnasium-robotics' point maze in D4RL's frame."""
    x_shift, y_shift = _shift(MAZES[maze])
    x, y, x_velocity, y_velocity = states.T
    return np.stack([y_shift - y, x - x_shift, -y_velocity, x_velocity], 1), np.stack(
        [-actions[:, 1], actions[:, 0]], 1
    )


class GoalEnv(gym.Wrapper[Floats, Floats, Any, Any]):
    """Gymnasium-Robotics as the planner sees it: `[achieved_goal, observation]`, the goal in the infos."""

    @staticmethod
    def takes(space: gym.Space[Any]) -> bool:
        """Whether observations are dicts of flat `observation`, `achieved_goal` and `desired_goal`."""
        keys = ("observation", "achieved_goal", "desired_goal")
        parts = [space.spaces.get(key) for key in keys] if isinstance(space, gym.spaces.Dict) else [None]
        return all(isinstance(part, gym.spaces.Box) and len(part.shape) == 1 for part in parts)

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap an environment whose observations `takes` takes."""
        super().__init__(env)
        spaces: Any = env.observation_space
        size = sum(spaces[key].shape[0] for key in ("achieved_goal", "observation"))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Reset; see `step`."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, info)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Step; `info` has `goal`, and `success` where the environment tells it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        state, info = self._seen(observation, info)
        return state, float(reward), terminated, truncated, info

    @staticmethod
    def _seen(observation: Any, info: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
        state = np.concatenate([observation["achieved_goal"], observation["observation"]]).astype(np.float32)
        success = info.get("is_success", info.get("success"))
        told = {} if success is None else {"success": bool(success)}
        return state, {"goal": np.asarray(observation["desired_goal"], np.float32), **told}


def make_env(task: Task, render_mode: str | None = None) -> Env:
    """Build the environment of `task`, cut off after `task.episode_steps` steps.

    Returns:
        An environment with float32 Box spaces of one dimension. Mazes also have the wrapper attribute
        `maze_map` (rows, cols; 1 = wall). Tasks with a goal have it in their infos (`goal`), and whether it is reached
        (`success`).

    Raises:
        UserError: there is no such environment, or its spaces are not supported.
    """
    # By default MuJoCo appends its warnings to MUJOCO_LOG.TXT in the working folder.
    mujoco.set_mju_user_warning(lambda message: _log.debug("MuJoCo: %s", message))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date.*")  # v4 is D4RL's
        warnings.filterwarnings("ignore", message=".*precision lowered.*")  # to float32, as intended
        env = _build(task, render_mode)
        if task.has_goal and GoalEnv.takes(env.observation_space):
            env = GoalEnv(env)
        for kind, space in (("observation", env.observation_space), ("action", env.action_space)):
            if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
                raise UserError(
                    f"{FOLDER}/{task.name}.yaml: env: {task.env} has {kind}s in {space}; it must be a flat Box"
                    + (
                        ", or, with goal_dim, a dict of flat observation, achieved_goal and desired_goal"
                        if isinstance(space, gym.spaces.Dict)
                        else ""
                    )
                )
        if not np.issubdtype(env.action_space.dtype, np.floating):
            raise UserError(
                f"{FOLDER}/{task.name}.yaml: env: {task.env} has actions in {env.action_space}; "
                "plans have fractional ones"
            )
        return TimeLimit(DtypeObservation(env, np.float32), task.episode_steps)


def _build(task: Task, render_mode: str | None) -> Any:
    key = f"{FOLDER}/{task.name}.yaml: env"
    mode = {"render_mode": render_mode} if render_mode else {}
    try:
        if ":" in task.env:
            env = load_object(task.env, key)(**task.env_arguments, **mode)
        else:  # its own limit is lifted: the task has one
            env = gym.make(task.env, max_episode_steps=-1, disable_env_checker=True, **task.env_arguments, **mode)
    except UserError:
        raise
    except Exception as error:  # an environment may raise anything
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UserError(f"{key}: {task.env} cannot be built: {reason}; correct it or env_arguments") from error
    if not isinstance(env, gym.Env):
        raise UserError(f"{key}: {task.env} makes no gymnasium.Env, but a {type(env).__name__}; name an environment")
    for space in ("observation_space", "action_space"):
        if not hasattr(env, space):
            raise UserError(f"{key}: {task.env} has no {space}; define it in its class")
    return env


def set_state_from_observation(env: Env, observation: NDArray[Any]) -> None:
    """Put the simulator in the state that `observation` (Ds,) shows; call it after `reset`.

    What a locomotion observation lacks is the position along the track, set to 0, and velocities beyond its clip
    at ±10.
    """
    base = env.unwrapped
    if isinstance(base, MazeEnv):
        base.set_observation(observation)
        return
    assert isinstance(base, MujocoEnv)
    mujoco.mj_resetData(base.model, base.data)
    state = np.concatenate([[0.0], np.asarray(observation, np.float64)])
    assert len(state) == base.model.nq + base.model.nv, "the observation does not show the whole state"
    base.set_state(state[: base.model.nq], state[base.model.nq :])
