"""Candidates, units, and the two ways to execute a plan."""

import numpy as np
import pytest
import torch

from dmemm.errors import UserError
from dmemm.planning import planner as planner_module
from dmemm.planning.planner import Planner
from dmemm.planning.plans import ActivePlans, Plans

from .example import NORMALISER, OWN, planner


def test_plans_start_at_the_observation_and_end_at_the_goal_at_rest():
    observations = np.array([[1, 2, 0.5, -0.5], [3, 1, 0, 0]], dtype=np.float32)
    goals = np.array([[2, 2], [0.5, 4]], dtype=np.float32)
    plans = planner(3).plan(observations, goals)
    np.testing.assert_allclose(plans.states[:, 0], observations, atol=1e-5)
    np.testing.assert_allclose(plans.states[:, -1], np.concatenate([goals, np.zeros((2, 2))], axis=1), atol=1e-5)
    assert plans.actions.shape == (2, 8, 2)
    low, high = (NORMALISER.unnormalise(x) for x in (NORMALISER.low, NORMALISER.high))
    inner = np.concatenate([plans.actions, plans.states], axis=2)[:, 1:-1]
    assert (inner >= low - 1e-4).all() and (inner <= high + 1e-4).all()


def test_more_candidates_give_a_better_one_and_a_seed_gives_the_same():
    observations, goals = np.zeros((16, 4), dtype=np.float32), np.zeros((16, 2), dtype=np.float32)
    one, many = (planner(c).plan(observations, goals).values for c in (1, 16))
    assert many.mean() > one.mean()
    again = planner(16).plan(observations, goals)
    assert np.array_equal(again.values, many)
    assert not np.array_equal(planner(16, seed=1).plan(observations, goals).values, many)


def test_what_is_expected_of_a_plan_is_what_the_models_say_of_it():
    made = planner(1)
    plans = made.plan(np.zeros((3, 4), np.float32), np.ones((3, 2), np.float32))
    for i in range(3):
        total = error = 0.0
        for t in range(8):
            s, a = (torch.as_tensor(x[i, t]) for x in (plans.states, plans.actions))
            s, a = (
                (s - made.model.center[2:]) / made.model.scale[2:],
                (a - made.model.center[:2]) / made.model.scale[:2],
            )
            total += 2.0 * made.reward(s, a).item()
            if t < 7:
                after = (torch.as_tensor(plans.states[i, t + 1]) - made.model.center[2:]) / made.model.scale[2:]
                error += (after - made.dynamics(s, a)).square().sum().item() / 7
        assert plans.returns[i] == pytest.approx(total, rel=1e-4, abs=1e-4)
        assert plans.transition_errors[i] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize(
    ("observations", "goals", "message"),
    [
        (np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]), np.zeros((2, 2)), "observation 1 is not finite"),
        (np.zeros((2, 4)), np.array([[np.inf, 0], [0, 0]]), "goal 0 is not finite"),
        (np.zeros((2, 5)), np.zeros((2, 2)), r"observations have shape \(2, 5\); maze2d-umaze needs \(batch, 4\)"),
        (np.zeros((0, 4)), np.zeros((0, 2)), r"observations have shape \(0, 4\); maze2d-umaze needs .* not empty"),
        (np.float32(3), np.zeros(2), r"observations have shape \(1, 1\); maze2d-umaze needs \(batch, 4\)"),
        (np.zeros((2, 4)), None, r"goals are missing; maze2d-umaze needs \(2, 2\)"),
        (np.zeros((2, 4)), np.zeros((1, 2)), r"goals have shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize("way", ["plan", "act"])
def test_what_cannot_be_planned_from_is_named(observations, goals, message, way):
    with pytest.raises(UserError, match=message):
        getattr(planner(1), way)(observations, goals)


def test_nor_what_is_seen_while_a_plan_is_followed():
    made, goals = planner(1), np.zeros((2, 2), np.float32)
    made.act(np.zeros((2, 4)), goals)
    seen = np.array([[0, 0, 0, np.nan], [0, 0, 0, 0]])
    with pytest.raises(UserError, match="observation 0 is not finite"):
        made.act(seen, goals)
    with pytest.raises(UserError, match=r"observations have shape \(2, 5\)"):
        made.act(np.zeros((2, 5)), goals)
    made.act(seen, goals, np.array([False, True]))  # whose episode is over


def test_a_plan_that_is_not_finite_is_never_returned():
    made = planner(1)
    made.model.scale[0] = torch.inf
    with pytest.raises(UserError, match="the plan from observation 0 is not finite"):
        made.plan(np.zeros((2, 4)), np.zeros((2, 2)))


def test_nor_while_the_places_of_the_data_guide(monkeypatch):
    made = planner(1, places=torch.zeros(3, 2), lambda_guide=0.0, veto=1.0)
    monkeypatch.setattr(made.model, "estimate", lambda tau, k, values: tau * torch.nan)
    with pytest.raises(UserError, match="the plan from observation 0 is not finite"):
        made.plan(np.zeros((2, 4)), np.zeros((2, 2)))


def test_acting_follows_a_plan_and_replans_each_environment_in_its_own_time():
    made, goals = planner(1), np.zeros((2, 2), np.float32)
    observations = np.ones((2, 4), np.float32)
    seen = []
    for t in range(5):
        seen.append(made.act(observations, goals))
        if t == 1:
            for wrong in (np.array([0, 1]), np.array([True]), np.array(True)):
                with pytest.raises(UserError, match="one bool for each environment"):
                    made.restart(wrong)
            made.restart(np.array([False, True]))  # as after an episode's end
    # Environment 0 plans at t = 0 and 3, environment 1 at 0 and, after its restart, 2.
    assert made.plans_made == 4
    again = planner(1)
    first = again.plan(observations, goals)
    np.testing.assert_array_equal([x[0] for x in seen[:3]], first.actions[0, :3])
    np.testing.assert_array_equal([x[1] for x in seen[:2]], first.actions[1, :2])
    second = again.plan(observations[1:], goals[1:])
    np.testing.assert_array_equal([x[1] for x in seen[2:5]], second.actions[0, :3])
    third = again.plan(observations[:1], goals[:1])
    np.testing.assert_array_equal([x[0] for x in seen[3:]], third.actions[0, :2])


@pytest.mark.parametrize("execute", ["waypoints", "actions"])
def test_a_plan_that_is_used_up_is_held_by_waypoints_and_replaced_for_actions(execute):
    made = planner(1, replan_every=1000, execute=execute)
    observation, goal, horizon = np.ones((1, 4), np.float32), np.ones((1, 2), np.float32), made.model.horizon
    acted = [made.act(observation, goal) for _ in range(2 * horizon)]
    assert made.plans_made == (1 if execute == "waypoints" else 2)
    if execute == "waypoints":  # as in Diffuser: towards the goal, where the plan rests
        np.testing.assert_allclose(acted[horizon - 1 :], np.full((horizon + 1, 1, 2), -1.0), atol=1e-6)


def test_a_warm_start_gives_the_rest_of_the_plan_to_those_that_had_one(monkeypatch):
    given = []
    real = planner_module.sample_plans

    def spy(model, guide, values, config, generator, previous, trace):
        given.append((len(values), previous))
        return real(model, guide, values, config, generator, previous, trace)

    monkeypatch.setattr(planner_module, "sample_plans", spy)
    made, observations, goals = planner(1, warm_start=2), np.ones((3, 4), np.float32), np.zeros((3, 2), np.float32)
    for _ in range(3):
        made.act(observations, goals)
    plans = made._active.plans
    rest = np.concatenate([plans.actions, plans.states], axis=2)[:, [3, 4, 5, 6, 7, 7, 7, 7]].copy()
    made.restart(np.array([False, True, False]))
    made.act(observations, goals)
    assert [count for count, _ in given] == [3, 1, 2] and given[0][1] is given[1][1] is None
    expected = (torch.as_tensor(rest[[0, 2]]) - made.model.center) / made.model.scale
    torch.testing.assert_close(given[2][1], expected)


def test_a_single_environment_acts_as_a_batch_of_one_and_who_does_not_run_does_nothing():
    one, batch = planner(1).plan(np.ones(4), np.zeros(2)), planner(1).plan(np.ones((1, 4)), np.zeros((1, 2)))
    for key, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(batch, key)[0])
    one = planner(1).act(np.ones(4, np.float32), np.zeros(2, np.float32))
    np.testing.assert_array_equal(one, planner(1).act(np.ones((1, 4)), np.zeros((1, 2)))[0])
    made = planner(1)
    actions = made.act(np.ones((3, 4)), np.zeros((3, 2)), running=np.array([False, True, False]))
    assert made.plans_made == 1 and (actions[[0, 2]] == 0).all() and (actions[1] != 0).any()
    for wrong in (np.ones(4, bool), np.array([True]), np.array(True)):
        with pytest.raises(UserError, match=r"running has shape \(.*\); give one bool for each of 3"):
            made.act(np.ones((3, 4)), np.zeros((3, 2)), running=wrong)


@pytest.mark.parametrize(
    ("changes", "without", "said"),
    [
        ({"objective": "reward"}, ["reward"], "--reward: objective reward needs it; .*`dmemm reward`"),
        ({"objective": "return"}, ["value"], "--value: objective return needs it"),
        ({"objective": "value"}, ["value"], "--value: objective value needs it"),
        ({"model_rollout": True, "lambda_guide": 0.0}, ["dynamics"], "--dynamics: .* model_rollout need it"),
        ({"objective": "plan_value"}, ["plan_value"], "--plan-value: objective plan_value needs it"),
        ({"lambda_guide": 0.0, "veto": 0.5}, ["dynamics"], "--dynamics: transition guidance, the veto and .* need it"),
    ],
)
def test_what_the_objective_needs_is_asked_for_but_not_with_a_goal(changes, without, said):
    with pytest.raises(UserError, match=said):
        planner(1, task=OWN, without=without, **changes)
    if "dynamics" not in without:
        assert planner(4, without=without, **changes).candidates == 4


def test_a_transition_ensemble_without_places_cannot_guide_to_a_goal():
    with pytest.raises(UserError, match="--dynamics: has no places of maze2d-umaze's data; run `dmemm dynamics` again"):
        planner(1, veto=0.5)


def test_with_a_goal_guidance_and_choice_keep_plans_near_the_places_of_the_data(monkeypatch):
    places = torch.tensor([[0.4, -0.6], [-1.0, 0.3], [1.2, 1.1]])

    def away(candidates, alpha):
        made = planner(candidates, places=places, lambda_guide=0.0, veto=1.0, alpha=alpha)
        monkeypatch.setattr(made.model, "estimate", lambda tau, k, values: tau)  # an untrained network ignores τ
        plans = made.plan(np.zeros((20, 4), np.float32), np.ones((20, 2), np.float32))
        at = (torch.as_tensor(plans.states[..., :2]) - made.model.center[2:4]) / made.model.scale[2:4]
        squares = torch.cdist(at, places).amin(dim=-1).square().sum(dim=-1)
        return squares.mean(), squares, plans.values

    free, _, _ = away(1, 0.0)
    chosen, squares, values = away(8, 0.0)
    guided, _, _ = away(1, 30.0)
    assert chosen < free and guided < 0.7 * free
    # The merit also counts the transition error, which is smaller here by far.
    assert np.corrcoef(squares, values)[0, 1] < -0.9


def test_a_value_of_other_plans_is_refused():
    made = planner(1, task=OWN, objective="plan_value")
    made.plan_value.header["diffusion_steps"] = 5
    with pytest.raises(UserError, match="--plan-value: trained on plans with .*: 5}, not .*: 4}; run `dmemm plan-"):
        Planner(OWN, made.config, made.model, made.dynamics, None, plan_value=made.plan_value)


def test_the_plan_with_the_largest_objective_less_the_veto_is_taken(monkeypatch):
    made, drawn = planner(8, task=OWN, objective="value", lambda_guide=0.0, veto=2.0, alpha=0.0), []
    real = planner_module.sample_plans
    monkeypatch.setattr(planner_module, "sample_plans", lambda *x: drawn.append(real(*x)) or drawn[-1])
    plans = made.plan(np.zeros((3, 4), np.float32))
    assert len(drawn) == 1 and drawn[0].shape == (24, 8, 6)  # all candidates of all observations at once
    for i in range(3):
        merits = []
        for tau in drawn[0][8 * i : 8 * i + 8]:
            s, a = tau[:, 2:], tau[:, :2]
            errors = [(s[t + 1] - made.dynamics(s[t : t + 1], a[t : t + 1])[0]).square().sum() for t in range(7)]
            merits.append(float(made.value(s[1:]).mean() - 2.0 * sum(errors) / 7))
        best = int(np.argmax(merits))
        assert plans.values[i] == pytest.approx(merits[best], rel=1e-4)
        expected = drawn[0][8 * i + best] * made.model.scale + made.model.center
        np.testing.assert_allclose(plans.states[i], expected[:, 2:], atol=1e-6)


@pytest.mark.parametrize(("between", "limit", "guided"), [(0.996, 0.99, False), (0.996, 1.0, True), (0.98, 0.99, True)])
def test_a_value_that_tells_episodes_apart_ranks_plans_and_does_not_guide_them(between, limit, guided):
    def drawn(alpha):
        made = planner(8, task=OWN, objective="value", lambda_guide=0.0, alpha=alpha, guide_limit=limit)
        made.value.between_episodes.fill_(between)
        made = Planner(OWN, made.config, made.model, None, None, value=made.value)
        assert made.candidates == 8
        tau, merit = made.draw(made.known(np.zeros((3, 4), np.float32), None))
        s = tau[..., 2:]
        torch.testing.assert_close(merit, made.value(s[:, :, 1:]).mean(dim=-1))
        return tau

    assert torch.equal(drawn(30.0), drawn(0.0)) != guided


def test_without_guide_and_veto_one_plan_is_as_good_as_many():
    assert planner(8, lambda_guide=0.0, veto=0.0).candidates == 1


def test_waypoints_follow_the_next_planned_state_and_the_last_for_ever():
    states = np.arange(24, dtype=np.float32).reshape(1, 6, 4)
    active, here = ActivePlans(1, 6, 2, 4), states[:, 2] + 0.25
    active.replace(np.array([0]), Plans(np.ones((1, 6, 2), dtype=np.float32), states, *np.zeros((3, 1), np.float32)))
    for steps, observations, execute, expected in (
        (2, here, "waypoints", [4 - 0.25 + 4 - 0.25] * 2), (5, states[:, 5], "waypoints", [0, 0]),
        (3, here, "actions", [1, 1]),
    ):  # fmt: skip
        active.steps[0] = steps
        np.testing.assert_allclose(active.actions(observations, execute), [expected])
