"""Artifacts say which raw data they were made from, and what does not belong together is refused by name."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dmemm.config import (
    DynamicsConfig,
    EpisodesConfig,
    MethodConfig,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    ValueConfig,
)
from dmemm.data.raw import ARRAYS, RawData, read_raw, write_raw
from dmemm.data.segments import read_segments, segment
from dmemm.errors import UserError
from dmemm.evaluation.consistency import consistency
from dmemm.inputs import Inputs
from dmemm.methods import METHODS, base, load_actor
from dmemm.methods.levels import PLANNING, TRAINING
from dmemm.planning.planner import load_planner
from dmemm.tasks import Task
from dmemm.training.mechanisms import train_dynamics, train_reward, train_value
from dmemm.training.plan_value import train_plan_value
from dmemm.training.train import train

TASK = Task("walk", "Walk-v0", 10, 0.0, 1.0, {})
TRAIN = replace(
    TRAINING, lambda_tr=0.1, lambda_rd=0.1, reward_loss=True, weighting=True, diffusion_steps=3, network="mlp",
    mlp_width=8, mlp_blocks=1, train_steps=2, batch_size=4, ema_decay=0.9,
)  # fmt: skip
PLAN = replace(
    PLANNING, discount=0.9, termination_penalty=0.0, veto=1.0, alpha=0.1, lambda_guide=0.1, candidates=2, t_stopgrad=0
)


def raw_data(seed: int, count: int = 400) -> RawData:
    rng = np.random.default_rng(seed)
    s, a = rng.normal(size=(count, 2)).astype(np.float32), rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    ends = np.arange(count) % 10 == 9
    return RawData(s, a, s[:, 0].copy(), np.zeros(count, bool), ends, s + a, "own", "walk")


class Files:
    """Everything made from one raw data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> Path:
        suffix = {"raw": "hdf5", "segments": "h5"}.get(name, "safetensors")
        return self.folder / f"{name}.{suffix}"


def make(folder: Path, seed: int) -> Files:
    files = Files(folder)
    write_raw(files.raw, [raw_data(seed)])
    segment(TASK, SegmentConfig(4, 0.1, 0.2), files.raw, files.segments)
    rest = folder / "report.json", folder / "curve.csv"
    train_dynamics(TASK, DynamicsConfig(2, 8, 1), 0, files.raw, files.dynamics, *rest)
    train_reward(TASK, RewardConfig(8, 1), 0, files.raw, files.reward, *rest)
    train_value(TASK, ValueConfig(2, 8, 1, 0.9, 0.0), 0, files.raw, files.value, *rest)
    train_values_of_plans(files)
    train_network(files)
    base.train(
        METHODS["mppi"], TASK, MethodConfig(1), 0, Inputs(raw=files.raw),
        output=files.mppi, report=rest[0], curve=rest[1],
    )  # fmt: skip
    return files


def train_values_of_plans(files: Files, **other: Path) -> None:
    paths = {"raw_path": files.raw, "segments_path": files.segments, "value_path": files.value} | other
    outputs = {"report": files.folder / "report.json", "curve": files.folder / "curve.csv"}
    train_plan_value(TASK, PlanValueConfig(0.9, 0.0, 3, 2), 0, **paths, output=files.plan_value, **outputs)


def train_network(files: Files, **other: Path) -> None:
    paths = {name: getattr(files, name) for name in ("raw", "segments", "dynamics", "reward")} | other
    outputs = {"report": files.folder / "report.json", "curve": files.folder / "curve.csv"}
    train(METHODS["dmemm"], TASK, TRAIN, 0, Inputs(**paths), output=files.network, **outputs)


def plan(files: Files, objective: Any = "value", **other: Path) -> None:
    names = ("reward", "dynamics", "value", "plan_value")
    paths = {"model": files.network} | {name: getattr(files, name) for name in names} | other
    load_planner(TASK, replace(PLAN, objective=objective), 0, Inputs(**paths))


def compare_plans(files: Files, **other: Path) -> None:
    names = ("dynamics", "reward", "value", "plan_value", "raw", "segments")
    paths = {"model": files.network} | {name: getattr(files, name) for name in names} | other
    consistency(METHODS["dmemm"], TASK, PLAN, 0, Inputs(**paths), output=files.folder / "c.json")


def compare_a_methods_plans(files: Files, **other: Path) -> None:
    paths = {"model": files.mppi} | {name: getattr(files, name) for name in ("dynamics", "raw", "segments")} | other
    consistency(METHODS["mppi"], TASK, EpisodesConfig(1), 0, Inputs(**paths), output=files.folder / "c.json")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    """Files of two data sets of the same length."""
    ours, theirs = (make(tmp_path_factory.mktemp(name), seed) for seed, name in enumerate(("ours", "theirs")))
    return ours, theirs


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["dmemm"]))


def test_every_artifact_names_its_task_and_its_data(both: tuple[Files, Files]) -> None:
    for files in both:
        digest = read_raw(files.raw).digest
        assert read_segments(files.segments).data == digest
        for name in ("dynamics", "reward", "value", "plan_value", "network", "mppi"):
            found = header(getattr(files, name))
            assert (found["task"], found["data"]) == ("walk", digest), name
    assert header(both[0].network)["data"] != header(both[1].network)["data"]


def test_the_digest_is_of_the_arrays_and_of_nothing_else(tmp_path: Path) -> None:
    raw = raw_data(0)
    parts = [
        replace(raw, **{key: getattr(raw, key)[start : start + 70] for key in ARRAYS}) for start in range(0, 400, 70)
    ]
    write_raw(tmp_path / "raw.hdf5", parts)
    assert (
        read_raw(tmp_path / "raw.hdf5").digest == replace(raw, task="other", data_source="local").digest == raw.digest
    )
    for key in ARRAYS:
        changed = getattr(raw, key).copy()
        changed[7] = ~changed[7] if changed.dtype == bool else changed[7] + 1
        assert replace(raw, **{key: changed}).digest != raw.digest


@pytest.mark.parametrize(
    ("run", "name", "other"),
    [
        *((train_network, name, "raw") for name in ("segments", "dynamics", "reward")),
        *((train_values_of_plans, name, "raw") for name in ("segments_path", "value_path")),
        *((plan, name, "network") for name in ("dynamics", "reward", "value")),
        *((compare_plans, name, "raw") for name in ("segments",)),
        *((compare_plans, name, "network") for name in ("dynamics", "reward", "value")),
        *((compare_a_methods_plans, name, "raw") for name in ("segments", "dynamics", "model")),
    ],
)
def test_what_was_made_from_other_data_is_refused_by_name(
    run: Any, name: str, other: str, both: tuple[Files, Files]
) -> None:
    ours, theirs = both
    run(ours)
    kind = "mppi" if name == "model" else name.removesuffix("_path")
    wrong, right = getattr(theirs, kind), getattr(ours, other)
    with pytest.raises(
        UserError, match=f"^{re.escape(str(wrong))}: of other raw data than {re.escape(str(right))}; run"
    ):
        run(ours, **{name: wrong})


def test_values_of_other_datas_plans_and_networks_of_other_data_are_refused(both: tuple[Files, Files]) -> None:
    ours, theirs = both
    plan(ours, "plan_value")
    with pytest.raises(UserError, match=re.escape(f"{theirs.plan_value}: of other raw data than {ours.network};")):
        plan(ours, "plan_value", plan_value=theirs.plan_value)
    with pytest.raises(UserError, match=re.escape(f"{theirs.network}: of other raw data than {ours.raw};")):
        compare_plans(theirs, raw=ours.raw, segments=ours.segments)


def test_what_an_earlier_version_made_is_refused(both: tuple[Files, Files], tmp_path: Path) -> None:
    ours, _ = both

    def aged(name: str) -> Path:
        path = getattr(ours, name)
        old = {key: value for key, value in header(path).items() if key != "data"}
        save_file(load_file(path), tmp_path / path.name, {"dmemm": json.dumps(old)})
        return tmp_path / path.name

    def refused(path: Path) -> Any:
        return pytest.raises(UserError, match=f"^{re.escape(str(path))}: made by an earlier version; delete it and run")

    with refused(path := aged("network")):
        plan(ours, model=path)
    for name in ("dynamics", "reward", "value"):
        with refused(path := aged(name)):
            plan(ours, **{name: path})
    with refused(path := aged("plan_value")):
        plan(ours, "plan_value", plan_value=path)
    with refused(path := aged("mppi")):
        load_actor(METHODS["mppi"], TASK, EpisodesConfig(1), 0, Inputs(model=path))
    (tmp_path / "segments.h5").write_bytes(ours.segments.read_bytes())
    with h5py.File(tmp_path / "segments.h5", "r+") as file:
        del file.attrs["data"]
    with refused(tmp_path / "segments.h5"):
        train_network(ours, segments=tmp_path / "segments.h5")
