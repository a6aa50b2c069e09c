"""The commands that README and docs/ show are commands that there are."""

import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.specifiers import SpecifierSet

from dmemm.config import load_params

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
    """A copy with what the pages tell to add: the pendulum's task, the variant without guidance, the method."""
    project = copy_project(tmp_path_factory.mktemp("documented"))
    task = re.search(r"```yaml\n# (tasks/pendulum.yaml)\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)
    extend = (ROOT / "docs/extend.md").read_text()
    entries = re.findall(r"```python\n(_(?:planner|policy)\(.*)\n```", extend)
    module = re.search(r"```python\n# (dmemm/methods/nearest.py)\n(.*?)```", extend, re.DOTALL)
    assert task and len(entries) == 2 and module
    (project.folder / module[1]).write_text(module[2])
    (project.folder / task[1]).write_text(task[2])
    (project.folder / "data/own").mkdir(parents=True)
    (project.folder / "data/own/pendulum.hdf5").touch()  # record.py makes it
    methods = project.folder / "dmemm/methods/__init__.py"
    first = "        _planner("
    assert first in methods.read_text()
    methods.write_text(
        methods.read_text().replace(first, "".join(f"        {entry},\n" for entry in entries) + first, 1)
    )
    return project


def test_snakemake_knows_how_to_make_every_file_that_the_pages_ask_for(documented: Project) -> None:
    targets = {
        word for _, words in COMMANDS if words[0] == "snakemake" for word in words if word.startswith("results/")
    }
    assert len(targets) > 5
    planned = documented.planned(*sorted(targets))
    assert planned.keys() >= {"evaluate", "pictures", "estimators", "guide_task", "calibrate"}


def test_the_documented_method_is_trained_and_is_a_column_of_table_1(documented: Project) -> None:
    name, sets = "hopper-medium", "local_steps={locomotion: 2000, maze: 2000}"
    dmemm = ("python", "-m", "dmemm")
    documented.run(*dmemm, "download", name, "--output", "raw.h5", "--statistics", "s.json", "--set", sets)
    files = ["--output", "n.safetensors", "--curve", "c.csv", "--report", "t.json"]
    documented.run(*dmemm, "train", name, "nearest", "0", "--raw", "raw.h5", *files)
    files = ["--model", "n.safetensors", "--statistics", "s.json", "--output", "e.json"]
    documented.run(*dmemm, "evaluate", name, "nearest", "0", *files, "--set", "episodes={locomotion: 2, maze: 2}")
    table = ["--published", "workflow/resources/published.csv", "--outputs", "table.csv"]
    record = json.loads((documented.folder / "e.json").read_text())
    others = ["diffuser", "dmemm"]  # what Table 1 always has
    for other in others:
        (documented.folder / f"{other}.json").write_text(json.dumps({**record, "variant": other, "scores": [0.0, 0.0]}))
    documented.run(*dmemm, "table", "1", "--scores", "e.json", *(f"{other}.json" for other in others), *table)
    header, row, *_ = (line.split(",") for line in (documented.folder / "table.csv").read_text().splitlines())
    assert float(row[header.index("nearest_mean")]) == pytest.approx(sum(record["scores"]) / 2, abs=0.001)


def test_every_documented_edit_of_params_yaml_is_valid_and_changes_it(documented: Project) -> None:
    edits = [words for _, words in COMMANDS if words[0] == "sed"]
    assert edits
    path = documented.folder / "params.yaml"
    before = path.read_text()
    for words in edits:
        path.write_text(before)
        documented.run(*words)
        assert path.read_text() != before
        documented.run(
            "python", "-c", "from workflow.parameters import load; from pathlib import Path; load(Path('params.yaml'))"
        )
    path.write_text(before)


def test_every_documented_make_target_exists(documented: Project) -> None:
    for page, words in COMMANDS:
        if words[0] == "make":
            assert documented.run("make", "--dry-run", "--always-make", *words[1:]), page


def test_locked_packages_bring_what_they_need_on_this_platform(documented: Project) -> None:
    """The lock has no libraries of CUDA, which another build of torch requires."""
    texts = [documented.run("make", "--dry-run", "--always-make", "install")]
    texts += [(ROOT / name).read_text() for name in ("Dockerfile", "workflow/envs/dmemm.post-deploy.sh")]
    for text in texts:
        (line,) = re.findall(r".*pip install .*requirements\.lock", text)
        assert "--no-deps" not in line


def test_locked_packages_install_on_the_first_python_that_is_promised() -> None:
    for lock in ("requirements.lock", "requirements-methods.lock"):
        for name in re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE):
            try:
                needed = metadata(name).get("Requires-Python") or ""
            except PackageNotFoundError:  # of .venv-methods, in which these tests do not run
                continue
            assert SpecifierSet(needed).contains("3.11.0"), f"{lock}: {name} needs Python {needed}"


def test_the_options_compared_with_those_of_diffuser_exist() -> None:
    section = (ROOT / "docs/parameters.md").read_text().partition("## Coming from Diffuser")[2]
    ours = [
        name for cell in re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)
    ]
    assert len(ours) > 15
    assert set(ours) <= load_params(ROOT / "params.yaml").keys()


def test_pages_link_to_pages_that_exist(documented: Project) -> None:
    for page in PAGES:
        folder = (documented.folder / page.relative_to(ROOT)).parent
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not link.startswith("http"):
                assert (folder / link).exists(), f"{page.name}: {link}"
