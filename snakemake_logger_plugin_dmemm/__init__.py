"""One view of a whole run in a terminal, Snakemake's own lines elsewhere: `--logger dmemm`, as profiles/default has it.

Snakemake finds this package by its name.
"""

import logging
import os
import sys
from typing import Any

from snakemake.logging import ColorizingTextHandler, get_event
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_dmemm.run import Run

PRINTED = (None, LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)  # above the view
INTERRUPTED = "Terminating processes on user request"
ENDS = (INTERRUPTED, "Shutting down", "Exiting because a job execution failed")  # DVC's bars come next


class LogHandler(LogHandlerBase):
    """Show the run as a view in a terminal, with errors above it; print lines elsewhere, or if options require them."""

    writes_to_stream = True
    writes_to_file = has_formatter = has_filter = needs_rulegraph = False

    def __post_init__(self) -> None:
        """Choose between the view and the lines."""
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        self.lines = ColorizingTextHandler(nocolor=settings.nocolor, stream=stream)
        lines = settings.dryrun or settings.verbose or settings.debug_dag or settings.printshellcmds
        quiet = {Quietness.PROGRESS, Quietness.ALL} & set(settings.quiet or ())
        self.view: Any = None
        self.interrupted = False
        self.run = Run()
        if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not lines and not quiet:
            from snakemake_logger_plugin_dmemm.view import View  # rich takes its time to import

            self.view = View(self.run, settings.nocolor)
            self.has_filter = True  # `--quiet rules` hides lines, not jobs

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, or show what it tells; then print what a job that has ended warns of."""
        if self.view is None:
            self.lines.setFormatter(self.formatter)
            self.lines.emit(record)
        try:
            event, message, about = get_event(record), record.getMessage(), vars(record)
            ended = self.run.running.get(about["job_id"]) if event == LogEvent.JOB_FINISHED else None
            warnings = ended.warnings() if ended else []  # which the job has printed to its log only
            if self.view is None:
                if event != LogEvent.RUN_INFO:  # nobody asks for the time left
                    self.run.take(event, about)
                for warning in warnings:
                    print(warning, file=self.lines.stream)
                return
            for warning in warnings:
                self.view.print(warning)
            self.view.take(event, about)
            if event is None and message.startswith(ENDS):
                self.view.stop()
                self.interrupted |= message.startswith(INTERRUPTED)
            # After Ctrl-C every job has an error to tell.
            if event in PRINTED and not (event and self.interrupted) and not message.startswith("Select jobs"):
                self.view.print(self.lines.decorate(record, self.format(record)))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the view as it was at the end of the run."""
        if self.view:
            self.view.stop()
        super().close()
