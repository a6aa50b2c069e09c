"""Overhead of the pipeline itself: all tasks and ablations, five seeds, every stage replaced by nothing.

python benchmarks/workflow.py
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from dmemm.methods import METHODS

ROOT = Path(__file__).parents[1]
# Stages and what they import, those with a method also the module of DMEMM.
STAGES = {
    "download": "dmemm.data.download",
    "segment": "dmemm.data.segments",
    "train": METHODS["dmemm"].trainer,
    "evaluate": f"dmemm.evaluation.evaluate, {METHODS['dmemm'].actor}",
    "table": "dmemm.reporting.tables",
    "figure": "dmemm.reporting.figures",
}


def run(folder: Path, *command: str) -> tuple[float, float, str]:
    """Run a command in the scratch project; return its seconds, those of a processor, and what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, busy, done.stdout + done.stderr


def scratch_project(folder: Path) -> None:
    """A copy of the project under git, with the paper's setting, all tasks in Table 3 too, and hollow stages."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    run(folder, sys.executable, "-m", "dmemm", "setting", "paper")
    yaml, params = YAML(), folder / "params.yaml"
    values = yaml.load(params.read_text())
    values["ablation_tasks"] = list(values["tasks"]["locomotion"])
    with params.open("w") as file:
        yaml.dump(values, file)
    shutil.copy(ROOT / "tests/workflow/hollow.py", folder / "dmemm/__main__.py")
    for command in ("git init --quiet", "git config user.name benchmark", "git config user.email b@example.org"):
        run(folder, *command.split())
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "start")


def row(case: str, seconds: float, busy: float) -> None:
    """Print a line of a table."""
    print(f"| {case} | {seconds:.2f} | {busy:.2f} |")


def median(folder: Path, *command: str) -> tuple[float, float]:
    """Median seconds, and processor seconds, of three runs."""
    runs = [run(folder, *command)[:2] for _ in range(3)]
    return statistics.median(seconds for seconds, _ in runs), statistics.median(busy for _, busy in runs)


def main() -> None:
    """Measure and print a Markdown table."""
    start = time.perf_counter()
    for _ in range(10**7):
        pass
    print(f"Ten million empty loops of Python take {time.perf_counter() - start:.2f} s here.\n")
    print("| case | s | processor s |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch_project(folder)
        seconds, busy, output = run(folder, "snakemake", "--cores", "1", "all")
        jobs = int(re.findall(r"^total +(\d+)$", output, re.M)[0])
        row(f"a job, of a run of {jobs} that do nothing", seconds / jobs, busy / jobs)
        row("parsing: `snakemake --list`", *median(folder, "snakemake", "--list"))
        row("`snakemake -n`, up to date", *median(folder, "snakemake", "-n"))
        row("`dvc status`, up to date", *median(folder, "dvc", "status"))
        for command, said in (("snakemake -n", "Nothing to be done"), ("dvc status", "up to date")):
            assert said in run(folder, *command.split())[2], command
    for stage, module in STAGES.items():
        row(f"imports of {stage}", *median(ROOT, sys.executable, "-c", f"import dmemm.cli, {module}"))


if __name__ == "__main__":
    main()
