"""MOReL: the pessimistic model and the natural gradient against slow implementations, and a problem that it solves."""

import dataclasses

import numpy as np
import pytest
import torch

from dmemm.config import MethodConfig
from dmemm.methods import morel
from dmemm.methods.behaviour import GaussianPolicy
from dmemm.methods.morel import PessimisticModel
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.tasks import get_task
from tests.methods.problems import CPU, GOAL, POINT, STARTS, point_data, walk

HOPPER = get_task("hopper-medium-expert")


def hopper_data():
    rng = np.random.default_rng(0)
    raw = point_data(12, 50)
    s, a = rng.normal(size=(600, 11)).astype(np.float32), rng.uniform(-1, 1, (600, 3)).astype(np.float32)
    return dataclasses.replace(raw, observations=s, next_observations=s, actions=a, rewards=raw.rewards.clip(-2))


def test_the_pessimistic_model_is_the_ensemble_where_its_members_agree_and_a_lasting_loss_elsewhere():
    raw = hopper_data()
    raw.rewards[3] = -2.0
    torch.manual_seed(0)
    dynamics, reward = DynamicsEnsemble(11, 3, 3, 8), RewardModel(11, 3, 1, 8)
    dynamics.target_scale.copy_(torch.linspace(0.1, 0.4, 11))
    policy = morel.Policy.of(HOPPER, raw)
    model = PessimisticModel(policy, raw, dynamics, reward)
    s, a = policy.normalise(raw.observations), policy.normalise_actions(raw.actions)
    with torch.no_grad():
        next_s = s + dynamics.outputs(s, a)[..., :11] * dynamics.target_scale  # the mean of the change is 0
        slow = np.array([max(float((x[i] - y[i]).norm()) for x in next_s for y in next_s) for i in range(len(s))])
        expected = np.mean(slow) + morel._THRESHOLD * np.std(slow, ddof=1)
        assert model.threshold == pytest.approx(expected, rel=1e-4)
        model.threshold = float(np.median(slow))
        after, gain, over = model.step(s, a, None)
        np.testing.assert_allclose(after, dynamics(s, a), rtol=1e-6)
        unknown = slow > model.threshold
        np.testing.assert_allclose(gain, np.where(unknown, -200, reward(s, a)), rtol=1e-4)
        height, angle = (after * policy.scale[3:] + policy.center[3:])[:, :2].T
        fallen = ((height <= 0.7) | (angle.abs() >= 0.2)).numpy()
        assert 0 < (fallen & ~unknown).sum() < len(s)
        np.testing.assert_array_equal(over, unknown | fallen)
        np.testing.assert_array_equal(
            model.step(s, a + 100, None)[0], model.step(s, policy.high.expand(600, 3), None)[0]
        )


def test_the_pessimistic_model_rewards_by_the_distance_to_the_goal():
    raw = point_data(20)
    model = PessimisticModel(morel.Policy.of(GOAL, raw), raw, DynamicsEnsemble(2, 2, 2, 8), RewardModel(2, 2, 1, 8))
    model.threshold = np.inf
    s, goals = model.start(7, torch.Generator().manual_seed(0))
    assert goals.shape == (7, 2) and all((model.states == goal).all(dim=1).any() for goal in goals)
    with torch.no_grad():
        after, gain, over = model.step(s, torch.zeros(7, 2), goals)
    np.testing.assert_allclose(gain, -np.linalg.norm(after - goals, axis=1), rtol=1e-5)
    assert not over.any()


def test_an_end_is_no_way_out_of_the_distance_to_a_goal():
    raw = point_data(20)
    for goal_dim, ended in ((0, True), (2, False)):
        task = dataclasses.replace(POINT, goal_dim=goal_dim, terminal="tests.methods.test_morel:anywhere")
        model = PessimisticModel(morel.Policy.of(task, raw), raw, DynamicsEnsemble(2, 2, 2, 8), RewardModel(2, 2, 1, 8))
        model.threshold = np.inf
        s, goals = model.start(7, torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert (model.step(s, torch.zeros(7, 2), goals)[2] == ended).all()


def anywhere(states):
    """Every state is terminal."""
    return states[..., 0] == states[..., 0]


def test_advantages_are_those_of_a_sum_over_what_is_left_of_the_episode():
    rng = np.random.default_rng(0)
    rewards, values, over = rng.normal(size=(9, 3)), rng.normal(size=(10, 3)), rng.random((9, 3)) < 0.3
    got = morel.advantages(*(torch.as_tensor(x) for x in (rewards, over, values)))
    for i in range(3):
        for t in range(9):
            total, factor = 0.0, 1.0
            for u in range(t, 9):
                total += factor * (rewards[u, i] + 0.99 * (not over[u, i]) * values[u + 1, i] - values[u, i])
                factor *= 0.99 * morel._LAMBDA
                if over[u, i]:
                    break
            assert float(got[t, i]) == pytest.approx(total)


def test_conjugate_gradients_solve_a_system():
    rng = torch.Generator().manual_seed(0)
    root, b = torch.randn(8, 8, generator=rng).double(), torch.randn(8, generator=rng).double()
    matrix = root @ root.T + torch.eye(8)
    np.testing.assert_allclose(
        morel.conjugate_gradient(lambda v: matrix @ v, b), torch.linalg.solve(matrix, b), rtol=1e-3
    )


def test_a_natural_step_prefers_what_was_better_and_changes_the_policy_by_the_given_divergence():
    torch.manual_seed(0)
    policy, x = GaussianPolicy(3, 2), torch.randn(500, 3)
    policy.log_std.data.fill_(-1.0)
    with torch.no_grad():
        before = policy(x)
        a = before + torch.randn(500, 2) * policy.log_std.exp()
        better = a[:, 0] - before[:, 0]  # the larger the first entry, the better
    morel.natural_step(policy, x, a, better / better.std(), 0.02)
    with torch.no_grad():
        moved, ratio = policy(x) - before, (2 * (policy.log_std + 1)).exp()
        divergence = 0.5 * (moved.square() / np.exp(-2) + ratio - 1 - ratio.log()).sum(dim=1).mean()
    assert float(divergence) == pytest.approx(0.02, rel=0.4)
    assert moved[:, 0].mean() > 0.03 and abs(float(moved[:, 1].mean())) < 0.03


def test_it_goes_where_the_reward_is_highest(monkeypatch):
    monkeypatch.setattr(morel, "_IMITATION_STEPS", 100)
    monkeypatch.setattr(morel, "_STEPS", 20)
    policy = morel.train(POINT, point_data(), MethodConfig(3000), 0, CPU)
    ends = np.linalg.norm(walk(policy, STARTS)[-1], axis=1)
    assert (ends < 0.6).all(), ends
