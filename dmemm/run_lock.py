"""One run at a time in a folder, and no job that outlives its run.

A run of Snakemake holds a kernel lock on a file. The kernel releases the lock when the process ends, for whatever
reason. Each job of the run waits for the lock in a thread, and ends as soon as it gets the lock.
"""

import _thread
import atexit
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO

from dmemm.errors import UserError

LOCK = Path(".snakemake/run.lock")
PATIENCE = 5.0  # seconds: the jobs of a killed run need a moment to end
_held: list[IO[str]] = []  # open until the process ends


def begin() -> None:
    """Lock the folder for this process, a run of Snakemake.

    Raises:
        UserError: another run is active here, or a run that another machine started here has not recorded its end.
    """
    try:
        LOCK.parent.mkdir(exist_ok=True)
        file = LOCK.open("a+", errors="replace")
    except OSError as error:
        raise _unwritable(error) from error
    deadline = time.monotonic() + PATIENCE
    while not _locked(file):
        if time.monotonic() > deadline:
            raise UserError(
                f"another run is at work in this folder (process {_owner(file)}); wait until it ends or stop it"
            )
        time.sleep(0.1)
    owner, here = _owner(file), f" on {socket.gethostname()}"
    # Kernel locks may be local to a machine: a free one says nothing of a run on another machine.
    if owner and not owner.endswith(here):
        raise UserError(f"a run was started here by process {owner}; if it has ended, delete {LOCK}")
    os.environ["DMEMM_RUN"] = f"{os.getpid()}{here}"
    try:
        file.truncate(0)
        print(os.environ["DMEMM_RUN"], end="", file=file, flush=True)
    except OSError as error:
        raise _unwritable(error) from error
    _held.append(file)
    atexit.register(file.truncate, 0)  # says that the run has ended
    os.environ["DMEMM_RUN_LOCK"] = str(LOCK.resolve())
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()


def follow() -> None:
    """Make this job end, as after Ctrl-C, when the run of Snakemake that started it has ended.

    Otherwise, it could write outdated results after a later run. A job that no run started is not affected.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up; SIGINT is ignored in a script's background
    if lock := os.environ.get("DMEMM_RUN_LOCK"):
        threading.Thread(target=_end_with, args=(lock, os.environ["DMEMM_RUN"]), daemon=True).start()


def _unwritable(error: OSError) -> UserError:
    return UserError(f"{LOCK}: cannot write: {error.strerror}; make the folder writable, free space, or copy it")


def _owner(file: IO[str]) -> str:
    """What the lock says of its run, in one line."""
    file.seek(0)
    return " ".join(file.read(200).split())


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        print(f"snakemake: {LOCK}: cannot be locked ({error.strerror}); start no second run here", file=sys.stderr)
    return True


def _die_with(parent: int) -> None:
    """End this process when its DVC is gone: nobody would record what it makes."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _end_with(lock: str, run: str) -> None:
    """Wait until the run of Snakemake that started this job is gone, then end the job.

    Args:
        lock: the file that the run keeps locked.
        run: what the run has written into it; its end is the name of the run's machine.
    """
    here = run.endswith(f" on {socket.gethostname()}")
    try:
        with open(lock) as file:
            if not here or file.read() == run:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    if not here:  # on a cluster's other nodes a free lock may only mean that locks do not reach there
                        return
                except BlockingIOError:
                    fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return
    _thread.interrupt_main(signal.SIGTERM)
