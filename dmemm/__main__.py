"""`python -m dmemm STAGE`."""

import _thread
import fcntl
import os
import signal
import socket
import sys
import threading

from dmemm.cli import main


def _end_with(lock: str, run: str) -> None:
    """Wait until the run of Snakemake that started this job is gone, then end the job as Ctrl-C does.

    A job that outlived its run would write old results into a folder that others hold current.

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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up; SIGINT is ignored in a script's background
    if lock := os.environ.get("DMEMM_RUN_LOCK"):
        threading.Thread(target=_end_with, args=(lock, os.environ["DMEMM_RUN"]), daemon=True).start()
    sys.exit(main())
