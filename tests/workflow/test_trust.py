"""What a name, a path or a parameter says is never run by a shell."""

import itertools
import re

import pytest

from ..checkout import ROOT
from .conftest import Project

HOSTILE = ["a;b", "0;1", "$(touch x)", "`x`", "a b", "a'b", "a|b", "a\nb", "a&b", ">x", "..", "-x", "0x", "00"]
PATHS = [
    "data/raw/{task}.hdf5",
    "data/segments/{task}.h5",
    "results/value/{task}/seed{seed}.safetensors",
    "results/models/{task}/{method}/seed{seed}.safetensors",
    "results/eval/{method}/{task}/seed{seed}.json",
    "results/consistency/{method}/{task}/seed{seed}.json",
    "results/calibrate/{method}/{task}/seed{seed}.json",
    "results/pictures/{method}/{task}/seed{seed}.png",
    "results/guide/{task}.csv",
]
SOUND = {"task": "hopper-medium", "method": "dmemm", "seed": "0"}
PLACES = [(path, name) for path in PATHS for name in SOUND if f"{{{name}}}" in path]


def test_every_path_of_sound_names_can_be_made(project: Project) -> None:
    assert project.planned(*(path.format(**SOUND) for path in PATHS))["evaluate"] == 1


@pytest.mark.parametrize(("place", "text"), list(zip(itertools.cycle(PLACES), HOSTILE, strict=False)))
def test_no_rule_makes_a_path_that_a_shell_would_misread(project: Project, place: tuple[str, str], text: str) -> None:
    path, name = place
    output = project.run("snakemake", "--dry-run", "--", path.format(**SOUND | {name: text}), fails=True)
    assert "MissingRuleException" in output or "Missing input files" in output


@pytest.mark.parametrize(
    ("path", "method"), [("consistency", "rvs"), ("calibrate", "mppi"), ("pictures", "mppi")], ids=lambda each: each
)
def test_no_network_is_trained_for_a_stage_that_its_method_has_not(project: Project, path: str, method: str) -> None:
    of_stage = next(each for each in PATHS if each.startswith(f"results/{path}/"))
    output = project.run("snakemake", "--dry-run", of_stage.format(**SOUND | {"method": method}), fails=True)
    assert f"No rule to produce results/{path}/{method}/" in output


def test_each_parameter_and_each_file_of_a_user_is_quoted() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    inserted = re.findall(r"\{params[^}]*\}", rules)
    assert len(inserted) > 10 and all(text.endswith(":q}") for text in inserted)


def test_a_hostile_task_name_stops_both_tools(project: Project) -> None:
    text = (project.folder / "params.yaml").read_text()
    project.set(tasks={"locomotion": ["hopper-medium-expert; touch ran #"], "maze": ["maze2d-umaze"]})
    told = project.run("snakemake", "--dry-run", fails=True), project.run("dvc", "repro", fails=True)
    (project.folder / "params.yaml").write_text(text)
    assert all("hopper-medium-expert; touch ran #" in output for output in told)
    assert not list(project.folder.rglob("ran"))
