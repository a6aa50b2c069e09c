"""The benchmarks that no other test runs: that they run, and what they conclude from times and scores."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_for_gpus_measures_everything_on_a_cpu_too():
    command = [sys.executable, str(FOLDER / "gpu.py"), "--tiny"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    rows = {
        cells[0]: [float(number) for cell in cells[1:] for number in re.findall(r"-?[\d.]+", cell)]
        for line in run.stdout.splitlines()
        if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("| ").split(" | ")])
    }
    for network in ("MLP, 256 windows", "U-Net, 8 windows"):
        for kind in ("plain", "modulated"):
            assert rows[f"{network}, {kind}"][-1] > 0
    milliseconds, rate = rows["20 environments, 2 candidates"]
    assert rate == pytest.approx(20_000 / milliseconds, rel=0.01)
    for label in ("Diffuser", "DMEMM"):
        steps, _, step, _, score, _ = rows[label]
        assert (steps, step > 0, -1 < score < 60) == (20, True, True)


def test_a_level_is_reached_once_no_later_score_is_below_it(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    from time_to_score import PEER, TASK, best_score, print_times

    best = best_score(TASK)

    def row(side, steps, minutes, share):
        scores = None if share is None else [best * share] * 3
        return {"side": side, "steps": steps, "cpu": 60 * minutes, "wall": 120 * minutes, "scores": scores, "path": ""}

    rows = [
        row("DMEMM", 250, 0.5, 0.99), row("DMEMM", 500, 1, 0.85),
        row("DMEMM", 1000, 1.5, 0.95), row("DMEMM", 1500, 2, 2.0),
        row("Diffuser, this project's", 500, 1, 0.91), row("Diffuser, this project's", 1000, 2, 0.92),
        row(PEER, 1000, 15, None), row(PEER, 2000, 30, 0.8),
    ]  # fmt: skip
    print_times(rows)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[3][1:] == ["1.5 (3.0)", "1.0 (2.0)", "> 30.0 (60.0)", "> 20"]
    assert lines[4][1:] == ["2.0 (4.0)", "> 2.0 (4.0)", "> 30.0 (60.0)", "> 15"]
    assert lines[-2][1:] == ["1000", "15.0", "-"]
