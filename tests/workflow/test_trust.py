"""What a name, a path or a parameter says is never run by a shell."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from workflow.dvc_yaml import loaded_rules

from .conftest import Project

HOSTILE = ["a;b", "0;1", "$(touch x)", "`x`", "a b", "a'b", "a|b", "a\nb", "a&b", ">x", "../x", "a/b", "-x", ""]


@pytest.fixture(scope="module")
def workflow(project: Project) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        with loaded_rules() as rules:
            yield rules[0].workflow


def test_each_wildcard_has_a_pattern_that_a_shell_cannot_misread(workflow: Any) -> None:
    patterns = workflow.wildcard_constraints
    assert {name for rule in workflow.rules for name in rule.wildcard_names} <= patterns.keys()
    # A suite's rules narrow the tasks.
    of_rules = [(rule.name, pattern) for rule in workflow.rules for pattern in rule.wildcard_constraints.values()]
    assert len(of_rules) > 20
    for name, pattern in [*patterns.items(), *of_rules]:
        passed = [text for text in HOSTILE if re.fullmatch(pattern, text)]
        assert not passed, (name, passed)


def test_each_parameter_is_quoted(workflow: Any) -> None:
    inserted = [text for rule in workflow.rules for text in re.findall(r"\{params[^}]*\}", rule.shellcmd or "")]
    assert len(inserted) > 20 and all(text.endswith(":q}") for text in inserted)


def test_a_hostile_task_name_stops_both_tools(project: Project) -> None:
    text = (project.folder / "params.yaml").read_text()
    project.set(tasks={"locomotion": ["hopper-medium-expert; touch ran #"], "maze": ["maze2d-umaze"]})
    told = project.run("snakemake", "--dry-run", fails=True), project.run("dvc", "repro", fails=True)
    (project.folder / "params.yaml").write_text(text)
    assert all("hopper-medium-expert; touch ran #" in output for output in told)
    assert not list(project.folder.rglob("ran"))
