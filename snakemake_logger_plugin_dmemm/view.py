"""Draws a run in the terminal, once a second."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_dmemm.run import Job, Run


class View:
    """Jobs done and left, the time until the end, and what each job at work does."""

    def __init__(self, run: Run, nocolor: bool) -> None:
        """Draw nothing yet."""
        self.run, self.ended = run, False
        self.start = self.run.clock()
        self.console = Console(stderr=True, no_color=nocolor or None, highlight=False)
        self.live = Live(
            get_renderable=self.draw, refresh_per_second=1, console=self.console, redirect_stdout=sys.stdout.isatty()
        )

    def take(self, event: LogEvent | None, about: Mapping[str, Any]) -> None:
        """Take what an event tells; draw from the plan of the run until its last job."""
        self.run.take(event, about)
        if event == LogEvent.RUN_INFO:
            self.live.start()
        elif event == LogEvent.JOB_FINISHED and self.run.done == self.run.total:
            self.stop()

    def print(self, text: str) -> None:
        """Print above the view."""
        self.console.print(Text.from_ansi(text), soft_wrap=True)

    def stop(self) -> None:
        """Draw for the last time."""
        self.ended = True
        self.live.stop()

    def draw(self) -> RenderableType:
        """Return the view; what is too high for the terminal is cut off below."""
        run, table = self.run, Table.grid()
        total, done = run.total.total(), run.done.total()
        end = f"; {len(run.failed)} failed, see above" if run.failed else "" if self.ended else f"; {self.until()}"
        table.add_row(Text(f"{done} of {total} jobs done in {timedelta(seconds=int(run.clock() - self.start))}{end}"))
        table.add_row(ProgressBar(total=max(total, 1), completed=done, width=min(self.console.width, 80)))
        table.add_row(Text(", ".join(f"{rule} {run.done[rule]}/{jobs}" for rule, jobs in run.total.items())))
        at_work = Table.grid(padding=(0, 1))
        for job in list(run.running.values()):
            at_work.add_row(*line(job))
        return table if self.ended else Group(table, at_work, "")  # in the last line there is room for ^C

    def until(self) -> str:
        """Say when the run ends."""
        if (estimate := self.run.left()) is None:
            return "time left: –"
        seconds, whole = estimate
        minutes, now = max(round(seconds / 60), 1), self.run.clock()
        left = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
        day = "%a " if time.localtime(now)[:3] != time.localtime(now + seconds)[:3] else ""
        end = time.strftime(f"{day}%H:%M", time.localtime(now + seconds))
        return f"{'about' if whole else 'at least'} {left} left, until {end}"


def line(job: Job) -> tuple[str, str, str, str]:
    """Return a job's rule, its wildcards, since when it runs, and what the last bar in its log says."""
    name = " ".join(f"seed {value}" if key == "seed" else value for key, value in job.wildcards.items())
    progress = "{}, {} left".format(*bar) if (bar := job.bar()) else ""
    return job.rule, name, time.strftime("since %H:%M:%S", time.localtime(job.start)), progress
