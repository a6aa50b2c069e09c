"""What a run of Snakemake has done, what it does and what is left, and how long that takes."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from statistics import fmean
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

WARNING = "!! "  # how a line of a log begins that warns of the data
BAR = re.compile(r"(\d+%)\|.*\[[\d:]+<([\d:]+)")  # of dmemm.progress


@dataclass
class Job:
    """A job at work since `start`, in seconds of the run's clock."""

    rule: str
    wildcards: Mapping[str, str]
    log: list[str]
    start: float

    def bar(self) -> tuple[str, str] | None:
        """Return the share done and the time left by the last bar in the job's log, such as 28% and 03:48."""
        with suppress(OSError, IndexError):
            share, left = BAR.findall(Path(self.log[0]).read_text(errors="replace")[-4000:])[-1]
            return share, left
        return None

    def warnings(self) -> list[str]:
        """Return the lines of the job's log that warn of the data."""
        with suppress(OSError, IndexError):
            lines = Path(self.log[0]).read_text(errors="replace").splitlines()
            return [line for line in lines if line.startswith(WARNING)]
        return []

    def rest(self, now: float, expected: float) -> float:
        """Return the seconds left: the expected time minus the time so far, but at least what the job's bar says."""
        bar = self.bar()
        by_bar = reduce(lambda seconds, part: 60 * seconds + int(part), bar[1].split(":"), 0) if bar else 0
        return max(expected - (now - self.start), by_bar)


@dataclass
class Run:
    """Counts and times the jobs of each rule by Snakemake's events."""

    clock: Callable[[], float] = time.time
    logs: Path = Path("logs")  # with Snakemake's benchmarks of earlier runs, RULE.tsv or RULE/**.tsv
    total: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    running: dict[int, Job] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    earlier: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    side_by_side: int = 1  # jobs, after the last start of one

    def take(self, event: LogEvent | None, about: Mapping[str, Any]) -> None:
        """Take what an event tells."""
        if event == LogEvent.RUN_INFO:
            self.total = Counter({rule: jobs for rule, jobs in about["stats"].items() if rule != "total"})
            for path in self.logs.rglob("*.tsv"):
                with suppress(OSError, ValueError, IndexError):
                    rule = path.relative_to(self.logs).parts[0].removesuffix(".tsv")
                    self.earlier[rule].append(float(path.read_text().splitlines()[1].split("\t")[0]))
        elif event == LogEvent.JOB_INFO:
            self.running[about["jobid"]] = Job(about["rule_name"], about["wildcards"], about["log"], self.clock())
            self.failed.discard(about["jobid"])  # a retry
            self.side_by_side = len(self.running)
        elif event == LogEvent.JOB_FINISHED and (job := self.running.pop(about["job_id"], None)):
            self.done[job.rule] += 1
            self.seconds[job.rule].append(self.clock() - job.start)
        elif event == LogEvent.JOB_ERROR:
            self.running.pop(about["jobid"], None)
            self.failed.add(about["jobid"])

    def left(self) -> tuple[float, bool] | None:
        """Return the estimated seconds left, and whether nearly all jobs are included; None if most are not.

        A job is expected to take the average time of its rule in this run or, if none has ended, in earlier runs. The
        remaining work is divided among the parallel jobs. The estimate is at least the time left of each running job.
        """
        jobs = self.total - self.done
        known = {rule: self.seconds.get(rule) or self.earlier.get(rule) for rule in jobs}
        times = {rule: fmean(seconds) for rule, seconds in known.items() if seconds}
        times |= {rule: 0.0 for rule in jobs if rule.startswith("all")}  # they only gather
        unknown = sum(jobs[rule] for rule in jobs if rule not in times)
        if unknown > jobs.total() / 2:
            return None
        running = list(self.running.values())
        rest = [job.rest(self.clock(), times.get(job.rule, 0)) for job in running]
        to_begin = jobs - Counter(job.rule for job in running)
        work = sum(seconds * to_begin[rule] for rule, seconds in times.items()) + sum(rest)
        return max([work / self.side_by_side, *rest]), unknown <= jobs.total() / 10
