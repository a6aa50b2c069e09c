"""Scratch projects: a copy with tiny settings, the same with stages that do nothing, and one of three rules."""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ..checkout import copy_tracked

TINY = {
    "tasks": {"locomotion": ["hopper-medium-expert"], "maze": ["maze2d-umaze"]},
    "mazes": ["umaze"],
    "methods": [],
    "ablation_tasks": ["hopper-medium-expert"],
    "sensitivity_tasks": ["hopper-medium-expert"],
    "study_tasks": ["maze2d-umaze", "hopper-medium-expert"],
    "seeds": [0],
    "lambda_tr": 0.1,
    "sensitivity_lambda_tr": [0.0, 1.0],
    "sensitivity_lambda_rd": [0.0, 0.5],
    "diffusion_steps": {"locomotion": 3, "maze": 3},
    "horizon": {"locomotion": 8, "maze": 16},
    "local_steps": {"locomotion": 2000, "maze": 2000},
    "ensemble_members": 2,
    "mechanism_width": 16,
    "mechanism_epochs": 1,
    "unet_width": {"locomotion": 8, "maze": 8},
    "unet_mults": {"locomotion": [1, 2], "maze": [1, 2]},
    "train_steps": {"locomotion": 5, "maze": 5},
    "method_steps": {"others": 5},
    "plan_value_steps": 5,
    "episodes": {"locomotion": 2, "maze": 2},
    "candidates": {"locomotion": 2, "maze": 2},
    "replan_every": {"locomotion": 4, "maze": 16},
}


@cache
def stand_ins() -> Path:
    """Folders of programs that run as those of the same name, without the time that their imports take (client.py)."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    here = Path(__file__).parent
    for name in ("tools/snakemake", "tools/dvc", "stages/python"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!{sys.executable} -IS\n{(here / 'client.py').read_text()}")
        (folder / name).chmod(0o755)
    server = subprocess.Popen([sys.executable, here / "server.py", folder / "socket"], stdout=subprocess.PIPE)
    assert server.stdout
    server.stdout.readline()
    return folder


class Project:
    """The copy, its params.yaml, and commands run in it as a user would.

    Args:
        folder: the copy.
        real: whether its stages import what dmemm does; others start faster by themselves.
    """

    def __init__(self, folder: Path, real: bool = False) -> None:
        self.folder, self.real = folder, real

    def start(self, *command: str, programs: Sequence[Path] = ()) -> "subprocess.Popen[str]":
        """A process group of its own, as a terminal gives to what it runs in the foreground."""
        path = os.pathsep.join([*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(self.folder), "DVC_NO_ANALYTICS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell's background jobs, and all that they start, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *command: str, fails: bool = False) -> str:
        programs = [stand_ins() / name for name in ("tools", "stages")[: 1 + self.real]]
        process = self.start(*command, programs=programs)
        output, _ = process.communicate()
        print("$", *command, f"\n{output}")  # pytest shows it if the test fails
        assert (process.returncode != 0) == fails
        return output

    def table(self) -> str:
        return (self.folder / "results/table.csv").read_text()

    def stages(self, *command: str) -> list[str]:
        """Run a command of DVC; return the stages that it ran."""
        return re.findall(r"Running stage '(\w+)", self.run(*command))

    def set(self, **values: object) -> None:
        yaml, path = YAML(), self.folder / "params.yaml"
        params = yaml.load(path.read_text())
        params.update(values)
        with path.open("w") as file:
            yaml.dump(params, file)

    def planned(self, *targets: str) -> dict[str, int]:
        """The jobs that `snakemake -n` plans, with their numbers."""
        blocks = job_statistics(self.run("snakemake", "--dry-run", *targets))
        return blocks[-1] if blocks else {}

    def ran(self, *command: str) -> dict[str, int]:
        """Run a command; return the jobs that its runs of Snakemake ran, with their numbers."""
        blocks = job_statistics(self.run(*command))
        return {name: sum(block.get(name, 0) for block in blocks) for block in blocks for name in block}

    def share(self, remote: Path) -> None:
        """Push the results to a remote folder, and commit what names it."""
        self.run("dvc", "remote", "add", "--quiet", "--default", "shared", str(remote))
        self.run("dvc", "push")
        self.commit("remote")

    def clone(self, folder: Path) -> "Project":
        """A clone, which has no results yet."""
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        return Project(folder, self.real)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)


def job_statistics(output: str) -> list[dict[str, int]]:
    """What Snakemake prints below `Job stats`, each time that it does."""
    blocks: list[dict[str, int]] = []
    reading = False
    for line in output.splitlines():
        if line.startswith("Job stats"):
            blocks.append({})
            reading = True
        elif reading and (words := line.split()) and len(words) == 2 and words[1].isdigit():
            if not words[0].startswith("all") and words[0] != "total":
                blocks[-1][words[0]] = int(words[1])
        elif not line.strip():
            reading = False
    return blocks


def copy_project(folder: Path, real: bool = True) -> Project:
    """A repository of its own of the project's tracked files (tests/checkout.py), with TINY settings."""
    copy_tracked(folder)
    project = Project(folder, real)
    project.run("git", "init", "--quiet")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        project.run("git", "config", key, value)
    project.set(**TINY)
    project.commit("start")
    return project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def built(project: Project) -> Project:
    """The project after one run of the whole pipeline."""
    project.run("snakemake", "--cores", "2", "--quiet", "all")
    return project


@pytest.fixture(scope="session")
def built_hollow(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The real rules, and stages that only write a digest of what they were given."""
    project = copy_project(tmp_path_factory.mktemp("hollow"), real=False)
    shutil.copy2(Path(__file__).with_name("hollow.py"), project.folder / "dmemm/__main__.py")
    project.run("snakemake", "--quiet", "all")
    project.commit("built")
    return project


@pytest.fixture
def hollow(tmp_path: Path, built_hollow: Project) -> Project:
    shutil.copytree(built_hollow.folder, tmp_path / "hollow", symlinks=True)
    return Project(tmp_path / "hollow")


@pytest.fixture
def small(tmp_path: Path, built_small: Project) -> Project:
    shutil.copytree(built_small.folder, tmp_path / "small", symlinks=True)
    return Project(tmp_path / "small")


def new_small(folder: Path) -> Project:
    project = Project(folder)
    code = ("dmemm", "snakemake_logger_plugin_dmemm", "workflow")
    copy_tracked(folder, *code, "params.yaml", ".dvcignore", ".gitignore", "profiles", "tasks")
    shutil.copy2(Path(__file__).with_name("small.smk"), project.folder / "Snakefile")
    shutil.copy2(Path(__file__).with_name("slow.py"), project.folder)
    shutil.copy2(Path(__file__).with_name("small.dvc.yaml"), project.folder / "dvc.yaml")
    (project.folder / "code.py").write_text("first\n")
    tasks = {"locomotion": ["hopper-medium-expert", "walker2d-medium"], "maze": ["maze2d-umaze"]}
    named = {key: TINY[key] for key in ("mazes", "methods", "ablation_tasks", "sensitivity_tasks", "study_tasks")}
    project.set(tasks=tasks, **named, seeds=[0], lambda_tr=0.1)
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@example.org")
    project.run("dvc", "init", "--quiet")
    return project


@pytest.fixture(scope="session")
def built_small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_small(tmp_path_factory.mktemp("small"))
    project.run("snakemake", "--quiet", "all")
    project.commit("built")
    assert project.planned() == {}
    assert is_clean(project)
    return project


def is_clean(project: Project) -> bool:
    return "up to date" in project.run("dvc", "status")
