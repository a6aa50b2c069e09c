"""The study's table against sums by hand, and files that do not belong together."""

import csv
import json
import statistics

import pytest

from dmemm.errors import UserError
from dmemm.reporting.study import write_study

SETTINGS = ["sample-plain", "sample-tweedie-uniform-0.1", "epsilon-paper-snr-1"]


@pytest.fixture
def files(tmp_path, write_score):
    scores, consistency = [], []
    for setting in SETTINGS:
        for seed in (0, 1, 2):
            scores.append(write_score("maze2d-umaze", setting, seed, [10.0 * seed, 20.0]))
            number = 0.1 * (seed + 1) * (1 + SETTINGS.index(setting))
            names = ("diffusion_loss", "model_error", "model_error_median", "simulator_error", "simulator_error_median")
            record = {name: number for name in (*names, "spread", "diversity")}
            record |= {"task": "maze2d-umaze", "variant": setting, "seed": seed, "open_loop_error": [0.0, 7 * number]}
            record |= {"data_source": "local", "data": {}}
            path = tmp_path / f"{setting}{seed}.json"
            path.write_text(json.dumps(record))
            consistency.append(path)
    return scores, consistency


def outputs(folder):
    return [folder / f"e.{kind}" for kind in ("csv", "md", "png")]


def test_rows_are_means_over_seeds(files, tmp_path):
    write_study(*files, outputs(tmp_path))
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == SETTINGS
    assert [(row["predict"], row["denoise"], row["modulation_weight"], row["lambda_tr"]) for row in rows] == [
        ("sample", "", "", "0"), ("sample", "tweedie", "uniform", "0.1"), ("epsilon", "paper", "snr", "1"),
    ]  # fmt: skip
    last = rows[2]
    assert float(last["model_error"]) == pytest.approx(0.6)
    assert float(last["open_loop_error"]) == pytest.approx(4.2)
    assert float(last["score"]) == pytest.approx(15.0)
    assert float(last["score_standard_error"]) == pytest.approx(statistics.stdev([10, 15, 20]) / 3**0.5, rel=1e-2)
    markdown = (tmp_path / "e.md").read_text()
    assert "Data source: local. 3 seeds × 2 episodes" in markdown and "0.6 ± 0.2" in markdown
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_measurement_leaves_nothing_written(files, tmp_path):
    scores, consistency = files
    with pytest.raises(UserError, match="no consistency of epsilon-paper-snr-1, seed 2"):
        write_study(scores, consistency[:-1], outputs(tmp_path))
    assert not any(path.exists() for path in outputs(tmp_path))
