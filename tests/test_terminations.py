"""The terminations that plans are judged by are the environments' own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dmemm.envs import make_env
from dmemm.tasks import get_task
from dmemm.terminations import termination

from .checkout import task_names


@pytest.mark.parametrize("body", ["hopper", "walker2d"])
def test_random_play_ends_where_the_environment_says(body):
    task = get_task(f"{body}-medium")
    ended = termination(task, np.float32(0), np.float32(1))
    env, states, told = make_env(task), [], []
    env.action_space.seed(0)
    for seed in range(30):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            state, _, terminated, _, _ = env.step(env.action_space.sample())
            states.append(state)
            told.append(terminated)
    assert sum(told) == 30 and len(told) > 400
    np.testing.assert_array_equal(ended(np.stack(states)), told)
    np.testing.assert_array_equal(ended(torch.as_tensor(np.stack(states))[:, None])[:, 0], told)


def test_states_are_judged_in_the_environments_units():
    task = get_task("hopper-medium")
    center, scale = torch.full((11,), 1.0), torch.full((11,), 0.5)
    states = torch.zeros(5, 11)
    states[:, 1:] = -2.0  # 0 in the environment
    states[0, 0], states[1, 0] = -0.7, -0.5  # heights of 0.65 and 0.75
    states[2, 1] = -1.5  # an angle of 0.25
    states[3, 7] = 300.0
    states[4, 2] = torch.nan
    assert termination(task, center, scale)(states).tolist() == [True, False, True, True, True]


def far(states):
    return np.linalg.norm(states, axis=-1) > 3.0  # of a tensor, NumPy would return an array


def beyond(states):
    return np.logical_or(states[..., 0] > 1.0, states[..., 1] < -1.0)  # and here a tensor of uint8


@pytest.mark.parametrize("terminal", [far, beyond])
def test_a_function_of_the_users_may_call_numpy(terminal):
    task = replace(get_task("hopper-medium"), terminal=f"tests.test_terminations:{terminal.__name__}")
    states = np.random.default_rng(0).normal(size=(40, 3, 11)).astype(np.float32)
    told = termination(task, 0.0, 1.0)(torch.tensor(states, requires_grad=True))
    assert told.dtype == torch.bool and told.any() and not told.all()
    np.testing.assert_array_equal(told, terminal(states))


def test_all_levels_of_a_body_end_alike():
    assert {get_task(n).body: get_task(n).terminal for n in task_names() if get_task(n).terminal} == {
        "hopper": "dmemm.terminations:hopper", "walker2d": "dmemm.terminations:walker2d"
    }  # fmt: skip
    assert len([n for n in task_names() if get_task(n).terminal]) == 6
