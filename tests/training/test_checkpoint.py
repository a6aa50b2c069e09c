"""A checkpoint is of a training's own code: an edit of any other throws none away."""

import subprocess
import sys
from pathlib import Path

import pytest

from dmemm.training import checkpoint
from tests.checkout import ROOT, copy_tracked

TRAIN = "dmemm.training.train"


def test_the_code_of_a_training_is_what_python_loads_for_it():
    code = f"import sys, {TRAIN}; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'dmemm'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(name) for name in done.stdout.split()}
    found = set(checkpoint.imported(TRAIN))
    assert {path for path in loaded if path.name != "__init__.py"} <= found
    assert {path.relative_to(ROOT).parts[1] for path in found} <= {path.relative_to(ROOT).parts[1] for path in loaded}


@pytest.mark.parametrize(
    ("edited", "kept"),
    [("reporting/tables.py", True), ("planning/planner.py", True), ("cli.py", True),
     ("diffusion/objective.py", False), ("models/unet.py", False), ("training/train.py", False)],
)  # fmt: skip
def test_an_edit_of_code_that_training_does_not_run_keeps_its_checkpoints(edited, kept, tmp_path, monkeypatch):
    copy_tracked(tmp_path, "dmemm/*.py")
    monkeypatch.setattr(checkpoint, "_ROOT", tmp_path)
    before = checkpoint.fingerprint({"seed": 0}, [], TRAIN)
    path = tmp_path / "dmemm" / edited
    path.write_text(path.read_text() + "\n# a comment\n")
    assert checkpoint.fingerprint({"seed": 0}, [], TRAIN) == before
    path.write_text(path.read_text() + "edited = True\n")
    assert (checkpoint.fingerprint({"seed": 0}, [], TRAIN) == before) is kept
