"""One run at a time in a folder; whatever way a run ends, the next one can start.

Snakemake's own lock is a list of files that a killed run leaves behind, and a killed run's jobs work on. The kernel's
lock on a file ends with the process that holds it: where it is free, no run is under way and what Snakemake left is
stale; and each job waits for it, and ends when it gets it (dmemm/__main__.py).
"""

import fcntl
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import IO

from dmemm.errors import UserError

LOCK = Path(".snakemake/run.lock")
PATIENCE = 5.0  # seconds: the jobs of a killed run need a moment to end
_held: list[IO[str]] = []  # open until the process ends


def begin(dryrun: bool) -> None:
    """Take the folder for this process; a dry run only tidies up and never waits.

    Raises:
        UserError: another run is at work here.
    """
    LOCK.parent.mkdir(exist_ok=True)
    file = LOCK.open("a+")
    deadline = time.monotonic() + (0 if dryrun else PATIENCE)
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            if dryrun:
                return
            file.seek(0)
            raise UserError(
                f"another run is at work in this folder (process {file.read()}); wait until it ends or stop it"
            ) from None
        except OSError:
            return  # a file system without such locks: Snakemake's own remains
    for stale in LOCK.parent.glob("locks/*.lock"):
        stale.unlink()
    if dryrun:
        file.close()
        return
    file.truncate(0)
    os.environ["DMEMM_RUN"] = f"{os.getpid()} on {socket.gethostname()}"
    print(os.environ["DMEMM_RUN"], end="", file=file, flush=True)
    _held.append(file)
    os.environ["DMEMM_RUN_LOCK"] = str(LOCK.resolve())
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """DVC deletes a stage's outputs when it runs it again: going on after a killed DVC would be for nothing."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
