"""dvc.yaml beside the rules: each stage has the files and the parameters of its phase."""

import re
from pathlib import Path

import pytest
import yaml

from dmemm.config import acting_config, training_config
from dmemm.inputs import PATHS
from dmemm.methods import METHODS
from dmemm.tasks import get_task, read_task
from workflow.pipeline import CONFIGS, IDLE, READS
from workflow.record import STAGES as RECORDS

from ..checkout import ROOT, staged, tracked

FILE = yaml.safe_load(staged("dvc.yaml"))
STAGES = FILE["stages"]
CODE = {"Snakefile", "workflow", "dmemm"}
LISTS = {"tasks", "mazes", "seeds", "methods", "ablation_tasks", "sensitivity_tasks"}
LISTS |= {"sensitivity_lambda_tr", "sensitivity_lambda_rd"}


def outs(stage):
    found = [stage.get(key, []) for key in ("outs", "metrics", "plots")]
    return [next(iter(out)) if isinstance(out, dict) else out for entries in found for out in entries]


def keys(stage):
    """The parameters that jobs of a stage may read."""
    if stage == "value":
        return set(CONFIGS["value"].parameters() + CONFIGS["plan_value"].parameters())
    if stage == "train":
        return {key for method in METHODS.values() for key in training_config(method).parameters()}
    if stage in ("evaluate", "consistency"):
        read = {key for method in METHODS.values() for key in acting_config(method).parameters()}
        return read - set(IDLE.get(stage, ()))
    return set(CONFIGS[stage].parameters())


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "tables"])
def test_a_stage_has_the_parameters_of_its_phase(stage):
    assert set(STAGES[stage]["params"]) - LISTS == keys(stage)


def folders(names):
    return {Path(PATHS[name].split("{")[0]).as_posix().rstrip("/") for name in names}


@pytest.mark.parametrize("stage", ["segment", "dynamics", "reward", "value", "train", "evaluate", "consistency"])
def test_a_stage_has_the_files_that_its_phase_reads(stage):
    read = {
        "train": {"raw", "segments", "dynamics", "reward"},
        "value": {*READS["value"], *READS["plan_value"]} - {"value"},
        "evaluate": {*READS["evaluate"], "dynamics", "reward", "value", "plan_value"},
        "consistency": {*READS["consistency"], "dynamics", "reward", "value", "plan_value"},
    }
    known = set(STAGES[stage]["deps"]) - CODE - {"tasks", "requirements-methods.lock"}
    assert known == folders(read.get(stage, READS.get(stage)))
    assert set(STAGES[stage]["deps"]) >= {*CODE, "tasks"}


def test_each_file_of_the_pipeline_is_in_one_stage(project):
    every = [out for stage in STAGES.values() for out in outs(stage)]
    assert len(every) == len(set(every))
    output = project.run("snakemake", "--dry-run", "--forceall", "all")
    made = {f for line in re.findall(r"^ +output: (.*)$", output, re.M) for f in line.split(", ")}
    assert len(made) > 50
    named = set(re.findall(r"^rule (\w+):$", output, re.M)) - {"all"}
    assert named == {rule for _, rules in RECORDS.values() for rule in rules}
    assert not [file for file in made if not any(file == out or file.startswith(f"{out}/") for out in every)]
    assert {str(copy) for copy, _ in RECORDS.values()} <= {out for out in every if out.endswith(".json")} | {
        f"{out}/records.json" for out in every
    }
    assert STAGES.keys() == RECORDS.keys()


def test_each_command_names_a_rule_that_makes_the_stages_files(project):
    for name, stage in STAGES.items():
        (target,) = re.fullmatch(r"exec snakemake (\w+)", stage["cmd"]).groups()
        output = project.run("snakemake", "--dry-run", "--forceall", target)
        made = [f for line in re.findall(r"^ +output: (.*)$", output, re.M) for f in line.split(", ")]
        for out in set(outs(stage)) - {"results/records.json"}:
            assert any(file == out or file.startswith(f"{out}/") for file in made), (name, out)


@pytest.mark.parametrize("name", FILE["artifacts"])
def test_an_artifact_is_a_network_of_the_task_that_it_is_named_after(name):
    artifact = FILE["artifacts"][name]
    assert artifact["path"] == PATHS["model"].format(task=name, method="dmemm", seed=0)
    assert get_task(name).data_task == name and f'"{name}"' in artifact["desc"]
    assert any(artifact["path"].startswith(f"{out}/") for out in outs(STAGES["train"]))


def test_every_task_of_the_project_resolves_for_every_method():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for task in (read_task(ROOT / name) for name in tracked("tasks")):
        for method in METHODS.values():
            assert acting_config(method).resolve(params, task, method).episodes > 0
            training_config(method).resolve(params, task, method)
