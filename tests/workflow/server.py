"""Runs Snakemake, DVC and the stages in forks of a process that has imported what they import, for its clients.

The project's own modules are not imported here, so that each command imports those of its folder.

    python server.py SOCKET
"""

import atexit
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import NoReturn

PARENT = os.getppid()
LISTENER = socket.socket(socket.AF_UNIX)
LISTENER.bind(sys.argv[1])
LISTENER.listen()
LISTENER.settimeout(1)
print("listens", flush=True)  # and accepts after the imports

import dvc.cli  # noqa: E402
import dvc.cli.parser  # noqa: E402
import dvc.repo  # noqa: E402, F401
import gymnasium  # noqa: E402, F401
import jsonschema  # noqa: E402, F401
import ruamel.yaml  # noqa: E402, F401
import scmrepo.git  # noqa: E402, F401
import smart_open  # noqa: E402, F401
import snakemake.cli  # noqa: E402
import torch._dynamo  # noqa: E402, F401


def stage() -> None:
    """`python -m dmemm`."""
    sys.argv = sys.argv[2:]
    runpy.run_module("dmemm", run_name="__main__", alter_sys=True)


MAINS = {"snakemake": snakemake.cli.main, "dvc": dvc.cli.main, "python": stage}


def answer(client: socket.socket) -> None:
    """Run the client's command in a process with its own session; its parent sends the exit code to the client."""
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    command, folder, environment = json.load(client.makefile())
    if process := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with suppress(BrokenPipeError):
            client.sendall(str(code).encode())
        os._exit(0)
    client.close()
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = command
    sys.executable = str(shutil.which("python"))  # the rules put its folder before the PATH
    try:
        code = MAINS[command[0]]()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    leave(code)


def leave(code: object) -> NoReturn:
    """End as the interpreter does, but without freeing all objects, which takes a third of a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def serve() -> None:
    """Answer until the process that started this one has ended."""
    snakemake.cli.get_argument_parser()  # finds the plugins
    dvc.cli.parser.get_main_parser()
    gc.freeze()  # or each fork copies all pages to collect garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while os.getppid() == PARENT:
        with suppress(TimeoutError):
            client, _ = LISTENER.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                LISTENER.close()
                answer(client)
            client.close()


if __name__ == "__main__":
    serve()
