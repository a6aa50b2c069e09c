"""D4RL's mazes and the locomotion environments."""

import glob
import os
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dmemm.envs import GOALS, is_free, make_env, set_state_from_observation
from dmemm.tasks import get_task

from .checkout import task_names

MAZE_NAMES = [name for name in task_names() if get_task(name).is_maze]
ONE_OF_EACH = ["hopper-medium", "halfcheetah-medium", "walker2d-medium", "maze2d-umaze", "multi2d-large"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_spaces_are_float32_and_steps_are_reproducible(name: str) -> None:
    env = make_env(get_task(name))
    assert env.observation_space.dtype == env.action_space.dtype == np.float32
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(15)]

    def run() -> list[np.ndarray]:
        observations = [env.reset(seed=5)[0]]
        for action in actions:
            observation, _, terminated, _, _ = env.step(action)
            observations.append(observation)
            if terminated:
                break
        return observations

    first, second = run(), run()
    assert all(item.dtype == np.float32 and item in env.observation_space for item in first)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(env.reset(seed=6)[0], first[0])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_state_round_trip(name: str) -> None:
    env = make_env(get_task(name))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(5):
        observation = env.step(env.action_space.sample())[0]
    env.reset(seed=1)
    action = env.action_space.sample()
    results = []
    for _ in range(2):
        set_state_from_observation(env, observation)
        results.append(env.step(action)[:2])
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    set_state_from_observation(env, observation)
    base = env.unwrapped
    shown = base._observation() if get_task(name).is_maze else base._get_obs()  # type: ignore[attr-defined]
    np.testing.assert_allclose(shown, observation, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_forces_act_along_their_own_axis(axis: int) -> None:
    env = make_env(get_task("maze2d-medium"))
    env.reset(seed=0)
    start = np.array([1, 1, 0, 0], np.float32)  # free downwards and to the right
    set_state_from_observation(env, start)
    action = np.zeros(2, np.float32)
    action[axis] = 1
    for _ in range(5):
        observation, *_ = env.step(action)
    moved = observation - start
    assert moved[axis] > 0.01 and moved[2 + axis] > 0.1
    assert moved[1 - axis] == pytest.approx(0, abs=1e-6) and moved[3 - axis] == pytest.approx(0, abs=1e-6)


def test_walls_are_where_the_map_says() -> None:
    """Pushed in every direction for long, the ball rests against walls but is never in one."""
    env = make_env(get_task("maze2d-medium"))
    observation, _ = env.reset(seed=0)
    maze_map = env.get_wrapper_attr("maze_map")
    rng = np.random.default_rng(0)
    visited = []
    for _ in range(30):
        action = rng.choice([-1, 1], 2).astype(np.float32)
        for _ in range(20):
            observation, *_ = env.step(action)
            visited.append(observation[:2])
    assert is_free(maze_map, np.array(visited)).all()
    # The ball's radius is 0.1 and cell i spans i - 0.7 to i + 0.3: the left upper corner's nearest point is -0.6.
    set_state_from_observation(env, np.array([1, 1, 0, 0]))
    for _ in range(200):
        observation, *_ = env.step(np.array([-1, -1], np.float32))
    np.testing.assert_allclose(observation[:2], 0.4, atol=0.02)
    assert not is_free(maze_map, np.array([[0.0, 1.0], [-3.0, 1.0], [1.0, 99.0]])).any()


@pytest.mark.parametrize("name", MAZE_NAMES)
def test_goals(name: str) -> None:
    task = get_task(name)
    env = make_env(task)
    resets = [env.reset(seed=seed) for seed in range(20)]
    goals = np.array([info["goal"] for _, info in resets])
    maze_map = env.get_wrapper_attr("maze_map")
    assert is_free(maze_map, goals).all() and is_free(maze_map, np.array([item[:2] for item, _ in resets])).all()
    assert goals.dtype == np.float32 and np.abs(goals - np.rint(goals)).max() <= 0.1 + 1e-6
    if task.protocol == "maze2d":
        assert (goals == GOALS[task.body]).all()
    else:
        assert len(np.unique(np.rint(goals), axis=0)) > 3
        assert (env.reset(seed=3)[1]["goal"] == goals[3]).all()


def test_reward_is_being_near_the_goal_and_nothing_terminates() -> None:
    task = get_task("maze2d-umaze")
    env = make_env(task)
    env.reset(seed=0)
    outcomes = []
    for distance in (0.0, 0.45, 0.55):
        set_state_from_observation(env, np.array([1, 1 + distance, 0, 0]))
        _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
        outcomes.append((float(reward), info["success"], terminated))
    assert outcomes == [(1.0, True, False), (1.0, True, False), (0.0, False, False)]
    env.reset(seed=0)
    truncations = [env.step(np.zeros(2, np.float32))[3] for _ in range(task.episode_steps)]
    assert truncations == [False] * (task.episode_steps - 1) + [True]


def test_vector_of_mazes_shows_goals() -> None:
    task = get_task("multi2d-umaze")
    env = gym.vector.SyncVectorEnv([lambda: make_env(task)] * 3, autoreset_mode=gym.vector.AutoresetMode.DISABLED)
    observations, infos = env.reset(seed=[0, 1, 2])
    assert observations.shape == (3, 4) and observations.dtype == np.float32
    assert infos["goal"].shape == (3, 2)
    _, rewards, _, _, infos = env.step(np.zeros((3, 2), np.float32))
    assert rewards.shape == (3,) and infos["success"].shape == (3,)
    env.close()


def test_no_files_are_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [get_task("halfcheetah-medium"), get_task("maze2d-umaze")]
    monkeypatch.chdir(tmp_path)
    before = set(glob.glob(os.path.join(tempfile.gettempdir(), "ant_maze*")))
    for task in tasks:
        make_env(task).reset(seed=0)
    assert set(glob.glob(os.path.join(tempfile.gettempdir(), "ant_maze*"))) <= before
    assert list(tmp_path.iterdir()) == []
