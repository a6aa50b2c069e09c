"""The view of a whole run: its estimate of the time left, and what it shows in a terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_dmemm.run import Run

from ..checkout import ROOT
from .test_faults import wait_for

BENCHMARK = "s\th:m:s\n{}\t0:00:00\n"
SNAKEFILE = """
rule all:
    input: expand("out/{task}/seed{seed}.txt", task=["maze", "hopper"], seed=[7])

rule train:
    output: "out/{task}/seed{seed}.txt"
    log: "logs/train/{task}/seed{seed}.log"
    benchmark: "logs/train/{task}/seed{seed}.tsv"
    shell:
        "trap 'sleep 1; exit 130' INT; echo 'train:  40%|####      | 4/10 [00:02<00:03, 2it/s, loss=1]' > {log};"
        " while test -e wait; do sleep 0.1; done; if test -e fail; then echo the disk is full >> {log}; exit 3; fi;"
        " if test -e warn; then echo '!! {wildcards.task}: clipped' >> {log}; fi; touch {output}"
"""


def start(run: Run, job: int, rule: str) -> None:
    run.take(LogEvent.JOB_INFO, {"jobid": job, "rule_name": rule, "wildcards": {}, "log": []})


def test_time_left_is_that_of_the_jobs_left_in_this_run_or_else_in_earlier_ones(tmp_path: Path) -> None:
    for path, text in (
        ("evaluate/dmemm/maze/seed0.tsv", BENCHMARK.format(30.0)),
        ("evaluate/diffuser.tsv", BENCHMARK.format(50.0)),
        ("train.tsv", "damaged"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    now = 1000.0
    run = Run(clock=lambda: now, logs=tmp_path)
    run.take(LogEvent.RUN_INFO, {"stats": {"train": 6, "evaluate": 4, "all": 1, "total": 11}})
    assert run.left() is None  # 6 of 11 jobs unknown
    start(run, 1, "train")
    start(run, 2, "train")
    now += 100
    run.take(LogEvent.JOB_FINISHED, {"job_id": 1})
    # Four trainings to begin and one that ought to end now, four evaluations of 40 s, by two.
    assert run.left() == (pytest.approx((4 * 100 + 0 + 4 * 40) / 2), True)
    start(run, 3, "evaluate")
    now += 20
    run.take(LogEvent.JOB_FINISHED, {"job_id": 2})  # after 120 s: 110 s on average
    assert run.left() == (pytest.approx((4 * 110 + 3 * 40 + 20) / 2), True)
    now += 30
    run.take(LogEvent.JOB_FINISHED, {"job_id": 3})  # after 50 s, which counts instead of what earlier runs took
    assert run.left() == (pytest.approx((4 * 110 + 3 * 50) / 2), True)
    for job, rule in enumerate(["evaluate"] * 3 + ["train"] * 4, start=4):
        start(run, job, rule)
    now += 10
    assert run.left() == (pytest.approx(110 - 10), True)  # of seven side by side, the longest
    for job in range(4, 10):
        run.take(LogEvent.JOB_FINISHED, {"job_id": job})
    run.take(LogEvent.JOB_ERROR, {"jobid": 10})
    assert run.failed == {10} and not run.running
    assert run.done == {"train": 5, "evaluate": 4}


@pytest.mark.parametrize(
    ("unknown", "left"), [(1, (540.0, True)), (2, (540.0, False)), (9, (540.0, False)), (10, None)]
)
def test_jobs_without_a_known_time_count_as_nothing(tmp_path: Path, unknown: int, left: object) -> None:
    (tmp_path / "train.tsv").write_text(BENCHMARK.format(60.0))
    run = Run(clock=lambda: 0.0, logs=tmp_path)
    run.take(LogEvent.RUN_INFO, {"stats": {"train": 9, "evaluate": unknown, "total": 9 + unknown}})
    assert run.left() == left


def test_a_job_at_work_takes_no_less_than_its_bar_says(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(
        "train:  10%|#   | 1/10 [00:10<01:30, 9s/it]\ntrain:  28%|##  | 3/10 [09:00<1:02:05, 9s/it, loss=1]\n"
    )
    run = Run(clock=lambda: 0.0, logs=tmp_path)
    (tmp_path / "train.tsv").write_text(BENCHMARK.format(60.0))
    run.take(LogEvent.RUN_INFO, {"stats": {"train": 1, "total": 1}})
    run.take(LogEvent.JOB_INFO, {"jobid": 1, "rule_name": "train", "wildcards": {}, "log": [str(log)]})
    assert run.left() == (3725.0, True)


class Terminal:
    """A run of Snakemake in a terminal of 80 columns; `text` is what it has drawn so far, without colours."""

    def __init__(self, folder: Path, *options: str) -> None:
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "logs").mkdir()
        (folder / "logs/train.tsv").write_text(BENCHMARK.format(600.0))
        self.drawn, (self.end, terminal) = b"", pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--show-failed-logs", "--logger", "dmemm", *options],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}, stdin=subprocess.DEVNULL,
            stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        os.close(terminal)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        try:
            while data := os.read(self.end, 65536):
                self.drawn += data
        except OSError:  # the last process that had it open has ended
            os.close(self.end)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.drawn.decode(errors="replace"))

    def finish(self) -> int:
        self.process.wait(timeout=120)
        self.reader.join(timeout=120)
        return self.process.returncode


def test_a_terminal_shows_what_runs_what_is_left_and_until_when(tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    run = Terminal(tmp_path)
    wait_for(lambda: len(re.findall("40%, 00:03 left", run.text)) >= 2)
    assert re.search(r"0 of 3 jobs done in 0:\d\d:\d\d; about 10 min left, until (\w+ )?\d\d:\d\d", run.text)
    assert re.search(r"train maze seed 7 +since \d\d:\d\d:\d\d 40%, 00:03 left", run.text)
    assert re.search(r"train hopper seed 7 +since \d\d:\d\d:\d\d 40%, 00:03 left", run.text)
    assert "train 0/2, all 0/1" in run.text
    (tmp_path / "wait").unlink()
    assert run.finish() == 0
    assert "3 of 3 jobs done" in run.text and "train 2/2, all 1/1" in run.text
    assert "rule train:" not in run.text and "Select jobs" not in run.text


def test_a_job_that_fails_tells_all_of_its_error(tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    run = Terminal(tmp_path)
    assert run.finish() == 1
    for words in ("Error in rule train:", "log: logs/train/maze/seed7.log", "the disk is full", "failed, see above"):
        assert words in run.text
    assert "0 of 3 jobs done" in run.text.rpartition("the disk is full")[2]


@pytest.mark.parametrize("options", [(), ("--printshellcmds",)])
def test_what_a_job_warns_of_in_its_log_is_shown_in_the_view_and_among_the_lines(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "warn").touch()
    run = Terminal(tmp_path, *options)
    assert run.finish() == 0
    assert sorted(re.findall(r"^!! .*: clipped", run.text.replace("\r", ""), re.MULTILINE)) == [
        "!! hopper: clipped",
        "!! maze: clipped",
    ]


def test_ctrl_c_ends_the_view_and_lists_no_errors(tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    run = Terminal(tmp_path)
    wait_for(lambda: "40%" in run.text)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.finish() == 1
    after = run.text.partition("Terminating processes on user request")[2]
    assert after and "Error in rule" not in after and "of 3 jobs done" not in after


def test_a_dry_run_prints_lines_in_a_terminal_too(tmp_path: Path) -> None:
    run = Terminal(tmp_path, "--dry-run")
    assert run.finish() == 0
    assert "rule train:" in run.text and "jobs done" not in run.text and "This was a dry-run" in run.text
