"""The table of plans' errors against sums by hand."""

import csv
import json
import statistics

import pytest

from dmemm.errors import UserError
from dmemm.reporting.plan_errors import write_consistency

ERRORS = ("model_error", "model_error_median", "simulator_error", "simulator_error_median")


def record(variant, seed, error, **changes):
    measured = {name: error for name in ERRORS} | {"open_loop_error": [error, 2 * error, 9 * error], "outside": 0.25}
    return {
        "task": "maze2d-umaze", "variant": variant, "seed": seed, "data_source": "local", "diffusion_loss": 0.5,
        "spread": 0.9, "diversity": 0.1, "data": {**measured, **{name: 0.001 for name in ERRORS}},
    } | measured | changes  # fmt: skip


def written(tmp_path, records):
    paths = []
    for number, content in enumerate(records):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(content))
    write_consistency(paths, [tmp_path / f"c.{kind}" for kind in ("csv", "md", "png", "pdf")])
    with (tmp_path / "c.csv").open() as file:
        return {(row["task"], row["variant"]): row for row in csv.DictReader(file)}


def test_rows_are_means_over_seeds_beside_the_datas_own(tmp_path):
    rows = written(
        tmp_path, [record(v, s, e * (s + 1)) for v, e in (("diffuser", 0.2), ("dmemm", 0.1)) for s in (0, 1)]
    )
    assert [variant for _, variant in rows] == ["data", "diffuser", "dmemm"]
    row = rows["maze2d-umaze", "dmemm"]
    assert float(row["simulator_error"]) == pytest.approx(0.15) and float(row["open_loop_error"]) == pytest.approx(1.35)
    error = statistics.stdev([0.1, 0.2]) / 2**0.5
    assert float(row["model_error_standard_error"]) == pytest.approx(error, rel=1e-2)
    assert float(rows["maze2d-umaze", "data"]["simulator_error"]) == 0.001
    text = (tmp_path / "c.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    assert "Data source: local" in text
    assert ["dmemm", "0.5 ± 0", *4 * ["0.15 ± 0.05"], "1.35 ± 0.5", "0.9 ± 0"] in [row[1:9] for row in cells]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_not_measured_is_empty(tmp_path):
    unknown = {"simulator_error": None, "simulator_error_median": None, "open_loop_error": None, "outside": None}
    rows = written(tmp_path, [record("dmemm", s, 0.1, **unknown) for s in (0, 1)])
    row = rows["maze2d-umaze", "dmemm"]
    assert row["simulator_error"] == row["open_loop_error"] == row["outside"] == "" and float(row["model_error"]) == 0.1


def test_seeds_must_be_the_same(tmp_path):
    with pytest.raises(UserError, match=r"maze2d-umaze: dmemm has seeds \[1\], but diffuser has others"):
        written(tmp_path, [record("diffuser", 0, 0.1), record("dmemm", 1, 0.1)])
    assert not (tmp_path / "c.csv").exists()
