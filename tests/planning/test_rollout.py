"""Episodes: what is counted, and what is never scored."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
            return state, np.nan if self.fault == "reward" else 1.0, False, False, {}
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


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", "the environment failed: RuntimeError: mj_step"),
        ("state", "a number that is not finite"),
        ("reward", "a number that is not finite"),
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
