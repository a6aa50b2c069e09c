"""d3rlpy's methods: trained in their own environment by the command line, and acting here."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmemm.config import EpisodesConfig, MethodConfig
from dmemm.data.raw import RawData, write_raw
from dmemm.errors import UserError
from dmemm.inputs import Inputs
from dmemm.methods import METHODS, POLICIES, bc, dt, load_actor, offline
from dmemm.methods.offline import relabelled
from dmemm.stages import METHODS_ENVIRONMENT
from dmemm.tasks import Task, get_task
from tests.checkout import ROOT

BY_D3RLPY = [name for name in POLICIES if METHODS[name].by_d3rlpy]
HOPPER = get_task("hopper-medium-expert")
STEPS = {"iql": 400, "td3bc": 600, "bc": 200}  # of methods that are to learn something


def data(task: Task, steps=600, length=50) -> RawData:
    """Half of the episodes act with 0.7 and earn 10 a step, the other half with -0.7 and earn nothing."""
    rng = np.random.default_rng(0)
    ds, da = (4, 2) if task.is_maze else (11, 3)
    good = np.repeat(np.arange(steps // length) % 2, length)
    s = rng.normal(size=(steps, ds)).astype(np.float32)
    a = (np.where(good, 0.7, -0.7)[:, None] + rng.normal(size=(steps, da)) * 0.1).clip(-1, 1).astype(np.float32)
    ended = np.arange(steps) % length == length - 1
    timeouts = ended & (good == 0)
    return RawData(s, a, 10 * good.astype(np.float32), ended & ~timeouts, timeouts, s, "local", task.name)


def words(folder: Path, method: str, seed: int = 0) -> list[str]:
    """The command line of a training, whose data it writes; those of seed 2 have no end of an episode."""
    task = get_task("maze2d-umaze") if method == "dt" else HOPPER
    raw, transitions = folder / f"{task.name}{seed}.hdf5", data(task)
    if seed == 2:
        endless = np.zeros_like(transitions.terminals)
        transitions = dataclasses.replace(transitions, terminals=endless, timeouts=endless)
    write_raw(raw, [transitions])
    stem = folder / f"{method}{seed}"
    files = ["--raw", raw, "--output", f"{stem}.safetensors", "--report", f"{stem}.json", "--curve", f"{stem}.csv"]
    steps = f"method_steps={STEPS.get(method, 2)}"
    return ["train", task.name, method, str(seed), *map(str, files), "--set", steps]


def load(task: Task, method: str, seed: int, path: Path) -> Any:
    return load_actor(METHODS[method], task, EpisodesConfig(1), seed, Inputs(model=path))


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method, trained in one process of their environment: the library takes seconds to start."""
    folder = tmp_path_factory.mktemp("trained")
    trainings = [words(folder, method) for method in BY_D3RLPY] + [words(folder, "bcq", seed=1)]
    trainings += [words(folder, method, seed=2) for method in ("bcq", "dt")]
    code = f"import sys, dmemm.cli; sys.exit(any(map(dmemm.cli.main, {trainings})))"
    run([str(ROOT / METHODS_ENVIRONMENT / "bin/python"), "-c", code])
    return folder


def test_training_is_on_the_device_that_was_chosen(monkeypatch):
    class Created(Exception):
        pass

    class Algorithm:
        def create(self, device):
            raise Created(device)

    monkeypatch.setattr(offline, "library", lambda seed: None)
    second = torch.device("cuda:1")
    with pytest.raises(Created, match="cuda:1"):
        offline.fit(lambda *_: Algorithm(), None, offline.Policy, HOPPER, data(HOPPER), MethodConfig(1), 0, second)


@pytest.mark.parametrize("method", BY_D3RLPY)
def test_each_method_is_trained_loaded_and_seeded(method, folder):
    task = get_task("maze2d-umaze") if method == "dt" else HOPPER
    path = folder / f"{method}0.safetensors"
    s = data(task).observations
    goals = s[5:10, :2] if task.has_goal else None

    def actions(seed: int, first: int = 0) -> np.ndarray:
        policy = load(task, method, seed, path)
        policy.reset()
        return np.stack([policy.act(s[first : first + 5], goals) for _ in range(3)])

    given = actions(0)
    assert np.isfinite(given).all() and given.std() > 0
    a = data(task).actions
    assert (given >= a.min(axis=0) - 1e-4).all() and (given <= a.max(axis=0) + 1e-4).all()
    np.testing.assert_array_equal(given, actions(0))
    assert (given != actions(0, first=20)).any()


def test_imitation_writes_its_losses_and_actor_critics_a_header(folder):
    header, *rows = (folder / "bc0.csv").read_text().splitlines()
    assert header == "step,total,wdiff,tr,rd" and [int(row.split(",")[0]) for row in rows] == list(
        range(2, STEPS["bc"] + 1, 2)
    )
    losses = [float(row.split(",")[1]) for row in rows]
    assert 0 < np.mean(losses[-20:]) < 0.5 * np.mean(losses[:5])
    assert [line.split(",")[0] for line in (folder / "dt0.csv").read_text().splitlines()] == ["step", "1", "2"]
    for method in BY_D3RLPY:
        if method not in ("bc", "dt"):
            assert (folder / f"{method}0.csv").read_text().splitlines() == ["step,total,wdiff,tr,rd"]


def test_the_same_seed_gives_the_same_policy_and_another_does_not(folder, tmp_path):
    run([sys.executable, "-m", "dmemm", *words(tmp_path, "bcq")])
    policies = [folder / "bcq0.safetensors", tmp_path / "bcq0.safetensors", folder / "bcq1.safetensors"]
    one, again, other = (path.read_bytes() for path in policies)
    assert one == again != other


def test_the_constraint_of_bear_bends_its_policy_and_its_imitator_gives_the_datas_actions(tmp_path):
    code = """
import numpy as np, torch, d3rlpy
from dmemm.methods.bear import _algorithm
from dmemm.tasks import get_task
rng = np.random.default_rng(0)
s, ended = rng.normal(size=(400, 11)).astype(np.float32), np.arange(400) % 40 == 39
a = np.full((400, 3), 0.9, np.float32)
data = d3rlpy.dataset.MDPDataset(s, a, np.zeros(400, np.float32), ended * 0.0, timeouts=ended)
trained = _algorithm(get_task("hopper-medium-expert"), 300, None).create("cpu:0")
quiet = d3rlpy.logging.NoopAdapterFactory()
trained.fit(data, n_steps=150, n_steps_per_epoch=150, show_progress=False, logger_adapter=quiet)
impl = trained.impl
x = torch.as_tensor(s[:64])
print(float(impl.modules.vae_decoder(x, torch.zeros(64, 6), with_squash=True).mean()))
print(float(impl.modules.vae_decoder(x, torch.zeros(64, 6), with_squash=False).mean()))
impl._q_func_forwarder.compute_expected_q = lambda s, a, reduction: torch.zeros(2, len(s), 1) * a.sum()
batch = type("Batch", (), {"observations": x})
impl.modules.policy._mu.bias.data.fill_(-1.0)
impl.compute_actor_grad(batch)
print(float(impl.modules.policy._mu.bias.grad.sum()))
print(float(next(impl.modules.log_alpha.parameters())))
"""
    done = subprocess.run(
        [ROOT / METHODS_ENVIRONMENT / "bin/python", "-W", "ignore", "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    squashed, raw, slope, log_alpha = (float(line) for line in done.stdout.splitlines()[-4:])
    assert squashed == pytest.approx(0.9, abs=0.1) and raw == pytest.approx(np.arctanh(squashed), rel=0.2)
    assert slope < -1e-3  # towards the data's actions
    # Adam's first step of the multiplier, whose published rate is multiplied by 500,000 / 300.
    assert log_alpha == pytest.approx(1e-3 * 500_000 / 300, rel=0.01)


@pytest.mark.parametrize("method", ["bcq", "dt"])
def test_data_without_the_end_of_an_episode_are_one_episode(method, folder):
    task = get_task("maze2d-umaze") if method == "dt" else HOPPER
    header = load(task, method, 0, folder / f"{method}2.safetensors").header
    if method == "bcq":
        assert header["best_return"] == data(task).rewards.sum()


def test_the_last_transition_ends_an_episode_and_a_copy_towards_other_goals_is_another():
    task, scale = get_task("maze2d-umaze"), np.ones(2, np.float32)
    raw = dataclasses.replace(data(task, 60, 20), terminals=np.zeros(60, bool), timeouts=np.arange(60) == 19)
    expected = np.isin(np.arange(60), [19, 59])
    np.testing.assert_array_equal(relabelled(raw, HOPPER, scale, 3)["timeouts"], expected)
    np.testing.assert_array_equal(relabelled(raw, task, scale, 3)["timeouts"], np.tile(expected, 2))
    assert raw.timeouts.sum() == 1


@pytest.mark.parametrize("method", STEPS)
def test_values_tell_the_better_actions_and_imitation_does_not(method, folder):
    policy = load(HOPPER, method, 0, folder / f"{method}0.safetensors")
    actions = policy.act(np.random.default_rng(1).normal(size=(50, 11)).astype(np.float32))
    assert abs(actions.mean()) < 0.3 if method == "bc" else actions.mean() > 0.45, actions.mean()


def test_hindsight_relabels_as_a_loop_does():
    task, scale = get_task("maze2d-umaze"), np.ones(2, np.float32)
    raw = data(task, 60, 20)
    values = relabelled(raw, task, scale, 3)
    assert values["observations"].shape == (120, 6)
    drawn = np.random.default_rng(3).integers(60, size=3)
    for copy in range(2):
        for i in range(60):
            of = 20 * (i // 20) + 19 if copy == 0 else drawn[i // 20]
            goal = raw.next_observations[of, :2]
            row = 60 * copy + i
            np.testing.assert_array_equal(values["observations"][row], [*raw.observations[i], *goal])
            assert values["rewards"][row] == (np.linalg.norm(raw.next_observations[i, :2] - goal) <= 0.5)
            assert values["terminals"][row] == raw.terminals[i] and values["timeouts"][row] == raw.timeouts[i]
    same = relabelled(raw, HOPPER, scale, 3)
    np.testing.assert_array_equal(same["rewards"], raw.rewards)


def test_decision_transformer_sees_its_past_and_what_is_still_wanted():
    header = {"action_dim": 1, "observation_dim": 2, "graph_bytes": 1, "parameters": 1, "best_return": 9.0}
    policy = dt.Policy(dataclasses.replace(HOPPER, body=""), header)
    policy.low.fill_(-1)
    policy.high.fill_(3)
    seen = []

    def run(**inputs):
        seen.append({name: value.copy() for name, value in inputs.items()})
        return torch.full((2, 1), 2.0)

    policy.run = run
    for step in range(3):
        policy.decide(torch.full((2, 2), float(step)), None, np.ones(2, bool))
        policy.take_rewards(np.array([1.0, 0.0], np.float32))
    last = {name: value[0, -4:, 0] for name, value in seen[-1].items()}
    np.testing.assert_array_equal(last["observations"], [0, 0, 1, 2])
    np.testing.assert_array_equal(last["actions"], [0, 0.5, 0.5, 0])  # 2 lies at 0.5 between -1 and 3
    np.testing.assert_array_equal(last["returns"], [0, 9, 8, 7])
    np.testing.assert_array_equal(seen[-1]["returns"][1, -3:, 0], [9, 9, 9])
    np.testing.assert_array_equal(last["timesteps"], [0, 1, 2, 3])
    np.testing.assert_array_equal(last["mask"], [0, 1, 1, 1])
    for _ in range(30):
        policy.decide(torch.zeros(2, 2), None, np.ones(2, bool))
    assert seen[-1]["mask"].shape == (2, 20, 1) and seen[-1]["timesteps"][0, -1, 0] == 33
    policy.reset()
    policy.decide(torch.zeros(2, 2), None, np.ones(2, bool))
    assert seen[-1]["mask"].sum() == 2 and seen[-1]["returns"][0, -1, 0] == 9


def test_without_its_environment_it_says_what_to_do():
    with pytest.raises(UserError, match="run `make methods`"):
        bc.train(HOPPER, data(HOPPER), MethodConfig(1), 0, torch.device("cpu"))
