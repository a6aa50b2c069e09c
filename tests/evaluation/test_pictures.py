"""Pictures of an episode: the plans that are drawn are those that were made and followed."""

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from dmemm.envs import GOAL_RADIUS
from dmemm.evaluation import mazes, robots
from dmemm.evaluation.animation import evenly, write
from dmemm.evaluation.pictures import candidates, episode, starts
from dmemm.tasks import Task
from tests.planning.example import TASK, planner


def test_the_drawn_candidates_are_those_of_the_episode_and_the_chosen_one_comes_first():
    made = planner(3)
    observations, goals = starts(TASK, seed=2)
    levels = candidates(made, observations[:1], goals[:1], seed=2)
    assert len(levels) == 5 and levels[0].shape == (3, 8, 4)  # four levels and the clean plan
    plans, path = episode(made, seed=2)
    np.testing.assert_allclose(plans[0], levels[-1][0], atol=1e-5)
    assert not np.allclose(levels[-1][0], levels[-1][1])
    np.testing.assert_allclose(path[0], observations[0])
    # A new plan every three steps, from where the episode then is.
    assert len(path) == len(plans) + 1
    for t in (0, 3, 30):
        np.testing.assert_allclose(plans[t][0], path[t], atol=1e-4)
        assert np.array_equal(plans[t], plans[t + 2]) and not np.array_equal(plans[t], plans[t + 3])


def test_the_animation_ends_soon_after_the_goal_is_reached(tmp_path):
    levels = [np.random.default_rng(i).normal(size=(2, 8, 4)) for i in range(5)]
    goal = np.array([1.0, 1.0])
    away = np.tile([1.0, 3.0, 0.0, 0.0], (200, 1))
    there = away.copy()
    there[50:, 1] = 1.0 + GOAL_RADIUS / 2
    plans = [levels[-1][0]] * 199

    def last_step(path):
        figure, draw, count = mazes.animate(TASK, levels, plans, path, goal)
        draw(count - 1)
        return len(figure.axes[0].lines[-2].get_xdata()) - 1  # of the path that is drawn

    assert last_step(away) == 198 and 50 < last_step(there) < 80
    write(mazes.animate(TASK, levels, plans, there, goal), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (480, 480)
        image.seek(image.n_frames - 1)
        assert image.info["duration"] >= 1000  # the last one stays


def test_evenly_keeps_both_ends_and_never_repeats():
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 8) == [0, 1, 2]


@pytest.mark.parametrize("replan_every", [1, 3])
def test_a_robot_s_planned_state_is_shown_beside_the_state_of_its_time(replan_every):
    path = np.arange(101.0)[:, None]
    made = np.arange(100) // replan_every * replan_every  # when the plan followed at each step was made
    plans = [path[t] + np.arange(8)[:, None] for t in made]  # they come true
    steps, planned, happened = robots.ahead(plans, path, replan_every)
    assert np.array_equal(planned, happened) and np.array_equal(planned[:, 0], steps)
    assert steps[0] == 7 and 100 - replan_every < steps[-1] <= 100
    # An episode that is over before its first plan.
    steps, planned, happened = robots.ahead(plans[:3], path[:4], replan_every)
    assert (steps, planned.tolist(), happened.tolist()) == ([3], [[7.0]], [[3.0]])


def test_an_environment_that_cannot_be_put_in_a_state_is_drawn_as_curves_without_a_complaint(monkeypatch, capsys):
    class Mine(gym.Env):
        """Takes no `render_mode`."""

    def make(task, render_mode=None):
        return Mine(**({"render_mode": render_mode} if render_mode else {}))

    monkeypatch.setattr(robots, "make_env", make)
    assert robots.rendered(TASK, np.zeros((2, 4), np.float32)) is None
    assert capsys.readouterr().err == ""


def test_a_robot_whose_observation_does_not_show_its_state_is_drawn_as_curves_and_told(capsys):
    task = Task("pendulum", "InvertedPendulum-v4", 10, 0, 1, {})
    assert robots.rendered(task, np.zeros((2, 4), np.float32)) is None
    assert "(the observation does not show the whole state); drawing curves" in capsys.readouterr().err
