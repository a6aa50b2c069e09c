"""Locomotion data: the committed policies, the levels, and downloading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmemm.config import DownloadConfig
from dmemm.data.download import download
from dmemm.data.local import collect, load_policies, policies_of_level
from dmemm.data.raw import ARRAYS, episode_slices, read_raw
from dmemm.envs import make_env
from dmemm.tasks import get_task
from workflow.scripts import train_policies

BODIES = {"hopper": (11, 3), "halfcheetah": (17, 6), "walker2d": (17, 6)}


@pytest.mark.parametrize("body", BODIES)
def test_policies_improve_and_fit_their_body(body: str) -> None:
    table, policies = load_policies(body)
    states, actions = BODIES[body]
    assert 8 <= len(policies) <= 10
    for policy in policies:
        (first, _), _, (last, _) = policy.layers
        assert first.shape[1] == states and last.shape[0] == 2 * actions
    assert [row["level"] for row in table] == ["replay"] * (len(table) - 2) + ["medium", "expert"]
    returns = [row["return_mean"] for row in table]
    assert returns[0] < 100 and np.argmax(returns) == len(returns) - 1
    assert 0.25 < returns[-2] / returns[-1] < 0.7
    sizes = [len(policies_of_level(body, level)) for level in ("medium", "medium-expert", "medium-replay")]
    assert sizes == [1, 2, len(table) - 1]


def test_a_policy_samples_the_squashed_gaussian_of_its_network() -> None:
    policy = policies_of_level("walker2d", "medium")[0]
    network = torch.nn.Sequential()
    for weight, bias in policy.layers:
        layer = torch.nn.Linear(*reversed(weight.shape))
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        network.extend([layer, torch.nn.ReLU()])
    observation = np.linspace(-1, 1, 17, dtype=np.float32)
    with torch.no_grad():
        mean, log_std = network[:-1](torch.tensor(observation)).double().numpy().reshape(2, 6)
    rng = np.random.default_rng(0)
    actions = np.array([policy.sample(observation, rng) for _ in range(4000)])
    assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
    # The quantiles of tanh(N(mean, std)) are those of N.
    for quantile, z in ((0.1587, -1), (0.5, 0), (0.8413, 1)):
        expected = np.tanh(mean + z * np.exp(log_std))
        np.testing.assert_allclose(np.quantile(actions, quantile, axis=0), expected, atol=0.05)


@pytest.mark.parametrize("level", ["medium", "medium-replay", "medium-expert"])
def test_episodes_are_whole_and_reproducible(level: str) -> None:
    task = get_task(f"hopper-{level}")
    raw = collect(task, 2400, seed=0)
    again = collect(task, 2400, seed=0)
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(raw, key), getattr(again, key))
    assert len(raw.rewards) == 2400 and not (raw.terminals & raw.timeouts).any()
    assert not np.array_equal(raw.actions, collect(task, 2400, seed=1).actions)
    for start, end in episode_slices(raw.ended):
        assert end - start <= task.episode_steps
        np.testing.assert_array_equal(raw.observations[start + 1 : end], raw.next_observations[start : end - 1])
        # Every episode starts upright: no state is carried over from the one before.
        assert raw.observations[start, 0] == pytest.approx(1.25, abs=0.01)
    assert np.abs(raw.actions).max() <= 1 and raw.actions.std(0).min() > 0.1


def test_shares_of_a_level_are_equal() -> None:
    raw = collect(get_task("halfcheetah-medium-replay"), 1203, seed=0)
    count = len(policies_of_level("halfcheetah", "medium-replay"))
    lengths = np.diff(episode_slices(raw.ended)).ravel()
    assert len(lengths) == count and lengths.max() - lengths.min() <= 1


def config(**changes: Any) -> DownloadConfig:
    return DownloadConfig(**{"data_source": "local", "d4rl_mirrors": (), "local_steps": 600, "data_seed": 0} | changes)


@pytest.mark.parametrize("task_name", ["hopper-medium", "hopper-medium-replay", "maze2d-umaze"])
def test_download_writes_data_and_statistics(tmp_path: Path, task_name: str) -> None:
    task = get_task(task_name)
    output, numbers = tmp_path / "raw" / "data.hdf5", tmp_path / "results" / "data.json"
    download(task, config(), output, numbers)
    result = json.loads(numbers.read_text())
    assert result["transitions"] == 600 and result["data_source"] == "local" and result["warnings"] == []
    raw = read_raw(output)
    assert (raw.task, raw.data_source) == (task_name, "local")
    before = output.read_bytes()
    download(task, config(), output, numbers)
    assert output.read_bytes() == before
    download(task, config(data_seed=1), output, numbers)
    assert not np.array_equal(read_raw(output).observations, raw.observations)


def test_an_interrupted_download_leaves_the_earlier_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, numbers = tmp_path / "a.hdf5", tmp_path / "a.json"
    download(get_task("maze2d-umaze"), config(), output, numbers)
    before = output.read_bytes(), numbers.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dmemm.data.local.collect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(get_task("maze2d-umaze"), config(data_seed=1), output, numbers)
    assert (output.read_bytes(), numbers.read_bytes()) == before


@pytest.mark.parametrize(("body", "bound"), [("hopper", 2500), ("halfcheetah", 9000), ("walker2d", 3500)])
def test_experts_walk_in_fresh_episodes(body: str, bound: float) -> None:
    env, policy = make_env(get_task(f"{body}-medium")), policies_of_level(body, "expert")[0]
    rng, returns = np.random.default_rng(5), []
    for episode in range(4):
        observation, _ = env.reset(seed=50 + episode)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy.sample(observation, rng))
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    assert np.mean(returns) > bound


def test_soft_actor_critic_learns_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-step episodes that pay -10 (a - target)²: each body's action ends up at its own target."""
    for name, value in (("WIDTH", 32), ("BATCH", 64), ("LEARNING_RATE", 5e-3)):
        monkeypatch.setattr(train_policies, name, value)
    torch.manual_seed(0)
    agent = train_policies.SoftActorCritic([(2, 1), (3, 2)], 512, torch.device("cpu"))
    s, a = torch.rand(2, 512, 3) * 2 - 1, torch.rand(2, 512, 2) * 2 - 1
    a = a * agent.mask
    targets = torch.tensor([[0.5, 0.0], [-0.5, 0.3]])[:, None]
    reward = -10 * ((a - targets) * agent.mask).square().sum(dim=-1, keepdim=True)
    agent.add(torch.cat([s, a, reward, torch.ones(2, 512, 1), torch.zeros(2, 512, 3)], dim=-1).numpy())
    for _ in range(400):
        agent.step()
    with torch.no_grad():
        actions, _ = agent.sample(s)
    assert (actions.mean(dim=1) - targets[:, 0]).abs().max() < 0.15
    assert (actions[0, :, 1] == 0).all()  # the smaller body's padding
