"""The code that a stage depends on: what its imports reach, its digest, and that each subcommand's is known."""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from dmemm.errors import UserError
from dmemm.methods import METHODS
from dmemm.source import FRONT, sources
from workflow import code, pipeline
from workflow.code import digest

from ..checkout import ROOT

FILES = {
    "__init__": "x = 1",
    "errors": "import dmemm.unused",
    "unused": "x = 1",
    "a/__init__": '"""Nothing but this."""',
    "a/stage": "from ..b import c\nimport dmemm.errors, tqdm\ndef f():\n    from dmemm.b.d import x\n    import numpy",
    "b/__init__": "from . import e",
    "b/c": "x = 1",
    "b/d": "x = 1",
    "b/e": '"""What it is."""\nx = 1',
}


def module(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def package(folder: Path, changed: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write FILES, some of them changed."""
    for name, text in {**FILES, **changed}.items():
        path = folder / f"dmemm/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_imports_are_followed_wherever_they_stand(tmp_path):
    expected = ["__init__", "a/__init__", "a/stage", "b/__init__", "b/c", "b/d", "b/e"]
    assert sources("dmemm.a.stage", root=package(tmp_path)) == tuple(f"dmemm/{name}.py" for name in expected)


def test_a_wrong_entry_or_file_is_named(tmp_path):
    with pytest.raises(UserError, match="dmemm.absent: no such module"):
        sources("dmemm.absent")
    (tmp_path / "dmemm").mkdir()
    (tmp_path / "dmemm/__init__.py").write_text("")
    (tmp_path / "dmemm/broken.py").write_text("x =")
    with pytest.raises(UserError, match="line 1: not valid Python"):
        sources("dmemm.broken", root=tmp_path)


def test_the_digest_is_of_the_files_that_are_reached_and_of_nothing_else(tmp_path):
    before = digest("dmemm.a.stage", root=package(tmp_path / "before"))
    assert digest("dmemm.a.stage", root=package(tmp_path / "copied")) == before
    for i, name in enumerate(("b/e", "a/__init__", "a/stage")):
        changed = package(tmp_path / str(i), {name: FILES[name] + "\ny = 2"})
        assert digest("dmemm.a.stage", root=changed) != before, name
    front = package(tmp_path / "front", {"errors": "import dmemm.b.c", "unused": "y = 2", "new": "z = 3"})
    assert digest("dmemm.a.stage", root=front) == before
    assert digest("dmemm.a.stage", "dmemm.unused", root=tmp_path / "before") != before


def test_comments_and_docstrings_rerun_nothing_and_other_text_does(tmp_path):
    text = '''"""A module."""\nx = "#1"  # one\n\n\ndef f():\n    """Return it."""\n    return """two\n# lines"""'''

    def of(text: str) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        return digest("dmemm.b.e", root=package(root, {"b/e": text}))

    before = of(text)
    for old, new in (
        ("A module.", "Of two\n\nlines."),
        ("# one", ""),
        ("Return it.", "Give."),
        ("\n\n\n", "\n# new\n"),
    ):
        assert of(text.replace(old, new, 1)) == before, new
    for old, new in (
        ('"#1"', '"#2"'),
        ("# lines", "# more"),
        ("def f():", "def f(x=1):"),
        ("    return", "    f\n    return"),
        ('it."""', 'it."""; y = 1'),
    ):
        assert of(text.replace(old, new, 1)) != before, new


def test_the_digest_is_of_the_versions_of_the_libraries_that_are_imported(tmp_path, monkeypatch):
    root, versions = package(tmp_path), {"numpy": "1.0", "tqdm": "1.0", "torch": "1.0"}
    monkeypatch.setattr(code, "version", versions.__getitem__)

    def now() -> str:
        digest.cache_clear()
        return digest("dmemm.a.stage", root=root)

    before = now()
    # No number depends on tqdm's, nothing here imports torch, and a local build is the same version.
    versions.update(tqdm="2.0", torch="2.0", numpy="1.0+cpu")
    assert now() == before
    versions["numpy"] = "1.1"
    assert now() != before
    digest.cache_clear()


def test_diffusion_retrains_and_the_command_line_does_not(monkeypatch):
    monkeypatch.chdir(ROOT)
    train = set(map(module, sources("dmemm.training.train")))
    assert {"dmemm.diffusion.process", "dmemm.models.unet", "dmemm.files"} <= train
    assert train.isdisjoint({*FRONT, "dmemm.evaluation.evaluate", "dmemm.planning.planner"})


def test_each_subcommands_job_depends_on_what_the_subcommand_imports():
    rules = (ROOT / "workflow/rules/report.smk").read_text()
    # Command and module of `add_report`, and the code of the one other rule.
    known = dict(re.findall(r'"([\w-]+)",\s*"(dmemm\.reporting\.\w+)"', rules))
    known["metrics"] = "dmemm.reporting.tables"
    assert 'code=digest("dmemm.reporting.tables")' in rules
    known |= pipeline.MODULES
    imported = {}
    for function in ast.parse((ROOT / "dmemm/stages.py").read_text()).body:
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            found = {node.module for node in ast.walk(function) if isinstance(node, ast.ImportFrom)}
            imported[function.name.replace("_", "-") if "table" in function.name else function.name] = found
    assert imported.pop("setting") == {"dmemm.settings"}  # of no job
    assert imported.pop("train") == set()  # the method's trainer
    assert imported == {name: {module} for name, module in known.items()}


def test_a_methods_jobs_depend_on_what_trains_it_and_what_acts(monkeypatch):
    monkeypatch.setattr(pipeline, "digest", lambda *modules: set(modules))
    for method in METHODS.values():
        own = {method.implementation} - {""}
        assert pipeline.code("train", method) == {method.trainer, *own}
        for stage in ("evaluate", "consistency"):
            assert pipeline.code(stage, method) == {pipeline.MODULES[stage], method.actor, *own}
    # These load the planner themselves.
    monkeypatch.chdir(ROOT)
    for stage in ("calibrate", "pictures"):
        assert pipeline.code(stage, METHODS["dmemm"]) == {pipeline.MODULES[stage]}
        assert "dmemm/planning/planner.py" in sources(pipeline.MODULES[stage])
