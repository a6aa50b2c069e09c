"""What goes wrong while a pipeline runs: afterwards the same command finishes, and nothing wrong looks current."""

import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time

import psutil
import pytest

from .conftest import Project, copy_project, is_clean

TOOLS = {"snakemake": ("snakemake", "all"), "dvc": ("dvc", "exp", "run", "-S", "lambda_tr=0.2")}


def processes(project):
    """Those that work in the project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def start_slowly(project, tool):
    """Start a run with lambda_tr = 0.2 and wait until a training has a checkpoint."""
    (project.folder / "slow").touch()
    if tool == "snakemake":
        project.set(lambda_tr=0.2)
    run = project.start(*TOOLS[tool])
    wait_for(lambda: list(project.folder.glob("results/models/*/*.checkpoint.safetensors")))
    return run


def assert_finishes(project, tool):
    """The same command again goes on from the checkpoint and makes the table of lambda_tr = 0.2."""
    (project.folder / "slow").unlink()
    project.run(*TOOLS[tool])
    starts = [line.split()[-1] for line in (project.folder / "slow.log").read_text().splitlines()]
    assert starts[0] == "0" and any(int(step) > 0 for step in starts[1:])
    assert project.table().count("lambda_tr=0.2") == 2
    assert project.planned() == {} and is_clean(project)
    assert not list(project.folder.glob("results/**/*.checkpoint.safetensors"))


@pytest.mark.parametrize(
    ("tool", "victim"),
    [
        ("snakemake", "snakemake"),
        ("dvc", "dvc"),
        ("snakemake", "slow.py"),
        pytest.param("dvc", "slow.py", marks=pytest.mark.long),
        pytest.param("dvc", "snakemake", marks=pytest.mark.long),
    ],
)
def test_after_kill_9_nothing_works_on_and_the_same_command_resumes(small, tool, victim):
    run = start_slowly(small, tool)
    names = {process: " ".join(process.cmdline()[:2]) for process in processes(small)}
    killed = [process for process, name in names.items() if victim in name]
    assert killed, names
    for process in killed:
        process.kill()
    run.communicate(timeout=300)
    wait_for(lambda: not processes(small))
    assert_finishes(small, tool)


def test_results_that_come_back_after_a_kill_count_as_whole(small):
    table, run = small.table(), start_slowly(small, "snakemake")
    run.kill()
    run.communicate(timeout=300)
    wait_for(lambda: not processes(small))
    assert list((small.folder / ".snakemake/incomplete").iterdir())
    (small.folder / "slow").unlink()
    small.run("git", "checkout", "--", ".")
    small.run("dvc", "checkout", "--force")
    assert small.table() == table and small.planned() == {} and is_clean(small)


@pytest.mark.parametrize(
    ("run", "written", "works_on"),
    [
        ("123 on {host}", "123 on {host}", False),  # nobody holds the lock: the run has ended
        ("123 on {host}", "456 on {host}", False),  # another run has it
        ("123 on elsewhere", "", True),  # a cluster's other node, which sees neither lock nor content
    ],
)
def test_a_job_that_starts_when_its_run_is_dead_ends_at_once(small, run, written, works_on):
    lock, host = small.folder / "lock", socket.gethostname()
    lock.write_text(written.format(host=host))
    (small.folder / "slow").touch()
    with lock.open() as holder:
        if written.startswith("456"):
            fcntl.flock(holder, fcntl.LOCK_EX)
        command = (
            "env",
            f"DMEMM_RUN_LOCK={lock}",
            f"DMEMM_RUN={run.format(host=host)}",
            "python",
            "slow.py",
            "job.txt",
        )
        job = small.start(*command)
        if works_on:
            wait_for((small.folder / "job.checkpoint.safetensors").exists)
            time.sleep(1)
            assert job.poll() is None
            (small.folder / "slow").unlink()
        job.communicate(timeout=60)
    assert (job.returncode == 0) == works_on


@pytest.mark.parametrize("tool", ["snakemake", pytest.param("dvc", marks=pytest.mark.long)])
def test_ctrl_c_leaves_no_process_and_no_lock(small, tool):
    run = start_slowly(small, tool)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=300)
    assert run.returncode != 0
    wait_for(lambda: not processes(small))
    assert_finishes(small, tool)


@pytest.mark.parametrize("tool", ["snakemake", pytest.param("dvc", marks=pytest.mark.long)])
def test_a_run_killed_again_and_again_gets_there(small, tool):
    small.set(lambda_tr=0.2)
    command = {"snakemake": TOOLS["snakemake"], "dvc": ("dvc", "repro")}[tool]
    start = time.monotonic()
    small.start(*command).communicate()
    whole = time.monotonic() - start
    small.set(lambda_tr=0.3)
    rng = random.Random(0)
    for _ in range(5):
        run = small.start(*command)
        time.sleep(rng.uniform(0.2, 1.0) * whole)
        run.kill()
        run.communicate(timeout=300)
    small.run(*command)
    small.run("snakemake", "all")  # which also records what the last killed run has left
    assert small.table().count("lambda_tr=0.3") == 2 and small.planned() == {} and is_clean(small)


def test_a_second_run_in_the_folder_is_refused_in_one_line(small):
    lock = small.folder / "dmemm/run_lock.py"
    assert "PATIENCE = 5.0" in lock.read_text()
    lock.write_text(lock.read_text().replace("PATIENCE = 5.0", "PATIENCE = 0.5"))
    first = start_slowly(small, "snakemake")
    output = small.run("snakemake", "results/table.csv", fails=True)
    (line,) = [line for line in output.splitlines() if line.strip() and not line.startswith("Using workflow specific")]
    assert f"another run is at work in this folder (process {first.pid} on " in line
    assert "another run is at work" in small.run("dvc", "repro", fails=True)
    assert small.planned()["table1"] == 1  # a dry run is no second run
    (small.folder / "slow").unlink()
    first.communicate(timeout=300)
    assert first.returncode == 0 and small.table().count("lambda_tr=0.2") == 2
    assert small.planned() == {} and is_clean(small)


def test_a_run_killed_before_it_recorded_its_results_is_recorded_by_the_next(small):
    small.set(lambda_tr=0.2)
    small.run("snakemake", "--no-hooks", "all")
    (small.folder / ".snakemake/unrecorded").touch()  # as the hook of the first job does
    assert small.planned() == {} and not is_clean(small)
    small.run("snakemake", "all")
    assert small.planned() == {} and is_clean(small)


@pytest.mark.parametrize("damage", ["edited", "truncated"])
def test_a_damaged_artifact_is_named_by_dvc_and_brought_back(small, damage):
    model = small.folder / "results/models/walker2d-medium/seed0.txt"
    content, table = model.read_text(), small.table()
    model.unlink()  # a link into the cache, maybe
    model.write_text("by hand\n" if damage == "edited" else content[:3])
    assert re.search(r"modified: +results/models$", small.run("dvc", "status"), re.M)
    small.run("dvc", "checkout", "--force", "results/models")
    assert model.read_text() == content and small.table() == table
    assert small.planned() == {} and is_clean(small)


@pytest.mark.parametrize("length", [0, 20])
def test_a_dvc_lock_cut_short_is_made_again(small, length):
    """As DVC leaves it that is killed while it writes."""
    lock = small.folder / "dvc.lock"
    lock.write_bytes(lock.read_bytes()[:length])
    assert small.planned() == {}
    small.set(alpha=0.5)
    small.run("snakemake", "all")
    assert small.planned() == {} and is_clean(small)


@pytest.mark.parametrize("days", [-400, 400])
def test_times_alone_rerun_nothing(small, days):
    moment = time.time() + days * 86400
    for path in [*small.folder.glob("results/**/*.*"), small.folder / "code.py"]:
        os.utime(path, (moment, moment))
    assert small.planned() == {} and is_clean(small)


@pytest.fixture
def disk(tmp_path):
    """A small disk: its folder, and a way to give it another size or to write-protect it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")

    def change(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    yield folder, change
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("trouble", "said", "cure"),
    [
        ("size=64k", "dmemm: data/raw/hopper-medium.hdf5: cannot write: No space left on device; free", "size=64m"),
        ("ro", "Read-only file system", "rw,size=64m"),  # of the first file that cannot be written
    ],
)
def test_a_full_or_write_protected_disk_is_named_and_the_same_command_finishes(tmp_path, disk, trouble, said, cure):
    project = copy_project(tmp_path)
    folder, change = disk
    (project.folder / "data").symlink_to(folder)
    (folder / "raw").mkdir()
    change(trouble)
    raw = "data/raw/hopper-medium.hdf5"
    output = project.run("snakemake", raw, fails=True)
    assert said in output
    change(cure)
    assert {path.name for path in folder.rglob("*.*")} <= {"records.json"}
    project.run("snakemake", raw)
    assert project.planned(raw) == {}


@pytest.mark.parametrize("tool", ["snakemake", pytest.param("dvc", marks=pytest.mark.long)])
def test_a_disk_that_is_full_for_every_file_spoils_nothing(small, disk, tool):
    folder, change = disk
    change("size=64m")
    shutil.copytree(small.folder, folder / "small", symlinks=True)
    project = Project(folder / "small")
    project.set(lambda_tr=0.2)
    command = {"snakemake": TOOLS["snakemake"], "dvc": ("dvc", "repro")}[tool]
    with (folder / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    project.run(*command, fails=True)
    (folder / "filler").unlink()
    project.run(*command)
    assert project.table().count("lambda_tr=0.2") == 2
    assert project.planned() == {} and is_clean(project)
