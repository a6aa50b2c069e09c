"""A checkpoint is of a training's own code: an edit of any other throws none away."""

import subprocess
import sys
from pathlib import Path

import pytest

from dmemm.source import FRONT, sources
from dmemm.training import checkpoint
from tests.checkout import ROOT, copy_tracked

TRAIN = "dmemm.training.train"


def test_the_code_of_a_training_is_what_python_loads_for_it():
    code = f"import sys, {TRAIN}; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'dmemm'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {Path(name) for name in done.stdout.split()}
    front = {ROOT / f"{name.replace('.', '/')}.py" for name in FRONT}  # whose values are among the settings
    found = {ROOT / name for name in sources(TRAIN, root=ROOT)}
    assert {path for path in loaded - front if path.name != "__init__.py"} <= found
    assert {path.relative_to(ROOT).parts[1] for path in found} <= {path.relative_to(ROOT).parts[1] for path in loaded}


@pytest.mark.parametrize(
    ("edited", "kept"),
    [("reporting/tables.py", True), ("planning/planner.py", True), ("cli.py", True),
     ("diffusion/objective.py", False), ("models/unet.py", False), ("training/train.py", False)],
)  # fmt: skip
def test_an_edit_of_code_that_training_does_not_run_keeps_its_checkpoints(edited, kept, tmp_path, monkeypatch):
    def fingerprint(folder: str, text: str = "") -> str:
        copy_tracked(tmp_path / folder, "dmemm/*.py")
        with (tmp_path / folder / "dmemm" / edited).open("a") as file:
            file.write(text)
        monkeypatch.setattr(checkpoint, "_ROOT", tmp_path / folder)
        return checkpoint.fingerprint({"seed": 0}, [], TRAIN)

    before = fingerprint("before")
    assert fingerprint("commented", "\n# a comment\n") == before
    assert (fingerprint("changed", "edited = True\n") == before) is kept
