"""The modules that a stage's rule has as inputs."""

import ast
from pathlib import Path

import pytest
import yaml

from dmemm.errors import UserError
from workflow.imports import FRONT, sources

from ..checkout import ROOT, staged


def module(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_imports_are_followed_wherever_they_stand(tmp_path):
    files = {
        "__init__": "x = 1",
        "errors": "import dmemm.unused",
        "unused": "x = 1",
        "a/__init__": '"""Nothing but this."""',
        "a/stage": "from ..b import c\nimport dmemm.errors\ndef run():\n    from dmemm.b.d import x\n    import numpy",
        "b/__init__": "from . import e",
        "b/c": "x = 1",
        "b/d": "x = 1",
        "b/e": '"""What it is."""\nx = 1',
    }
    for name, text in files.items():
        path = tmp_path / f"dmemm/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    expected = ["__init__", "a/stage", "b/__init__", "b/c", "b/d", "b/e"]
    assert sources("dmemm.a.stage", root=tmp_path) == tuple(f"dmemm/{name}.py" for name in expected)


def test_a_wrong_entry_or_file_is_named(tmp_path):
    with pytest.raises(UserError, match="dmemm.absent: no such module"):
        sources("dmemm.absent")
    (tmp_path / "dmemm").mkdir()
    (tmp_path / "dmemm/__init__.py").write_text("")
    (tmp_path / "dmemm/broken.py").write_text("x =")
    with pytest.raises(UserError, match="line 1: not valid Python"):
        sources("dmemm.broken", root=tmp_path)


def test_diffusion_retrains_and_the_command_line_does_not(monkeypatch):
    monkeypatch.chdir(ROOT)
    train = set(map(module, sources("dmemm.training.train")))
    assert {"dmemm.diffusion.process", "dmemm.models.unet", "dmemm.files"} <= train
    assert train.isdisjoint({*FRONT, "dmemm.evaluation.evaluate", "dmemm.planning.planner"})


def test_each_rule_has_what_its_subcommand_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    stages = yaml.safe_load(staged("dvc.yaml"))["stages"]
    rules = {"figure": "figure1", "table": "table1", "train": "train_dmemm_maze", "evaluate": "evaluate_dmemm_maze"}
    rules |= {"consistency": "consistency_dmemm_maze", "consistency_table": "consistency"}
    for function in ast.parse((ROOT / "dmemm/stages.py").read_text()).body:
        name = getattr(function, "name", "")
        stage = stages.get(rules.get(name, name))
        for node in ast.walk(function) if stage else ():
            if isinstance(node, ast.ImportFrom):
                code = [dep for dep in stage["deps"] if dep.startswith("results/code/")]
                read = {dep for path in code for dep in stages[f"code_{Path(path).stem}"]["deps"]}
                assert set(sources(node.module)) <= read, name
