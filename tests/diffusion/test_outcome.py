"""The objectives of planning against literal loops: with and without falls, and what is chosen by them."""

from statistics import fmean

import pytest
import torch

from dmemm.diffusion.guidance import Guide, transition_errors
from dmemm.diffusion.outcome import Familiarity, Outcome
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.models.plan_value import PlanValue

PENALTY, GAMMA, H = -30.0, 0.9, 6


def models():
    torch.manual_seed(0)
    reward = RewardModel(3, 2, 1, 16).double().requires_grad_(False)
    value = ValueModel(3, 0, 1, 16).double().requires_grad_(False)
    for model, mean, scale in ((reward, 3.0, 2.0), (value, 50.0, 20.0)):
        model.target_mean.fill_(mean)
        model.target_scale.fill_(scale)
    return reward, value


def plans():
    tau = torch.randn(5, H, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tau[1, 2, 2] = 9.0  # falls in its third state and stays down
    tau[1, 3:, 2] = 9.0
    tau[2, 3, 2] = 9.0  # is up again after it
    tau[3, H - 1, 2] = 9.0  # falls at the end
    return tau


def fallen(states):
    return states[..., 0] > 8


def by_loop(objective, s, a, reward, value, ended):
    """One plan (H, ·); R̂ and V̂ in units of the reward, step by step."""

    def r(t):
        return reward(s[t : t + 1], a[t : t + 1]).item() * 2 + 3

    def v(t):
        return value(s[t : t + 1]).item() * 20 + 50

    fall = next((t for t in range(H) if ended and s[t, 0] > 8), None)
    total = 0.0
    if objective == "reward":
        for t in range(H):
            gain = r(t) if fall is None or t < fall else PENALTY if t == fall else 0.0
            total += (gain - 3) / 2
    elif objective == "return":
        for t in range(H - 1):
            if fall is None or t < fall:
                total += GAMMA**t * r(t)
        total += GAMMA ** (H - 1) * v(H - 1) if fall is None else GAMMA**fall * PENALTY
        total /= 20
    else:
        for t in range(1, H):
            total += ((v(t) if fall is None or t < fall else PENALTY) - 50) / 20 / (H - 1)
    return total


@pytest.mark.parametrize("ended", [None, fallen])
@pytest.mark.parametrize("objective", ["reward", "return", "value"])
def test_objectives_are_those_of_a_loop(objective, ended):
    reward, value = models()
    tau = plans()
    guide = Guide(2, Outcome(objective, reward, value, GAMMA, PENALTY, ended))
    expected = [by_loop(objective, plan[:, 2:], plan[:, :2], reward, value, ended is not None) for plan in tau]
    torch.testing.assert_close(guide.objective(tau), torch.tensor(expected, dtype=torch.float64))
    gradient = guide.gradient(tau, tau, torch.zeros(5))
    if ended is not None:  # nothing after a fall is worth a change
        assert gradient[1, 2:].abs().max() == 0 < gradient[0, 2:].abs().max()


def test_the_value_of_a_noisy_plan_is_followed_at_the_noisy_plan_and_chosen_by_at_the_clean_one():
    torch.manual_seed(0)
    j = PlanValue({"horizon": H, "transition_dim": 5, "diffusion_steps": 9}).double().requires_grad_(False)
    guide, tau, k = Guide(2, plan_value=j), plans(), torch.arange(5)
    noisy = tau + 1
    gradient, h = guide.gradient(tau, noisy, k), 1e-6
    for index in [(0, 0, 0), (3, 2, 4), (4, 5, 1)]:
        up, down = noisy.clone(), noisy.clone()
        up[index] += h
        down[index] -= h
        numeric = (j(up, k) - j(down, k)).sum() / (2 * h)
        torch.testing.assert_close(gradient[index], numeric, rtol=1e-5, atol=1e-8)
    assert torch.equal(guide.objective(tau), j(tau, torch.zeros(5)))
    assert (j(tau, k)[1:] != guide.objective(tau)[1:]).all()


def test_the_veto_takes_the_transition_error_off_and_steers_nothing():
    _, value = models()
    dynamics = DynamicsEnsemble(3, 2, 4, 16).double().requires_grad_(False)
    tau = plans()
    errors = [
        [
            (plan[t + 1, 2:] - dynamics(plan[None, t, 2:], plan[None, t, :2])[0]).square().sum().item()
            for t in range(H - 1)
        ]
        for plan in tau
    ]  # fmt: skip
    outcome = Outcome("value", None, value)
    plain, guide = Guide(2, outcome), Guide(2, outcome, dynamics, veto=0.7)
    torch.testing.assert_close(transition_errors(tau, 2, dynamics), torch.tensor(errors).double())
    mean = torch.tensor([fmean(each) for each in errors]).double()
    torch.testing.assert_close(guide.merit(tau), plain.objective(tau) - 0.7 * mean)
    assert torch.equal(guide.gradient(tau, tau, torch.zeros(5)), plain.gradient(tau, tau, torch.zeros(5)))
    only = Guide(2, dynamics=dynamics, veto=0.7)
    torch.testing.assert_close(only.merit(tau), -0.7 * mean)  # nothing else chooses
    assert only.chooses and not only.steers and not Guide(2).chooses


def test_with_a_rollout_a_plan_is_worth_no_more_than_the_states_that_its_actions_lead_to():
    _, value = models()
    dynamics = DynamicsEnsemble(3, 2, 4, 16).double().requires_grad_(False)
    dynamics.target_mean.fill_(1.2)
    dynamics.target_scale.fill_(3.0)
    tau = plans()

    def worth(states):
        values = []
        for t, state in enumerate(states):
            fell = any(fallen(x) for x in states[: t + 1])
            values.append((PENALTY - 50) / 20 if fell else value(state[None]).item())
        return sum(values) / (H - 1)

    promised, kept = [], []
    for plan in tau:
        s, states = plan[0, 2:], []
        for t in range(H - 1):
            members = [s + 3 * mean[0, :3] + 1.2 for mean in dynamics.outputs(s[None], plan[None, t, :2])]
            s = torch.stack(members).mean(dim=0)
            states.append(s)
        promised.append(worth(list(plan[1:, 2:])))
        kept.append(worth(states))
    lower = torch.tensor([min(pair) for pair in zip(promised, kept, strict=True)]).double()
    broken = torch.tensor(kept) < torch.tensor(promised)
    assert broken.any() and not broken.all()
    guide = Guide(2, Outcome("value", None, value, GAMMA, PENALTY, fallen), dynamics, veto=0.7, rollout=True)
    torch.testing.assert_close(guide.objective(tau), lower)
    errors = transition_errors(tau, 2, dynamics).mean(dim=-1)
    torch.testing.assert_close(guide.merit(tau), lower - 0.7 * errors)
    # Predicted states count in the choice alone.
    planned = Guide(2, guide.outcome).gradient(tau, tau, torch.zeros(5))
    assert torch.equal(guide.gradient(tau, tau, torch.zeros(5)), planned) and (planned[:, 1:, 2:] != 0).any()


def test_a_plan_whose_predicted_states_overflow_is_not_chosen(monkeypatch):
    reward, _ = models()
    dynamics, tau = DynamicsEnsemble(3, 2, 4, 16), plans()
    predicted = tau[..., 2:].clone()
    predicted[3, -1] = torch.inf
    monkeypatch.setattr(dynamics, "rollout", lambda s, a: predicted)
    guide = Guide(2, Outcome("reward", reward, None), dynamics, rollout=True)
    planned = Guide(2, guide.outcome).objective(tau)
    assert guide.outcome(predicted, tau[..., :2])[3].isnan()
    assert torch.equal(guide.merit(tau), torch.where(torch.arange(5) == 3, -torch.inf, planned))


def test_a_termination_function_may_call_numpy_while_it_guides():
    _, value = models()
    tau = plans()
    by_numpy = Outcome("value", None, value, GAMMA, PENALTY, lambda s: torch.as_tensor(fallen(s.numpy())))
    expected = Guide(2, Outcome("value", None, value, GAMMA, PENALTY, fallen)).gradient(tau, tau, torch.zeros(5))
    assert torch.equal(Guide(2, by_numpy).gradient(tau, tau, torch.zeros(5)), expected)


def test_with_a_goal_plans_are_drawn_to_the_nearest_places_of_the_data():
    tau = plans()
    torch.manual_seed(3)
    visited = torch.randn(7, 2).double()
    guide = Guide(2, Familiarity(visited, 0.7))

    def literal(x):
        worth = []
        for plan in x:
            squares = [min(((state[2:4] - place) ** 2).sum() for place in visited) for state in plan]
            worth.append(-0.7 / 2 * sum(squares) / 0.2**2)
        return torch.stack(worth)

    torch.testing.assert_close(guide.objective(tau), literal(tau))
    assert guide.merit(tau).argmax() == literal(tau).argmax() and guide.steers and guide.chooses
    gradient = guide.gradient(tau, tau, torch.zeros(5))
    x = tau.clone().requires_grad_()
    (expected,) = torch.autograd.grad(literal(x).sum(), x)
    torch.testing.assert_close(gradient, expected)
    closer = tau + 0.01 * gradient  # a quarter of the way to the nearest places
    torch.testing.assert_close(guide.objective(closer), guide.objective(tau) * (1 - 0.01 * 0.7 / 0.04) ** 2)
