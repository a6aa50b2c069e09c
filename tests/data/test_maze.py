"""The maze controller and its data."""

import numpy as np
import pytest

from dmemm.data.local import collect
from dmemm.data.maze_controller import Navigator, shortest_path
from dmemm.data.raw import episode_slices
from dmemm.envs import GOALS, make_env
from dmemm.tasks import get_task

MAZES = ["umaze", "medium", "large"]


def test_shortest_path_goes_around_walls_and_is_shortest() -> None:
    umaze = make_env(get_task("maze2d-umaze")).get_wrapper_attr("maze_map")
    assert shortest_path(umaze, (1, 1), (3, 1)) == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert shortest_path(umaze, (1, 2), (1, 2)) == [(1, 2)]
    with pytest.raises(ValueError, match="no path"):
        shortest_path(np.array([[1] * 5, [1, 0, 1, 0, 1], [1] * 5]), (1, 1), (1, 3))


@pytest.mark.parametrize("protocol", ["maze2d", "multi2d"])
@pytest.mark.parametrize("maze", MAZES)
def test_controller_beats_the_reference(maze: str, protocol: str) -> None:
    """Scores of at least 100 on average: the frame, the walls and the goals are D4RL's."""
    task = get_task(f"{protocol}-{maze}")
    env = make_env(task)
    scores = []
    for seed in range(8):
        observation, info = env.reset(seed=seed)
        navigator = Navigator(env.get_wrapper_attr("maze_map"), observation[:2], info["goal"])
        total, truncated = 0.0, False
        while not truncated:
            force, _ = navigator.action(observation)
            observation, reward, _, truncated, info = env.step(np.clip(force, -1, 1))
            total += float(reward)
        assert info["success"]
        scores.append(task.score(total))
    assert np.mean(scores) > 100


@pytest.mark.parametrize("maze", MAZES)
def test_data_is_one_trajectory_between_random_goals(maze: str) -> None:
    task = get_task(f"maze2d-{maze}")
    raw = collect(task, 4000, seed=3)
    np.testing.assert_array_equal(raw.observations[1:], raw.next_observations[:-1])
    assert not raw.terminals.any() and raw.timeouts[-1]
    near = np.linalg.norm(raw.next_observations[:, :2] - GOALS[task.body], axis=1) <= 0.5
    np.testing.assert_array_equal(raw.rewards, near.astype(np.float32))
    assert np.abs(raw.actions).max() <= 1
    # Navigations end near the middle of many different cells, and none of them is stuck.
    slices = episode_slices(raw.ended)
    reached = raw.observations[slices[:-1, 1] - 1, :2]
    assert np.abs(reached - np.rint(reached)).max() < 0.2 + 1e-6
    assert len(np.unique(np.rint(reached), axis=0)) >= 5
    assert (slices[:, 1] - slices[:, 0]).max() < task.episode_steps
    assert (slices[:-1, 1] - slices[:-1, 0]).min() > 1


def test_same_seed_same_bits() -> None:
    first, second = (collect(get_task("maze2d-umaze"), 500, seed=1) for _ in range(2))
    for key in ("observations", "actions", "rewards", "timeouts"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))
    assert not np.array_equal(first.observations, collect(get_task("maze2d-umaze"), 500, seed=2).observations)
