"""Transition errors of plans: zero for what the simulator does itself, the literal sums otherwise."""

import json

import numpy as np
import pytest
import torch

from dmemm.cli import main
from dmemm.data.local import collect
from dmemm.data.raw import RawData, episode_slices, read_raw
from dmemm.data.segments import make_segments, read_segments
from dmemm.data.windows import Windows
from dmemm.diffusion.model import DiffusionModel
from dmemm.envs import make_env, set_state_from_observation
from dmemm.evaluation import consistency
from dmemm.models.mechanisms import DynamicsEnsemble, load_mechanism
from dmemm.tasks import Task, get_task
from tests.checkout import copy_tracked


@pytest.mark.parametrize(("name", "tolerance"), [("maze2d-umaze", 1e-5), ("hopper-medium", 2e-3)])
def test_the_datas_own_windows_have_no_error(name, tolerance):
    task = get_task(name)
    raw = collect(task, 1500, seed=0)
    start, end = max(episode_slices(raw.ended), key=lambda pair: pair[1] - pair[0])
    window = slice(start, min(start + 12, end))
    actions, states = raw.actions[None, window], raw.observations[None, window]
    one_step, open_loop = consistency.simulate(task, actions, states)
    np.testing.assert_allclose(one_step, states[:, 1:], atol=tolerance)
    np.testing.assert_allclose(open_loop, states, atol=20 * tolerance)
    # A plan whose actions are others does not lead where it says.
    one_step, open_loop = consistency.simulate(task, -actions, states)
    assert np.abs(one_step - states[:, 1:]).max() > 10 * tolerance
    assert np.abs(open_loop - states).max() > 100 * tolerance


def test_actions_beyond_the_bounds_are_executed_clipped():
    task = get_task("maze2d-umaze")
    states = np.tile(np.array([1.0, 1.0, 0, 0], np.float32), (1, 3, 1))
    wild, clipped = np.full((1, 3, 2), 7, np.float32), np.ones((1, 3, 2), np.float32)
    for measured, expected in zip(
        consistency.simulate(task, wild, states), consistency.simulate(task, clipped, states), strict=True
    ):
        np.testing.assert_array_equal(measured, expected)


def test_a_maze_plan_counts_until_it_is_at_its_goal_and_walls_are_seen():
    path = np.array([[3, 1], [3, 2], [3, 3], [2.4, 3], [2.1, 3], [2, 3], [2, 3]], np.float32)
    through_wall = np.array([[3, 2], [2.5, 2], [2, 2], [1.5, 2], [1, 2], [1, 2], [1, 2]], np.float32)
    states = np.concatenate([np.stack([path, through_wall]), np.zeros((2, 7, 2), np.float32)], axis=-1)
    task = get_task("maze2d-umaze")
    counted = consistency._en_route(task, states, states[:, -1, :2], np.ones(4, np.float32))
    assert counted.sum(axis=1).tolist() == [2, 2]  # (2.4, 3) and (1.5, 2) are at the goal
    assert consistency._outside(task, states) == 0.5
    assert consistency._outside(task, states[:1]) == 0.0


def test_where_windows_rest_at_their_goal_there_are_no_transitions_to_measure():
    task = Task("reach", "Reach-v0", 9, 0.0, 1.0, {}, goal_dim=2)
    rng = np.random.default_rng(0)
    lengths = [9, 2, 5, 9]  # of episodes; a window has 9 steps
    ends = np.isin(np.arange(25), np.cumsum(lengths) - 1)
    s, s_next, a = (rng.normal(size=(25, dim)).astype(np.float32) for dim in (3, 3, 2))
    raw = RawData(s, a, np.zeros(25, np.float32), np.zeros(25, bool), ends, s_next, "own", "reach")
    segments = make_segments(raw, task, 9, 1.0)
    first = np.cumsum([0, *lengths[:-1]])
    batch = Windows(raw, segments, task, torch.device("cpu")).batch(torch.as_tensor(first))
    tau = batch.tau.numpy() * segments.normaliser.scale + segments.normaliser.center
    torch.manual_seed(0)
    dynamics = DynamicsEnsemble(3, 2, 2, 8)
    measured = consistency.errors(task, segments.normaliser, dynamics, tau, tau[:, -1, 2:4])
    z_s, z_a, expected = batch.tau[..., 2:], batch.tau[..., :2], []
    for n, length in enumerate(lengths):
        for t in range(length - 1):  # from one step of the episode to the next
            if length < 9 or t < 7:  # a whole window's last step is its goal
                expected.append((z_s[n, t + 1] - dynamics(z_s[n, t], z_a[n, t])).square().sum().item())
    assert measured["transitions"] == len(expected) == 7 + 1 + 4 + 7
    assert measured["model_error"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.fixture(scope="module", params=["maze2d-umaze", "hopper-medium"])
def stage(request, tmp_path_factory):
    """A tiny network of the task and the stage's result."""
    task, path = request.param, tmp_path_factory.mktemp("consistency")
    copy_tracked(path, "params.yaml", "tasks")
    sizes = [
        "diffusion_steps={locomotion: 4, maze: 4}", "unet_width={locomotion: 8, maze: 8}",
        "unet_mults={locomotion: [1, 2], maze: [1, 2]}", "train_steps={locomotion: 30, maze: 30}",
    ]  # fmt: skip
    horizon = "horizon={locomotion: 8, maze: 32}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        local = "local_steps={locomotion: 3000, maze: 3000}"
        assert main(["download", task, "--output", "raw.h5", "--statistics", "s.json", "--set", local]) == 0
        assert main(["segment", task, "--raw", "raw.h5", "--output", "w.h5", "--set", horizon, "held_out=0.3"]) == 0
        values = [] if task.startswith("maze") else ["value"]
        for name in ["dynamics", "reward", *values]:
            files = ["--raw", "raw.h5", "--output", f"{name}.safetensors", "--report", f"{name}.json"]
            files += ["--curve", f"{name}.csv"]
            assert main([name, task, "0", *files, "--set", "mechanism_epochs=2", "mechanism_width=16"]) == 0
        files = ["--raw", "raw.h5", "--dynamics", "dynamics.safetensors", "--reward", "reward.safetensors"]
        files += ["--segments", "w.h5"]
        out = ["--output", "m.safetensors", "--curve", "c.csv", "--report", "t.json"]
        assert main(["train", task, "dmemm", "0", *files, *out, "--set", *sizes]) == 0
        files += ["--model", "m.safetensors", *(f"--{name}={name}.safetensors" for name in values)]
        for output in ("one.json", "again.json"):
            assert main(["consistency", task, "dmemm", "0", *files, "--output", output]) == 0
    return task, path


def test_the_same_seed_gives_the_same_file(stage):
    _, path = stage
    assert (path / "one.json").read_bytes() == (path / "again.json").read_bytes()


def test_errors_are_those_of_a_loop_over_plans_and_steps(stage, monkeypatch):
    name, path = stage
    task, measured = get_task(name), json.loads((path / "one.json").read_text())
    assert measured["plans"] == 256 and measured["diffusion_loss"] > 0
    assert measured["spread"] > 0 and measured["diversity"] > 0
    model = DiffusionModel.load(path / "m.safetensors", torch.device("cpu"))
    dynamics = load_mechanism(DynamicsEnsemble, path / "dynamics.safetensors")
    raw, rng = read_raw(path / "raw.h5"), np.random.default_rng(0)
    count, horizon = 3, 6
    starts = rng.choice(len(raw.rewards) - horizon, count)
    tau = np.stack([np.hstack([raw.actions[i : i + horizon], raw.observations[i : i + horizon]]) for i in starts])
    tau += rng.normal(0, 0.05, tau.shape).astype(np.float32)
    if task.is_maze:
        tau[:, -1, 2:4] = -9  # far away: every step counts
    d, center, scale = model.action_dim, model.center.numpy(), model.scale.numpy()
    normaliser = read_segments(path / "w.h5").normaliser
    errors = consistency.errors(task, normaliser, dynamics, tau, tau[:, -1, d : d + 2])
    env = make_env(task)
    env.reset(seed=0)
    by_model, by_simulator = [], []
    for n in range(count):
        for t in range(horizon - 1):
            if task.is_maze and t == horizon - 2:
                continue  # the goal is reached with it
            z = torch.as_tensor((tau[n] - center) / scale)
            expected = dynamics(z[t, d:], z[t, :d])
            by_model.append((z[t + 1, d:] - expected).square().sum().item())
            set_state_from_observation(env, tau[n, t, d:])
            low, high = env.action_space.low, env.action_space.high
            after = env.unwrapped.step(np.clip(tau[n, t, :d], low, high))[0]
            by_simulator.append((((tau[n, t + 1, d:] - after) / scale[d:]) ** 2).sum())
    assert errors["transitions"] == len(by_model)
    assert errors["model_error"] == pytest.approx(np.mean(by_model), rel=1e-3)
    assert errors["simulator_error"] == pytest.approx(np.mean(by_simulator), rel=1e-3)
    assert errors["simulator_error_median"] == pytest.approx(np.median(by_simulator), rel=1e-3)


def test_without_held_out_windows_it_says_what_to_do(stage, monkeypatch, capsys):
    task, path = stage
    monkeypatch.chdir(path)
    assert main(["segment", task, "--raw", "raw.h5", "--output", "none.h5", "--set", "held_out=0"]) == 0
    files = ["--raw", "raw.h5", "--segments", "none.h5", "--model", "m.safetensors", "--output", "never.json"]
    files += ["--dynamics", "dynamics.safetensors", "--reward", "reward.safetensors"]
    assert main(["consistency", task, "dmemm", "0", *files, "--set", "objective=reward"]) == 1
    assert "none.h5: no held-out windows to plan from; raise held_out" in capsys.readouterr().err
    assert not (path / "never.json").exists()


def test_a_method_without_plans_is_refused(stage, monkeypatch, capsys):
    task, path = stage
    monkeypatch.chdir(path)
    files = ["--raw", "raw.h5", "--segments", "w.h5", "--model", "m.safetensors", "--dynamics", "dynamics.safetensors"]
    assert main(["consistency", task, "rvs", "0", *files, "--output", "never.json"]) == 1
    planners = "diffuser, dmemm, wo_weighting, wo_lambda_tr, wo_lambda_rd, wo_tr_guide, wo_modulation, only_weighting"
    assert f"rvs: does not plan states; choose one of {planners}, hd, hdmi, mppi, tt" in capsys.readouterr().err
