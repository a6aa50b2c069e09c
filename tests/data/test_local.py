"""Locomotion data: the committed policies, the levels, and downloading."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dmemm.config import DownloadConfig
from dmemm.data.download import download
from dmemm.data.local import LOCOMOTION_NOISE, collect, load_policies, policies_of_level
from dmemm.data.raw import ARRAYS, episode_slices, read_raw
from dmemm.data.search import SETTINGS, make_robot, rollout, search
from dmemm.tasks import get_task

BODIES = {"hopper": (11, 3), "halfcheetah": (17, 6), "walker2d": (17, 6)}


@pytest.mark.parametrize("body", BODIES)
def test_policies_improve_and_fit_their_body(body: str) -> None:
    policies = load_policies(body)
    states, actions = BODIES[body]
    assert 8 <= len(policies) <= 14
    for policy in policies:
        assert policy["weights"].shape == (actions, states) and policy["bias"].shape == (actions,)
    returns = [policy["return_mean"] for policy in policies]
    assert np.argmax(returns) == len(returns) - 1
    (medium,) = policies_of_level(body, "medium")
    assert 0.35 < medium["return_mean"] / returns[-1] < 0.65
    assert [len(policies_of_level(body, level)) for level in ("expert", "medium-expert")] == [1, 2]


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
    count = len(load_policies("halfcheetah"))
    lengths = np.diff(episode_slices(raw.ended)).ravel()
    assert len(lengths) == count and lengths.max() - lengths.min() <= 1


def config(**changes: Any) -> DownloadConfig:
    return DownloadConfig(**{"data_source": "local", "d4rl_mirrors": (), "local_steps": 600, "data_seed": 0} | changes)


@pytest.mark.parametrize("task_name", ["hopper-medium", "maze2d-umaze"])
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


@pytest.mark.parametrize(("body", "bound"), [("hopper", 2200), ("halfcheetah", 2000), ("walker2d", 1400)])
def test_experts_survive_the_noise_of_their_data(body: str, bound: float) -> None:
    """The best policies hold in fresh episodes (the bounds are well under what the search measured)."""
    (expert,) = policies_of_level(body, "expert")
    env = make_robot(SETTINGS[body].env_id)
    returns = [
        rollout(env, expert["weights"], expert["bias"], LOCOMOTION_NOISE, seed=50 + episode)[0] for episode in range(8)
    ]
    assert np.mean(returns) > bound


@pytest.mark.long
def test_a_search_improves_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmemm.data.search.EPISODE_STEPS", 100)
    # A clock that goes on by a tenth of a second an update: the same search on a slow machine and a fast one.
    ticks = itertools.count()
    monkeypatch.setattr("dmemm.data.search.time", SimpleNamespace(monotonic=lambda: 0.1 * next(ticks)))
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    search(SETTINGS["hopper"], 0, 3.5, 0.05, first)
    iterates = json.loads(first.read_text())
    assert iterates[-1]["return_mean"] > 1.3 * iterates[0]["return_mean"]
    search(SETTINGS["hopper"], 1, 0.15, 0.05, second, first.with_suffix(".all.json"))
    # It goes on from the same policy, although observations are now normalised by other numbers.
    best = max(json.loads(first.with_suffix(".all.json").read_text()), key=lambda item: float(item["return_mean"]))
    resumed = json.loads(second.with_suffix(".all.json").read_text())[-1]
    assert resumed["update"] == best["update"] > 0
    np.testing.assert_allclose(resumed["weights"], best["weights"], atol=2e-4)
    np.testing.assert_allclose(resumed["bias"], best["bias"], atol=2e-4)
