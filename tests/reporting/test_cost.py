"""What trainings took, beside their scores."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dmemm.errors import UserError
from dmemm.reporting.cost import write_training

TASK = "hopper-medium"


def record(folder: Path, variant: str, seed: int, **changes: Any) -> Path:
    path = folder / f"{variant}{seed}.json"
    values = {"task": TASK, "variant": variant, "seed": seed, "steps": 8000, "parameters": 250, "seconds": 90.0}
    path.write_text(json.dumps(values | changes))
    return path


def test_minutes_are_means_over_seeds_and_stand_beside_the_score(tmp_path: Path, write_score: Any) -> None:
    scores = [write_score(TASK, v, seed, [10.0, 20.0 + seed]) for v in ("mppi", "dmemm") for seed in (0, 1)]
    records = [record(tmp_path, "dmemm", 0), record(tmp_path, "dmemm", 1, seconds=150.0)]
    records += [record(tmp_path, "mppi", seed, steps=None, seconds=6) for seed in (0, 1)]
    outputs = tmp_path / "t.csv", tmp_path / "t.md"
    write_training(records, scores, outputs)
    mppi, dmemm = csv.DictReader(outputs[0].open(newline=""))
    assert dmemm == {
        "task": TASK, "method": "dmemm", "seeds": "2", "steps": "8000", "parameters": "250", "minutes": "2.000",
        "score": "15.250",
    }  # fmt: skip
    assert (mppi["steps"], mppi["minutes"]) == ("", "0.100")
    text = outputs[1].read_text()
    assert (
        "| DMEMM  |           8000 |        250 |     2.0 |  15.2 |" in text and "| MPPI   |              – |" in text
    )


def test_missing_seeds_and_broken_records_are_named(tmp_path: Path, write_score: Any) -> None:
    scores = [write_score(TASK, "dmemm", seed, [1.0]) for seed in (0, 1)]
    with pytest.raises(UserError, match=f"{TASK}: dmemm: reports and scores have different seeds"):
        write_training([record(tmp_path, "dmemm", 0)], scores, [tmp_path / "t.csv"])
    broken = record(tmp_path, "dmemm", 1, seconds="long")
    with pytest.raises(
        UserError, match=r"dmemm1.json: seconds: 'long' is not of type 'number'; delete it and run train again"
    ):
        write_training([record(tmp_path, "dmemm", 0), broken], scores, [tmp_path / "t.csv"])
