"""Saved planners: whole or not at all, and loaded anywhere."""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

import dmemm
from dmemm.errors import UserError
from dmemm.planning import storage

from ..checkout import ROOT, staged
from .example import OWN, TASK, planner

OBSERVATIONS = np.ones((2, 4), np.float32)
# Nothing that a model would give: any of them may be missing.
UNGUIDED = {"objective": "plan_value", "lambda_guide": 0.0}


def assert_same(ours, theirs):
    for key, value in vars(ours).items():
        np.testing.assert_array_equal(value, getattr(theirs, key))


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_saved_planner_is_whole_and_loads_anywhere(tmp_path, monkeypatch):
    made = planner(4)
    made.save(tmp_path / "planner")
    moved = (tmp_path / "planner").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)  # no params.yaml, no tasks, no data
    loaded = dmemm.Planner.load(moved)
    observations, goals = np.ones((2, 4), np.float32), np.zeros((2, 2), np.float32)
    assert_same(made.plan(observations, goals), loaded.plan(observations, goals))
    assert loaded.task == made.task and loaded.config == made.config
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no planner in it"):
        dmemm.Planner.load("empty")
    with pytest.raises(UserError, match="nowhere: there is no folder tasks/ here"):
        dmemm.Planner.load("nowhere")


@pytest.mark.parametrize("objective", ["reward", "return", "value", "plan_value"])
def test_a_saved_planner_holds_what_its_objective_needs(objective, tmp_path):
    made = planner(4, task=OWN, objective=objective, veto=1.0)
    made.save(tmp_path)
    loaded, observations = dmemm.Planner.load(tmp_path), np.ones((2, 4), np.float32)
    assert_same(made.plan(observations), loaded.plan(observations))
    needed = {"value": ["value"], "return": ["value"], "plan_value": ["plan_value"]}.get(objective, [])
    assert {path.stem for path in tmp_path.iterdir()} == {"planner", "diffusion", "dynamics", "reward", *needed}


@pytest.mark.parametrize("without", ["dynamics", "reward"])
def test_a_planner_without_a_model_replaces_one_that_has_it(without, tmp_path):
    planner(4, task=OWN, **UNGUIDED).save(tmp_path / "planner")
    made = planner(4, task=OWN, without=[without], **UNGUIDED)
    made.save(tmp_path / "planner")
    loaded = dmemm.Planner.load(tmp_path / "planner")
    assert getattr(loaded, without) is None
    assert_same(made.plan(OBSERVATIONS), loaded.plan(OBSERVATIONS))
    assert names(tmp_path) == {"planner"}


def test_planning_needs_no_package_of_the_pipeline(tmp_path):
    made = planner(4, task=OWN)
    made.save(tmp_path)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {re.match(r"[\w.-]+", line)[0].lower() for line in (*extras["pipeline"], *extras["dev"])}
    modules = [
        module
        for module, owners in packages_distributions().items()
        if installed & {owner.lower() for owner in owners} and "/" not in module
    ]
    assert {"snakemake", "dvc", "gymnasium", "mujoco", "matplotlib"} <= set(modules)
    missing = f"import sys; sys.modules.update(dict.fromkeys({modules}))\n"  # None: its import fails
    plan = f"import dmemm, numpy; plans = dmemm.Planner.load({str(tmp_path)!r}).plan(numpy.ones((2, 4)))"
    plan += "; print(plans.actions.tolist())"
    run = subprocess.run([sys.executable, "-c", missing + plan], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.array(json.loads(run.stdout), np.float32), made.plan(OBSERVATIONS).actions)


def test_others_can_read_a_saved_planner_if_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        planner(4).save(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert len(modes) > 1 and set(modes.values()) == {"0o640"}


def test_a_planner_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    made = planner(4)
    made.save(tmp_path / "planner")
    before = {path.name: path.read_bytes() for path in (tmp_path / "planner").iterdir()}

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_json", fail)
    for folder in ("planner", "new"):
        with pytest.raises(UserError, match=f"{folder}: cannot write: No space left on device"):
            planner(4, without=["dynamics"], lambda_guide=0.0).save(tmp_path / folder)
    assert names(tmp_path) == {"planner"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "planner").iterdir()} == before
    monkeypatch.undo()
    rename, renamed = Path.rename, []

    def refuse_the_second(path, target):
        renamed.append(path)
        return fail() if len(renamed) == 2 else rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_second)
    with pytest.raises(UserError, match="planner: cannot write"):
        planner(4, without=["dynamics"], lambda_guide=0.0).save(tmp_path / "planner")
    assert {path.name: path.read_bytes() for path in (tmp_path / "planner").iterdir()} == before


@pytest.mark.parametrize("kept", ["notes.txt", "dynamics.safetensors"])
def test_what_is_no_planner_is_never_replaced(kept, tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder" / kept, tmp_path / "file"):
        path.write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(UserError, match=f"{name}: exists and is not a planner's folder"):
            planner(4).save(tmp_path / name)
    assert (tmp_path / "folder" / kept).read_text() == (tmp_path / "file").read_text() == "mine"
    made = planner(4)
    made.save(tmp_path / "planner")
    (tmp_path / "planner" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="planner: exists and is not a planner's folder"):
        made.save(tmp_path / "planner")


def test_a_link_to_a_planner_stays_a_link(tmp_path):
    made = planner(4)
    made.save(tmp_path / "planner")
    (tmp_path / "link").symlink_to("planner")
    made.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and dmemm.Planner.load(tmp_path / "planner").task == made.task


def test_a_termination_function_of_the_package_needs_no_project(tmp_path, monkeypatch):
    made = planner(4, task=replace(OWN, terminal="dmemm.terminations:hopper"))
    made.save(tmp_path / "planner")
    monkeypatch.chdir(tmp_path)
    assert_same(made.plan(OBSERVATIONS), dmemm.Planner.load("planner").plan(OBSERVATIONS))


@pytest.mark.parametrize("key", ["env", "terminal"])
@pytest.mark.parametrize("module", ["own_arm", "own_arm.physics"])
def test_a_module_of_the_users_that_is_missing_is_named(key, module, tmp_path, monkeypatch):
    made = planner(4, task=OWN)
    made.task = replace(OWN, **{key: f"{module}:fallen"})
    made.save(tmp_path / "planner")
    with pytest.raises(UserError, match=rf"planner.json: {key}: module {module} not found; .*PYTHONPATH$"):
        dmemm.Planner.load(tmp_path / "planner")
    if module == "own_arm":
        (tmp_path / "own_arm.py").write_text("def fallen(states):\n    return states[..., 0] > 100\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert dmemm.Planner.load(tmp_path / "planner").task == made.task


def test_a_record_of_another_version_is_refused_in_one_line(tmp_path):
    planner(4).save(tmp_path)
    record = json.loads((tmp_path / "planner.json").read_text())
    record["config"]["patience"] = 3
    (tmp_path / "planner.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="planner.json: of another version of dmemm .*patience.*; save the planner"):
        dmemm.Planner.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "protocol", "folder"),
    [
        ("multi2d-umaze", "multi2d", "maze2d-umaze"),
        ("multi2d-arm", "own", "multi2d-arm"),
        ("maze2d-umaze", "maze2d", "maze2d-umaze"),
    ],
)
def test_only_mazes_with_random_goals_plan_with_another_tasks_networks(name, protocol, folder, monkeypatch):
    task = replace(TASK, name=name, protocol=protocol)
    monkeypatch.setattr(storage, "get_task", lambda _: task)
    found, _, inputs = storage.find_planner(name, "dmemm", 3)
    assert found == task and inputs.dynamics == Path(f"results/dynamics/{folder}/seed3.safetensors")
    assert inputs.model == Path(f"results/models/{folder}/dmemm/seed3.safetensors")


def test_a_task_s_planner_has_what_guides_it_and_what_the_pipeline_has_made(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(staged("params.yaml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage, "get_task", lambda _: replace(OWN, body="hopper"))

    def found(variant):
        return {name: path for name, path in vars(storage.find_planner("walk", variant, 0)[2]).items() if path}

    assert found("diffuser").keys() == {"model", "plan_value"}
    assert found("dmemm").keys() >= {"model", "dynamics"}
    for name in ("dynamics", "reward", "value"):
        (tmp_path / f"results/{name}/walk").mkdir(parents=True)
        (tmp_path / f"results/{name}/walk/seed0.safetensors").touch()
    # For the plans' `returns` and `transition_errors`.
    assert found("diffuser").keys() == {"model", "plan_value", "dynamics", "reward"}
    network = "results/models/walk/diffuser/seed0.safetensors"
    with pytest.raises(
        UserError, match=rf"^{network}: cannot read weights .*; make it by `snakemake --cores 2 {network}`$"
    ):
        dmemm.Planner.load("walk", "diffuser")
