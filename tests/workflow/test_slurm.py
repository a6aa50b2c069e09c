"""The pipeline's profile for Slurm, on a real one: its daemons on this machine, for as long as a command runs."""

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from .conftest import Project, new_small

NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = ["unshare", "ip", "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue"]
# What the profile leaves to the cluster, and no patience: this one has neither accounts nor load.
FLAGS = ["--slurm-no-account", "--slurm-status-command", "squeue", "--default-resources", "slurm_partition=main"]
FLAGS += ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]
SCORE = "results/eval/dmemm/hopper-medium-expert/seed0.json"

# The first try fails; the second writes down the device that Slurm gave it.
TRAIN = """
    resources:
        mem_mb=growing(100),
        runtime=growing(5),
        gpu=GPU,
    params:
        set=LAMBDA_TR,
    shell:
        "mkdir tried && exit 1; echo $CUDA_VISIBLE_DEVICES > device.txt;"
        " """


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing or not Path("/etc/slurm").is_dir():
        pytest.skip(f"needs Slurm: {', '.join(missing) or '/etc/slurm'} is missing (apt-get install slurmctld slurmd)")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip(
            "needs Snakemake's plugin for Slurm: pip install --constraint requirements.lock --editable '.[slurm]'"
        )
    if os.geteuid() != 0:
        pytest.skip("needs root, to start Slurm's daemons")
    project = new_small(tmp_path_factory.mktemp("slurm"))
    snakefile = project.folder / "Snakefile"
    rules = snakefile.read_text()
    start, end = rules.index("\n    params:"), rules.index("echo {params}")
    snakefile.write_text(rules[:start] + TRAIN + rules[end:])
    return project


def under_slurm(project: Project) -> list[tuple[str, str, str]]:
    """Make a score; return the state, the minutes and the memory of each of Slurm's jobs."""
    jobs = project.folder / "slurm-jobs.txt"
    jobs.unlink(missing_ok=True)
    script = str(Path(__file__).with_name("slurm.sh"))
    snakemake = ["snakemake", "--workflow-profile", "profiles/slurm", *FLAGS]
    project.run("timeout", "500", *NAMESPACES, script, str(jobs), *snakemake, "--", SCORE)
    return re.findall(r"JobState=(\w+) .* TimeLimit=(\w+) .*,mem=(\w+),", jobs.read_text())


def test_slurm_runs_what_a_change_affects_and_retries_with_more(project: Project) -> None:
    tries = under_slurm(project)[:2]
    assert tries == [("FAILED", "5", "100M"), ("COMPLETED", "10", "200M")]
    # A device of the cluster's, whatever this machine has.
    assert (project.folder / "device.txt").read_text() in ("0\n", "1\n")
    # DVC knows what Slurm's jobs made, and Snakemake holds it current.
    recorded = yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]
    assert recorded["train"]["outs"][0]["nfiles"] == 3 and recorded["evaluate"]["outs"][0]["nfiles"] == 2
    assert project.planned(SCORE) == {}
    project.set(alpha=0.5)
    assert project.planned(SCORE) == {"evaluate": 1}
    assert [state for state, *_ in under_slurm(project)] == ["COMPLETED"]
    assert project.planned(SCORE) == {}
