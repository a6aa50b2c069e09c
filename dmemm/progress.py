"""Progress of long work: a bar in a terminal, a plain line every ten seconds elsewhere."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import tqdm


class _Lines(tqdm):
    """Prints lines that end, as logs want them, where tqdm would redraw one."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def show(text: str) -> None:
            if text.strip():
                file.write(text + "\n")
                file.flush()

        return show


def progress(work: Iterable[Any] | int, description: str, done: int = 0) -> "tqdm[Any]":
    """Show the progress of iterating over `work`, or of `.update(n)` calls from `done` to `work`, a number."""
    terminal = sys.stderr.isatty()
    iterable, total = (None, work) if isinstance(work, int) else (work, None)
    bar = tqdm if terminal else _Lines
    return bar(
        iterable, total=total, initial=done, desc=description, mininterval=0.1 if terminal else 10, maxinterval=10
    )
