"""The commands that README and docs/ show are commands that there are."""

import re
import shlex

import pytest

from workflow.parameters import load

from ..checkout import ROOT, tracked
from .conftest import Project, copy_project

PAGES = [ROOT / name for name in tracked("README.md", "CONTRIBUTING.md", "docs/*.md")]
COMMANDS = [
    (page.name, words)
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line.removeprefix("$ "), comments=True))
]


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with what the pages tell to add: the pendulum's task, the variant without guidance."""
    project = copy_project(tmp_path_factory.mktemp("documented"))
    task = re.search(r"```yaml\n# (tasks/pendulum.yaml)\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)
    variant = re.search(r"```python\n(_planner\(.*\n)```", (ROOT / "docs/extend.md").read_text())
    assert task and variant
    (project.folder / task[1]).write_text(task[2])
    (project.folder / "data/own").mkdir(parents=True)
    (project.folder / "data/own/pendulum.hdf5").touch()  # record.py makes it
    methods = project.folder / "dmemm/methods/__init__.py"
    first = "        _planner("
    assert first in methods.read_text()
    methods.write_text(methods.read_text().replace(first, f"        {variant[1].rstrip()},\n{first}", 1))
    return project


def test_snakemake_knows_how_to_make_every_file_that_the_pages_ask_for(documented: Project) -> None:
    targets = {
        word for _, words in COMMANDS if words[0] == "snakemake" for word in words if word.startswith("results/")
    }
    assert len(targets) > 5
    planned = documented.planned(*sorted(targets))
    assert planned.keys() >= {"evaluate", "pictures", "estimators", "guide_task", "calibrate"}


def test_every_documented_edit_of_params_yaml_is_valid_and_changes_it(documented: Project) -> None:
    edits = [words for _, words in COMMANDS if words[0] == "sed"]
    assert edits
    path = documented.folder / "params.yaml"
    before = path.read_text()
    for words in edits:
        path.write_text(before)
        documented.run(*words)
        assert path.read_text() != before
        load(path)
    path.write_text(before)


def test_every_documented_make_target_exists(documented: Project) -> None:
    for page, words in COMMANDS:
        if words[0] == "make":
            assert documented.run("make", "--dry-run", "--always-make", *words[1:]), page


def test_pages_link_to_pages_that_exist(documented: Project) -> None:
    for page in PAGES:
        folder = (documented.folder / page.relative_to(ROOT)).parent
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not link.startswith("http"):
                assert (folder / link).exists(), f"{page.name}: {link}"
