"""The other methods: what they learn on problems whose answer is known, and that they are saved, seeded and refused."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from dmemm.config import EpisodesConfig, MethodConfig
from dmemm.errors import UserError
from dmemm.inputs import Inputs
from dmemm.methods import METHODS, POLICIES, base, hd, hdmi, levels, load_actor, morel, mppi, rvs
from dmemm.tasks import get_task
from tests.methods.problems import (
    CPU,
    GOAL,
    POINT,
    STARTS,
    distances_left_in_it,
    point_data,
    raw_data,
    rests_in_an_open_maze,
    walk,
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rvs, "_WIDTH", 128)
    small = {"mlp_width": 64, "unet_width": 16, "unet_mults": (1, 2), "diffusion_steps": 10}
    for method in (hd, hdmi):
        monkeypatch.setattr(method, "_TRAINING", dataclasses.replace(method._TRAINING, **small))
    monkeypatch.setattr(hd, "_HORIZON", 16)
    monkeypatch.setattr(mppi, "_IMITATION_STEPS", 400)
    monkeypatch.setattr(morel, "_IMITATION_STEPS", 100)
    monkeypatch.setattr(hdmi, "_WIDTH", 64)
    monkeypatch.setattr(hdmi, "_INVERSE_WIDTH", 64)


def test_mppi_goes_where_the_reward_is_highest_and_to_a_goal(monkeypatch):
    monkeypatch.setattr(mppi, "_AROUND_PRIOR", {POINT.body: (0.1, 0.7)})  # the prior is random play
    policy = mppi.train(POINT, point_data(), MethodConfig(1), 0, CPU)
    ends = np.linalg.norm(walk(policy, STARTS)[-1], axis=1)
    assert (ends < 0.3).all(), ends
    policy = mppi.train(GOAL, point_data(), MethodConfig(1), 0, CPU)
    goals = np.array([[-0.5, 0.5], [0.6, 0.6], [0.0, -0.7]], np.float32)
    ends = np.linalg.norm(walk(policy, STARTS, goals)[-1] - goals, axis=1)
    assert (ends < 0.15).all(), ends


def test_mppis_returns_are_those_of_a_loop_that_stops_at_the_end_of_the_episode():
    task = dataclasses.replace(POINT, terminal="tests.methods.test_methods:far")
    policy = mppi.train(task, point_data(20), MethodConfig(1), 0, CPU)
    rng = torch.Generator().manual_seed(2)
    s, plans, noise = (torch.randn(6, *shape, 2, generator=rng) for shape in ((), (8,), (8,)))
    expected, ended = [], 0
    with torch.no_grad():
        tried, got = policy.roll_out(s, plans, noise, 0.7, None)
        for i, state in enumerate(s):
            total = 0.0
            for t in range(8):
                around = 0.7 * plans[i, t] + 0.3 * policy.prior(state)
                action = torch.clip(around + noise[i, t], policy.low, policy.high)
                np.testing.assert_allclose(tried[i, t], action, rtol=1e-4, atol=1e-4)
                r = policy.reward(state[None], action[None])[0] * policy.reward.target_scale + policy.reward.target_mean
                total += float(r)
                state = policy.dynamics(state[None], action[None])[0]
                if far(state * policy.scale[2:] + policy.center[2:]):
                    ended += 1
                    total -= 100
                    break
            else:
                total += float(policy.value(state[None])[0] * policy.value.target_scale + policy.value.target_mean)
            expected.append(total)
    assert 0 < ended < 6
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_mppi_does_not_prefer_an_end_to_the_way_to_a_goal():
    task = dataclasses.replace(GOAL, terminal="tests.methods.test_methods:far")
    policy = mppi.train(task, point_data(20), MethodConfig(1), 0, CPU)
    s, goals, plans = torch.full((1, 2), 5.0), torch.zeros(1, 2), torch.zeros(1, 8, 2)
    with torch.no_grad():
        tried, got = policy.roll_out(s, plans, plans, 1.0, goals)
        left = 0.0
        for a in tried.unbind(dim=1):
            s = policy.dynamics(s, a)
            left += float((s - goals).norm())
    assert far(s * policy.scale[2:] + policy.center[2:]).all() and float(got) == pytest.approx(-left, rel=1e-5)


def test_mppi_whose_plans_are_all_worth_the_same_does_what_the_data_do():
    raw = point_data(50)
    actions = np.tanh(2 * raw.observations)
    policy = mppi.train(POINT, dataclasses.replace(raw, actions=actions), MethodConfig(1), 0, CPU)
    policy.start(0)
    policy.roll_out = lambda *x, roll_out=policy.roll_out: (roll_out(*x)[0], torch.zeros(len(x[0])))
    np.testing.assert_allclose(policy.act(raw.observations[::10]), actions[::10], atol=0.2)


def test_mppis_plans_are_what_its_model_expects_and_lead_to_the_goal():
    policy = mppi.train(GOAL, point_data(), MethodConfig(1), 0, CPU)
    policy.start(0)
    s, goals = policy.normalise(np.array(STARTS)), policy.normalise_goals(np.full((3, 2), 0.2, np.float32))
    with torch.no_grad():
        plans = policy.plan(s, goals)
        a, states = plans[..., :2], plans[..., 2:]
        np.testing.assert_array_equal(states[:, 0], s)
        for t in range(plans.shape[1] - 1):
            np.testing.assert_allclose(states[:, t + 1], policy.dynamics(states[:, t], a[:, t]), atol=1e-6)
    left = (states - goals[:, None]).norm(dim=-1)
    assert (left[:, -1] < 0.7 * left[:, 0]).all()


def far(states):
    return states[..., 0] > 1.0


def test_rvs_takes_the_actions_of_the_best_outcome():
    # Half of the episodes go up and earn 1 a step, the other half down and earn nothing, all from like states.
    rng = np.random.default_rng(0)
    good = np.repeat(rng.random(60) < 0.5, 10)
    s = rng.normal(size=(600, 2))
    a = np.where(good, 0.7, -0.7)[:, None] + rng.normal(size=(600, 1)) * 0.05
    raw = raw_data(s, a, s, good, 10)
    policy = rvs.train(dataclasses.replace(POINT, episode_steps=10), raw, MethodConfig(300), 0, CPU)
    actions = policy.act(rng.normal(size=(50, 2)).astype(np.float32))
    assert np.abs(actions - 0.7).mean() < 0.1


def test_rvs_goes_to_its_goal():
    policy = rvs.train(GOAL, point_data(straight=True), MethodConfig(1500), 0, CPU)
    goals = np.array([[-0.5, 0.5], [0.6, 0.6], [0.0, -0.7]], np.float32)
    path = walk(policy, STARTS, goals)
    closest = np.linalg.norm(path - goals, axis=2).min(axis=0)
    assert (closest < 0.2).all(), closest


@pytest.mark.parametrize("method", [hd, hdmi], ids=["hd", "hdmi"])
def test_it_goes_to_its_goal_in_an_open_maze(method, monkeypatch):
    monkeypatch.setattr(levels, "HORIZONS", {"umaze": 16})
    monkeypatch.setattr(hd, "_STRIDE_IN_MAZES", 4)
    raw, s = rests_in_an_open_maze()
    policy = method.train(get_task("maze2d-umaze"), raw, MethodConfig(250), 0, CPU)
    away, left = distances_left_in_it(policy, s)
    assert away.mean() > 1 and (left < 0.6).all(), (away, left)


def test_next_actions_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    a, r = rng.normal(size=(23, 2)), rng.normal(size=23)
    raw = raw_data(np.zeros((23, 2)), a, np.zeros((23, 2)), r, 7)
    blocks = hd.with_next_actions(raw, 3)
    for i in range(23):
        last = min(7 * (i // 7) + 6, 22)
        np.testing.assert_array_equal(
            blocks.actions[i].reshape(3, 2), [raw.actions[min(i + j, last)] for j in range(3)]
        )


@pytest.mark.parametrize("method", [hd, hdmi], ids=["hd", "hdmi"])
def test_it_fills_in_its_subgoals_and_follows_the_whole_path(method):
    task = get_task("maze2d-umaze")
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, (400, 4)) * [2, 2, 3, 3] + [2, 2, 0, 0]
    raw = raw_data(s, rng.uniform(-1, 1, (400, 2)), s, np.zeros(400), 200)
    policy = method.train(task, raw, MethodConfig(1), 0, CPU)
    observations, goals = s[:3].astype(np.float32), np.array([[1, 1], [3, 1], [2, 3]], np.float32)
    actions = policy.act(observations, goals)
    path = (policy.plans * policy.scale + policy.center).numpy()[..., 2:]
    assert path.shape == (3, 129, 4)
    np.testing.assert_allclose(path[:, 0], observations, atol=1e-4)
    np.testing.assert_allclose(path[:, -1], np.pad(goals, ((0, 0), (0, 2))), atol=1e-4)
    away = path[:, 1] - observations
    np.testing.assert_allclose(actions, away[:, :2] + away[:, 2:], atol=1e-3)
    for _ in range(hd._REPLAN_EVERY - 1):
        policy.act(observations, goals)
    whole = policy.plans
    policy.act(observations, goals)
    assert policy.age == 1 and (policy.plans != whole).any()
    plans = policy.plan(policy.normalise(observations), policy.normalise_goals(goals))
    assert plans.shape == whole.shape and torch.equal(plans[:, [0, -1], 2:], whole[:, [0, -1], 2:])
    subgoals = torch.randn(5, 4)
    pieces = policy.between(subgoals[:-1], subgoals[1:])[..., 2:]
    assert (pieces[:, 0] == subgoals[:-1]).all() and (pieces[:, -1] == subgoals[1:]).all()


def test_mean_rewards_to_go_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    r = rng.normal(size=50).astype(np.float32)
    raw = raw_data(np.zeros((50, 2)), np.zeros((50, 1)), np.zeros((50, 2)), r, 8)
    terminals = raw.timeouts & (np.arange(50) < 20)
    raw = dataclasses.replace(raw, terminals=terminals, timeouts=raw.timeouts & ~terminals)
    means, best = rvs.mean_rewards_to_go(raw, dataclasses.replace(POINT, episode_steps=12))
    expected, whole = [], []
    for i in range(50):
        start, end = 8 * (i // 8), min(8 * (i // 8) + 8, 50)
        expected.append(sum(r[i:end].astype(float)) / (12 - (i - start)))
        if i == start:
            whole.append(expected[-1])
    np.testing.assert_allclose(means, expected, rtol=1e-9)
    assert best == pytest.approx(max(whole))


def run_training(folder, name, method, seed=0, steps=5):
    """Run the stage; return the files that it writes."""
    files = {
        "output": folder / f"{name}.safetensors", "report": folder / f"{name}.json", "curve": folder / f"{name}.csv",
    }  # fmt: skip
    base.train(METHODS[method], POINT, MethodConfig(steps), seed, Inputs(raw=folder / "raw.hdf5"), **files)
    return files


def load(folder, name, method, seed=0):
    inputs = Inputs(model=folder / f"{name}.safetensors")
    return load_actor(METHODS[method], POINT, EpisodesConfig(1), seed, inputs)


@pytest.mark.parametrize(("method", "learns"), [("rvs", True), ("hd", True), ("hdmi", True), ("mppi", False)])
def test_training_writes_the_losses_of_a_method_that_has_one(method, learns, tmp_path, monkeypatch):
    monkeypatch.setattr("dmemm.methods.base.read_raw", lambda path: point_data(20))
    files = run_training(tmp_path, "a", method, steps=150)
    with files["curve"].open() as file:
        reader = csv.DictReader(file)
        rows = [(int(row["step"]), float(row["total"])) for row in reader]
    assert reader.fieldnames == ["step", "total", "wdiff", "tr", "rd"]  # those of planners: `dvc plots` asks for all
    assert [step for step, _ in rows] == (list(range(2, 151, 2)) if learns else [])
    if learns:
        losses = np.array([loss for _, loss in rows])
        assert 0 < losses[-25:].mean() < 0.95 * losses[:10].mean()
    record = json.loads(files["report"].read_text())
    assert (record["variant"], record["steps"]) == (method, 150 if learns else None)


def test_each_row_of_a_loss_curve_is_the_mean_since_the_row_before():
    curve = base.LossCurve(199)
    for step in range(199):
        curve.add(torch.tensor(float(step)))
    assert [row["step"] for row in curve.rows] == [*range(2, 199, 2), 199]
    assert [row["total"] for row in curve.rows] == [*(step - 1.5 for step in range(2, 199, 2)), 198]


@pytest.mark.parametrize("method", [name for name in POLICIES if not METHODS[name].by_d3rlpy])
def test_a_method_is_the_same_after_loading_and_for_the_same_seed(method, tmp_path, monkeypatch):
    monkeypatch.setattr("dmemm.methods.base.read_raw", lambda path: point_data(20))
    monkeypatch.setattr("dmemm.methods.base.choose_device", lambda: CPU)

    def train(name, seed):
        return run_training(tmp_path, name, method, seed)["output"].read_bytes()

    assert train("first", 3) == train("again", 3) != train("other", 4)
    observations = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    running = np.array([True, False, True, True])
    one, two = (load(tmp_path, name, method, 3) for name in ("first", "again"))
    actions = one.act(observations, None, running)
    assert actions.shape == (4, 2) and actions.dtype == np.float32 and (actions[1] == 0).all() and actions[0].any()
    assert (actions == two.act(observations, None, running)).all()
    assert one.plans_made == 3
    with pytest.raises(UserError, match="observation 2 is not finite"):
        observations[2] = np.nan
        one.act(observations, None, running)


def test_weights_of_another_method_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dmemm.methods.base.read_raw", lambda path: point_data(20))
    run_training(tmp_path, "a", "rvs", steps=2)
    with pytest.raises(UserError, match="holds rvs, but mppi was expected"):
        load(tmp_path, "a", "mppi")
