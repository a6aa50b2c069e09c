"""`python -m dmemm STAGE`."""

import _thread
import fcntl
import os
import signal
import sys
import threading

from dmemm.cli import main


def _end_with(lock: str) -> None:
    """Wait until the run of Snakemake that started this job is gone, then end the job as Ctrl-C does.

    A job that outlived its run would write old results into a folder that others hold current.
    """
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            _thread.interrupt_main(signal.SIGTERM)
    except OSError:
        pass
    # Else the file system has no such locks, or none that reach a cluster's other nodes.


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up; SIGINT is ignored in a script's background
    if lock := os.environ.get("DMEMM_RUN_LOCK"):
        threading.Thread(target=_end_with, args=(lock,), daemon=True).start()
    sys.exit(main())
