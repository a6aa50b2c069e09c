"""Diffuser's guide: it learns a known value of a plan, and what it is trained on is what it is asked about."""

import json

import numpy as np
import pytest
import torch

from dmemm.config import PlanValueConfig, SegmentConfig, ValueConfig
from dmemm.data.raw import RawData, write_raw
from dmemm.data.segments import make_segments, segment
from dmemm.errors import UserError
from dmemm.models.plan_value import PlanValue
from dmemm.tasks import Task, get_task
from dmemm.training.mechanisms import train_value
from dmemm.training.plan_value import fit_plan_value, train_plan_value

TASK = Task("walk", "Walk-v0", 20, 0.0, 1.0, {})


def raw_data(count=2000, length=20):
    rng = np.random.default_rng(0)
    s = rng.normal(size=(count + 1, 2)).astype(np.float32)
    a = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    ends = np.arange(count) % length == length - 1
    return RawData(s[:-1], a, s[:-1, 0] + a[:, 0], np.zeros(count, bool), ends, s[1:], "own", "walk")


def test_a_known_function_of_a_plan_is_learned_at_all_levels_of_noise():
    raw = raw_data()
    segments = make_segments(raw, TASK, 4, 0.1, held_out=0.1)
    last = np.minimum(segments.starts + 3, segments.starts + segments.lengths - 1)
    returns = torch.as_tensor(raw.observations[segments.starts, 0] * 3 - raw.observations[last, 1])
    model, rows = fit_plan_value(TASK, raw, segments, returns, PlanValueConfig(0.9, 0.0, 10, 1000), 0)
    assert rows[-1][0] == 1000 and len(rows) == 20
    clean, noisy = rows[-1][1:]
    # The first state is given at every level; of the last one's share, a tenth of the variance, noise hides a part.
    assert clean < 0.02 and clean < noisy < 0.1
    index = torch.arange(0, 1900, 100)
    tau = np.concatenate([raw.actions, raw.observations], axis=1)[index[:, None] + torch.arange(4)]
    tau = torch.as_tensor(segments.normaliser.normalise(tau))
    found = model(tau, torch.zeros(len(index))) * model.target_scale + model.target_mean
    torch.testing.assert_close(found, returns[index], atol=1.0, rtol=0)


def test_the_stage_is_the_same_again_and_its_file_is_whole(tmp_path):
    write_raw(tmp_path / "raw.hdf5", [raw_data(400)])
    segment(TASK, SegmentConfig(4, 0.1, 0.1), tmp_path / "raw.hdf5", tmp_path / "w.h5")
    value = [tmp_path / name for name in ("value.safetensors", "value.json", "value.csv")]
    train_value(TASK, ValueConfig(2, 8, 2, 0.9, -1.0), 0, tmp_path / "raw.hdf5", *value)

    def run(name, task=TASK, seed=0):
        files = {"output": tmp_path / f"{name}.safetensors", "report": tmp_path / f"{name}.json"}
        train_plan_value(
            task, PlanValueConfig(0.9, -1.0, 5, 10), seed,
            raw_path=tmp_path / "raw.hdf5", segments_path=tmp_path / "w.h5", value_path=value[0],
            curve=tmp_path / f"{name}.csv", **files,
        )  # fmt: skip
        return files["output"]

    assert run("first").read_bytes() == run("again").read_bytes()
    assert run("other", seed=1).read_bytes() != run("first").read_bytes()
    model = PlanValue.load(tmp_path / "first.safetensors", torch.device("cpu"))
    assert model(torch.zeros(7, 4, 3), torch.zeros(7)).shape == (7,)
    report = json.loads((tmp_path / "first.json").read_text())
    assert report["steps"] == 10 and report["held_out_rmse_clean"] > 0
    with pytest.raises(UserError, match="holds ValueModel, but PlanValue was expected"):
        PlanValue.load(value[0], torch.device("cpu"))
    with pytest.raises(UserError, match="maze2d-umaze: has a goal"):
        run("none", get_task("maze2d-umaze"))
