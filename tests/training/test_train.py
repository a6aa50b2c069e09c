"""Training through the command line: it learns, is repeatable, averages its weights, and refuses what it must."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dmemm.cli import main
from dmemm.diffusion.objective import Objective
from dmemm.models.storage import load_weights
from tests.checkout import copy_tracked

SIZES = [
    "diffusion_steps={locomotion: 5, maze: 5}",
    "unet_width={locomotion: 8, maze: 8}",
    "unet_mults={locomotion: [1, 2], maze: [1, 2]}",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw data, windows and mechanisms of a small data set, in a folder with the project's params.yaml."""
    path = tmp_path_factory.mktemp("train")
    copy_tracked(path, "params.yaml", "tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        local = ["local_steps={locomotion: 3000, maze: 3000}"]
        assert main(["download", "hopper-medium", "--output", "raw.h5", "--statistics", "s.json", "--set", *local]) == 0
        assert main(["segment", "hopper-medium", "--raw", "raw.h5", "--output", "segments.h5"]) == 0
        for stage in ("dynamics", "reward"):
            files = ["--raw", "raw.h5", "--output", f"{stage}.safetensors", "--report", f"{stage}.json"]
            files += ["--curve", f"{stage}.csv"]
            assert main([stage, "hopper-medium", "0", *files, "--set", "mechanism_epochs=1", "mechanism_width=16"]) == 0
    return path


def arguments(variant, output, *overrides, seed=0, steps=20, mechanisms=True):
    files = f"--raw raw.h5 --segments segments.h5 --output {output} --curve curve.csv --report t.json".split()
    if mechanisms:
        files += ["--dynamics", "dynamics.safetensors", "--reward", "reward.safetensors"]
    steps_set = f"train_steps={{locomotion: {steps}, maze: {steps}}}"
    return ["train", "hopper-medium", variant, str(seed), *files, "--set", steps_set, *SIZES, *overrides]


def train(*names, **options):
    return main(arguments(*names, **options))


def test_loss_falls_and_the_curve_has_every_term(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert train("dmemm", "m.safetensors", "learning_rate=0.01", steps=200) == 0
    with open("curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "total", "wdiff", "tr", "rd"]
    assert len(rows) == 100 and rows[-1]["step"] == "200"
    record = json.loads(Path("t.json").read_text())
    assert (record["task"], record["variant"], record["seed"], record["steps"]) == ("hopper-medium", "dmemm", 0, 200)
    assert record["seconds"] > 0 and record["parameters"] > 1000
    wdiff = np.array([float(row["wdiff"]) for row in rows])
    assert wdiff[-10:].mean() < 0.85 * wdiff[:3].mean()  # 0.78 as measured: most of the noise cannot be told


@pytest.mark.parametrize("off", ["reward_loss={locomotion: false, maze: false}", "lambda_rd=0"])
def test_the_reward_loss_can_be_left_out(folder, monkeypatch, off):
    monkeypatch.chdir(folder)
    assert train("dmemm", "m.safetensors", off) == 0
    assert train("wo_lambda_rd", "same.safetensors") == 0
    with open("curve.csv") as file:
        assert all(row["tr"] and not row["rd"] for row in csv.DictReader(file))
    left_out, same = (load_weights(folder / f"{name}.safetensors", "DiffusionModel")[0] for name in ("m", "same"))
    assert all((left_out[key] == same[key]).all() for key in same)


@pytest.mark.parametrize(
    "variant", ["dmemm", "diffuser", "wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "lambda_tr=1"]
)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(folder, monkeypatch, variant):
    monkeypatch.chdir(folder)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(variant, f"{name}.safetensors", seed=seed) == 0
    first, again, other = ((folder / f"{name}.safetensors").read_bytes() for name in "abc")
    assert first == again != other


@pytest.mark.parametrize("denoise", ["paper", "ddim", "tweedie"])
@pytest.mark.parametrize("predict", ["sample", "epsilon"])
def test_every_choice_of_method_trains(folder, monkeypatch, denoise, predict):
    monkeypatch.chdir(folder)
    choice = [f"denoise={denoise}", f"predict={predict}", "modulation_weight=snr"]
    assert train("dmemm", "m.safetensors", *choice) == 0
    tensors, header = load_weights(folder / "m.safetensors", "DiffusionModel")
    assert (header["denoise"], header["predict"]) == (denoise, predict)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_without_what_its_loss_needs_it_says_so(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert train("diffuser", "m.safetensors", mechanisms=False) == 0
    assert train("dmemm", "never.safetensors", mechanisms=False) == 1
    assert "--dynamics: missing; the method needs this file" in capsys.readouterr().err
    assert not (folder / "never.safetensors").exists()


def test_a_given_file_that_is_missing_is_named_even_if_the_loss_does_without_it(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    shutil.copy("reward.safetensors", "kept.safetensors")
    Path("reward.safetensors").unlink()
    try:
        assert train("wo_lambda_rd", "never.safetensors") == 1
    finally:
        Path("kept.safetensors").rename("reward.safetensors")
    assert "reward.safetensors: cannot read it (No such file or directory); run the stage" in capsys.readouterr().err


def test_divergence_stops_with_a_message_and_keeps_the_earlier_weights(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert train("dmemm", "kept.safetensors") == 0
    before = (folder / "kept.safetensors").read_bytes()
    assert train("dmemm", "kept.safetensors", "learning_rate=1e30", steps=200) == 1
    assert "the loss is not finite at step" in capsys.readouterr().err
    assert (folder / "kept.safetensors").read_bytes() == before


def _killed_halfway(arguments, checkpoint):
    """Run a training in a process that saves after every step, and kill it once it has saved."""
    code = "import sys, dmemm.cli, dmemm.training.train as t; t.CHECKPOINT_SECONDS = 0; dmemm.cli.main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read()  # not finished by itself
    return checkpoint


@pytest.mark.parametrize("variant", ["dmemm", "diffuser"])
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(folder, monkeypatch, capsys, variant):
    monkeypatch.chdir(folder)
    assert train(variant, "unbroken.safetensors", steps=100) == 0
    curve, broken = (folder / "curve.csv").read_text(), folder / f"{variant}.broken.safetensors"
    checkpoint = _killed_halfway(
        arguments(variant, broken.name, steps=100), broken.with_suffix(".checkpoint.safetensors")
    )
    step = load_weights(checkpoint, "Checkpoint")[1]["step"]
    assert 0 < step < 100 and not broken.exists()
    assert train(variant, broken.name, steps=100) == 0
    assert f"goes on from step {step}" in capsys.readouterr().err
    assert broken.read_bytes() == (folder / "unbroken.safetensors").read_bytes()
    assert (folder / "curve.csv").read_text() == curve
    assert not checkpoint.exists()


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert train("dmemm", "fresh.safetensors", "lambda_tr=0.5", steps=100) == 0
    checkpoint = _killed_halfway(
        arguments("dmemm", "other.safetensors", steps=100), folder / "other.checkpoint.safetensors"
    )
    shutil.copy(checkpoint, "kept")
    for damage in (False, True):
        content = Path("kept").read_bytes()
        checkpoint.write_bytes(content[: len(content) // 2] if damage else content)
        assert train("dmemm", "other.safetensors", "lambda_tr=0.5", steps=100) == 0
        assert "goes on from" not in capsys.readouterr().err
        assert (folder / "other.safetensors").read_bytes() == (folder / "fresh.safetensors").read_bytes()


def test_divergence_keeps_the_last_good_state(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("dmemm.training.train.CHECKPOINT_SECONDS", 0)
    terms, calls = Objective.terms, []

    def diverging(self, *arguments):
        calls.append(1)
        values = terms(self, *arguments)
        return values if len(calls) < 12 else {name: value * float("nan") for name, value in values.items()}

    monkeypatch.setattr(Objective, "terms", diverging)
    assert train("dmemm", "diverged.safetensors", steps=300) == 1
    error = capsys.readouterr().err
    assert "not finite at step 12" in error and "diverged.checkpoint.safetensors keeps the last good state" in error
    tensors, header = load_weights(folder / "diverged.checkpoint.safetensors", "Checkpoint")
    assert header["step"] == 11
    assert all(value.isfinite().all() for value in tensors.values())
    assert not (folder / "diverged.safetensors").exists()
