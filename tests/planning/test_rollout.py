"""Episodes: what is counted, and what is never scored."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmemm.envs import GoalEnv
from dmemm.errors import UserError
from dmemm.planning import rollout
from dmemm.planning.rollout import CALIBRATION, env_seeds, run_episodes
from dmemm.tasks import get_task

TASK = get_task("hopper-medium")


class Stub(gym.Env):
    """Ends after as many steps as its seed says; `fault` happens in episode 1 at its third step."""

    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    fault = ""

    def reset(self, *, seed=None, options=None):
        self.episode, self.t = seed % 10_000, 0
        return np.full(11, self.episode, np.float32), {}

    def step(self, action):
        assert (np.abs(action) <= 1).all()
        self.t += 1
        state = np.full(11, self.episode + self.t, np.float32)
        if self.episode == 1 and self.t == 3:
            if self.fault == "crash":
                raise RuntimeError("mj_step: out of stack")
            state[4] = np.nan if self.fault == "state" else state[4]
            state = state[:1] if self.fault == "shape" else state
            reward = {"reward": np.nan, "vector": np.ones(2)}.get(self.fault, np.ones(1))
            return state, reward, False, False, {}
        return state, 1.0, self.t == 4 + self.episode, False, {}


class Constant:
    """A planner that asks for too much."""

    plans_made = 7

    def __init__(self):
        self.asked = []

    def reset(self):
        self.asked = []

    def act(self, observations, goals, running):
        assert goals is None and np.isfinite(observations).all()
        self.asked.append(running.copy())
        self.plans_made += int(running.sum())
        return np.full((len(observations), 3), 5.0)


def run(monkeypatch, fault=""):
    monkeypatch.setattr(rollout, "make_env", lambda task: Stub())
    monkeypatch.setattr(Stub, "fault", fault)
    planner = Constant()
    return planner, run_episodes(TASK, planner, episodes=3, seed=2)


def test_episodes_end_when_they_end(monkeypatch):
    planner, episodes = run(monkeypatch)
    assert episodes.lengths.tolist() == [4, 5, 6] and episodes.returns.tolist() == [4, 5, 6]
    assert [int(asked.sum()) for asked in planner.asked] == [3, 3, 3, 3, 2, 1] and episodes.plans == 15
    assert [len(path) for path in episodes.states] == [5, 6, 7] and episodes.success is None
    np.testing.assert_array_equal(episodes.states[1][:, 0], [1, 2, 3, 4, 5, 6])


def test_an_environment_may_return_the_same_array_at_every_step(monkeypatch):
    class Same(Stub):
        state = np.zeros(11, np.float32)

        def step(self, action):
            self.state[:], *rest = super().step(action)
            return self.state, *rest

    monkeypatch.setattr(rollout, "make_env", lambda task: Same())
    (path,) = run_episodes(TASK, Constant(), episodes=1, seed=2).states
    np.testing.assert_array_equal(path[:, 0], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", "the environment failed: RuntimeError: mj_step"),
        ("state", "a number that is not finite"),
        ("reward", "a number that is not finite"),
        ("vector", "the environment failed: ValueError"),
        ("shape", r"an observation of shape \(1,\) after \(11,\)"),
    ],
)
def test_a_fault_names_the_episode_and_is_not_scored(monkeypatch, fault, message):
    with pytest.raises(
        UserError, match=rf"hopper-medium: episode 1 of seed 2 \(environment seed 20001\), step 2: .*{message}"
    ):
        run(monkeypatch, fault)


seeds = st.integers(0, 99_999)
episodes = st.integers(1, 10_000)


@given(seeds, episodes, seeds, episodes)
def test_no_start_of_calibration_is_scored_and_no_two_seeds_share_one(seed, number, other, other_number):
    scored, calibration = env_seeds(seed, number), env_seeds(other, other_number, CALIBRATION)
    assert scored[-1] < calibration[0] and calibration[-1] < 2**31 and len(scored) == number
    if seed < other:
        assert scored[-1] < env_seeds(other, other_number)[0]


@pytest.mark.parametrize(("seed", "number"), [(100_000, 1), (-1, 1), (0, 10_001)])
def test_seeds_and_episodes_that_would_overlap_are_refused(seed, number):
    with pytest.raises(UserError, match="use"):
        env_seeds(seed, number)


class GoalStub(gym.Env):
    """Gives the keys of `first` at resets and those of `later` at steps."""

    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    first = later = ()

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), self.info(self.first)

    def step(self, action):
        return np.zeros(4, np.float32), 0.0, True, False, self.info(self.later)

    @staticmethod
    def info(keys):
        return {key: {"goal": np.ones(2), "success": True}[key] for key in keys}


class Still:
    plans_made = 0

    def reset(self):
        pass

    def act(self, observations, goals, running):
        assert (goals == 1).all()
        self.plans_made += int(running.sum())
        return np.zeros((len(observations), 2))


@pytest.mark.parametrize(
    ("first", "later", "missing"),
    [((), (), "goal"), (["goal"], ["success"], "goal"), (["goal"], ["goal"], "success")],
)
def test_an_environment_without_a_goal_is_named(monkeypatch, first, later, missing):
    monkeypatch.setattr(rollout, "make_env", lambda task: GoalStub())
    monkeypatch.setattr(GoalStub, "first", first)
    monkeypatch.setattr(GoalStub, "later", later)
    message = (
        rf"maze2d-umaze: episode 0 of seed 2 .*: the environment gave no info\['{missing}'\]; a task with goal_dim"
    )
    with pytest.raises(UserError, match=message):
        run_episodes(get_task("maze2d-umaze"), Still(), episodes=2, seed=2)


class DictStub(gym.Env):
    """A goal in the observation; `told` comes in the infos."""

    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gym.spaces.Dict(
        observation=gym.spaces.Box(-1, 1, (2,)), achieved_goal=gym.spaces.Box(-1, 1, (2,)),
        desired_goal=gym.spaces.Box(-1, 1, (2,)),
    )  # fmt: skip
    told = {}

    def reset(self, *, seed=None, options=None):
        return {"observation": np.zeros(2), "achieved_goal": np.zeros(2), "desired_goal": np.ones(2)}, self.told

    def step(self, action):
        return self.reset()[0], 0.0, True, False, self.told


@pytest.mark.parametrize(("told", "success"), [({"is_success": 1.0}, True), ({"success": False}, False), ({}, None)])
def test_a_dict_with_a_goal_whose_success_nobody_tells_is_not_a_failure(monkeypatch, told, success):
    monkeypatch.setattr(rollout, "make_env", lambda task: GoalEnv(DictStub()))
    monkeypatch.setattr(DictStub, "told", told)
    if success is None:
        with pytest.raises(UserError, match=r"the environment gave no info\['success'\]; a task with goal_dim"):
            run_episodes(get_task("maze2d-umaze"), Still(), episodes=2, seed=2)
    else:
        found = run_episodes(get_task("maze2d-umaze"), Still(), episodes=2, seed=2).success.tolist()
        assert found == [success, success]


def test_success_is_asked_for_at_steps_only(monkeypatch):
    monkeypatch.setattr(rollout, "make_env", lambda task: GoalStub())
    monkeypatch.setattr(GoalStub, "first", ["goal"])
    monkeypatch.setattr(GoalStub, "later", ["goal", "success"])
    assert run_episodes(get_task("maze2d-umaze"), Still(), episodes=2, seed=2).success.tolist() == [True, True]


class Earning(Constant):
    """Records the rewards that it is given."""

    earned = 0.0

    def take_rewards(self, rewards):
        self.earned = self.earned + rewards


def test_an_actor_that_takes_rewards_gets_those_of_every_step_but_the_last(monkeypatch):
    monkeypatch.setattr(rollout, "make_env", lambda task: Stub())
    actor = Earning()
    run_episodes(TASK, actor, episodes=3, seed=2)
    assert actor.earned.tolist() == [4, 5, 5]
