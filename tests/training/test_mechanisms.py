"""Dynamics and reward models: they learn a known system, report honestly, and are the same for the same data."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dmemm.config import DynamicsConfig, RewardConfig
from dmemm.data.raw import RawData, write_raw
from dmemm.data.segments import fit_normalisers
from dmemm.diffusion.outcome import Familiarity
from dmemm.errors import UserError
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, load_mechanism
from dmemm.tasks import get_task
from dmemm.training import mechanisms
from dmemm.training.mechanisms import fit_dynamics, fit_reward, train_dynamics, train_reward

TASK = get_task("hopper-medium")
NOISE = 0.05


def linear_system(count=6000):
    rng = np.random.default_rng(0)
    s, a = rng.normal(size=(count, 3)), rng.uniform(-1, 1, (count, 2))
    s_next = s + 0.1 * s @ rng.normal(size=(3, 3)) + 0.3 * a @ rng.normal(size=(2, 3))
    s_next[:, 0] += NOISE * rng.normal(size=count)
    s, a, s_next = (x.astype(np.float32) for x in (s, a, s_next))
    ends = np.arange(count) % 100 == 99
    rewards = (s[:, 0] - a[:, 1] ** 2).astype(np.float32)
    return RawData(s, a, rewards, np.zeros(count, dtype=bool), ends, s_next, "local", TASK.name)


def files(folder, name):
    """What a training reads, and what it writes."""
    return [folder / "raw.hdf5", *(folder / f"{name}.{kind}" for kind in ("safetensors", "json", "csv"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mechanisms")
    raw = linear_system()
    write_raw(folder / "raw.hdf5", [raw])
    train_dynamics(TASK, DynamicsConfig(3, 32, 30), 0, *files(folder, "dynamics"))
    train_reward(TASK, RewardConfig(32, 30), 0, *files(folder, "reward"))
    return folder, raw


def test_ensemble_predicts_the_next_state_and_knows_its_noise(trained):
    folder, raw = trained
    model = load_mechanism(DynamicsEnsemble, folder / "dynamics.safetensors")
    actions, observations = fit_normalisers(raw, TASK)
    s = torch.as_tensor(observations.normalise(raw.observations))
    a = torch.as_tensor(actions.normalise(raw.actions))
    s_next = torch.as_tensor(observations.normalise(raw.next_observations))
    error = (model(s, a) - s_next).square().mean(dim=0).sqrt()
    change = (s_next - s).square().mean(dim=0).sqrt()
    assert (error[1:] < 0.1 * change[1:]).all()
    assert error[0] * observations.scale[0] == pytest.approx(NOISE, rel=0.2)
    _, log_variance = model._gaussians(s, a)
    deviation = (0.5 * log_variance).exp().mean(dim=(0, 1)) * model.target_scale
    assert deviation[0].item() * observations.scale[0] == pytest.approx(NOISE, rel=0.3)
    likely = model.log_likelihood(s[:100], a[:100], s_next[:100]).mean()
    assert likely > model.log_likelihood(s[:100], a[:100], s_next[100:200]).mean() + 10


def test_members_differ_and_each_is_reported(trained):
    folder, _ = trained
    report = json.loads((folder / "dynamics.json").read_text())
    assert len(report["held_out_loss"]) == len(report["held_out_rmse"]) == 3
    assert len(set(report["held_out_loss"])) == 3
    assert report["held_out_transitions"] == 600 and report["training_transitions"] == 5400


def test_the_held_out_loss_of_each_epoch_is_kept(trained):
    folder, _ = trained
    report = json.loads((folder / "dynamics.json").read_text())
    with (folder / "dynamics.csv").open() as file:
        rows = [(int(row["step"]), float(row["held_out_loss"])) for row in csv.DictReader(file)]
    assert [step for step, _ in rows] == [report["steps_an_epoch"] * epoch for epoch in range(1, report["epochs"] + 1)]
    losses = [loss for _, loss in rows]
    assert losses[-1] < losses[0] and min(losses) >= np.mean(report["held_out_loss"]) - 1e-5
    assert "curve" not in report


def test_reward_is_standardised(trained):
    folder, raw = trained
    model = load_mechanism(RewardModel, folder / "reward.safetensors")
    actions, observations = fit_normalisers(raw, TASK)
    predicted = model(
        torch.as_tensor(observations.normalise(raw.observations)), torch.as_tensor(actions.normalise(raw.actions))
    )
    expected = (raw.rewards - raw.rewards.mean()) / raw.rewards.std()
    assert np.abs(predicted.numpy() - expected).mean() < 0.1


def test_same_data_give_the_same_bytes_and_another_kind_is_refused(trained):
    folder, _ = trained
    train_reward(TASK, RewardConfig(32, 30), 0, *files(folder, "again"))
    assert (folder / "again.safetensors").read_bytes() == (folder / "reward.safetensors").read_bytes()
    train_reward(TASK, RewardConfig(32, 30), 1, *files(folder, "again"))
    assert (folder / "again.safetensors").read_bytes() != (folder / "reward.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds RewardModel, but DynamicsEnsemble was expected"):
        load_mechanism(DynamicsEnsemble, folder / "reward.safetensors")
    (folder / "again.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="cannot read weights"):
        load_mechanism(RewardModel, folder / "again.safetensors")


def test_the_mean_is_learned_as_by_least_squares_whatever_the_variance():
    torch.manual_seed(0)
    model = DynamicsEnsemble(3, 2, 4, 16).double()
    s, a, target = (torch.randn(4, 7, n, dtype=torch.float64) for n in (3, 2, 3))
    target.requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(s, a, target).sum(), target)
    mean, log_variance = model._gaussians(s, a)
    torch.testing.assert_close(gradient, (target - mean) / (7 * 3))
    # The best epoch is chosen by the likelihood itself.
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = -(normal.log_prob(target) + 0.5 * np.log(2 * np.pi)).mean(dim=(1, 2))
    torch.testing.assert_close(model.held_out_loss(s, a, target), expected)


def test_the_ensemble_learns_only_from_transitions_whose_next_state_is_known():
    raw = linear_system(1000)
    terminals = raw.timeouts & (np.arange(1000) < 500)
    following = np.where(terminals[:, None], raw.observations, raw.next_observations)
    raw = replace(raw, terminals=terminals, timeouts=raw.timeouts & ~terminals, next_observations=following)
    _, figures = fit_dynamics(TASK, raw, DynamicsConfig(2, 8, 1), 0)
    assert figures["training_transitions"] + figures["held_out_transitions"] == 995
    _, figures = fit_reward(TASK, raw, RewardConfig(8, 1), 0)
    assert figures["training_transitions"] + figures["held_out_transitions"] == 1000


def test_with_a_goal_the_ensemble_keeps_the_places_of_its_data(tmp_path, monkeypatch):
    task, raw = replace(TASK, goal_dim=2), linear_system(500)
    write_raw(tmp_path / "raw.hdf5", [raw])
    monkeypatch.setattr(mechanisms, "_VISITED", 200)
    train_dynamics(task, DynamicsConfig(2, 8, 1), 0, *files(tmp_path, "dynamics"))
    model = load_mechanism(DynamicsEnsemble, tmp_path / "dynamics.safetensors")
    places = fit_normalisers(raw, task)[1].normalise(raw.observations)[::3, :2]
    np.testing.assert_array_equal(model.visited, places)
    asked = torch.as_tensor(places[[7, 40]] + 1e-4)
    np.testing.assert_array_equal(Familiarity(model.visited).nearest(asked[:, None]), places[[7, 40]][:, None])
    model.remember(asked[:1])
    np.testing.assert_array_equal(Familiarity(model.visited).nearest(asked), asked[[0, 0]])


def test_without_a_goal_the_ensemble_keeps_no_places(trained):
    assert load_mechanism(DynamicsEnsemble, trained[0] / "dynamics.safetensors").visited.numel() == 0
