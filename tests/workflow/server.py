"""Runs commands of Snakemake and DVC in forks of a process that has imported both: a start then takes half the time.

Each line of the input is JSON: a command, its folder, its environment and the file for its output. The answer is its
exit code. The project's own modules are not imported here, so that each command imports those of its folder.
"""

import gc
import json
import os
import signal
import sys

import dvc.cli
import dvc.cli.parser
import dvc.repo
import jsonschema  # noqa: F401
import ruamel.yaml  # noqa: F401
import scmrepo.git  # noqa: F401
import smart_open  # noqa: F401
import snakemake.cli

MAINS = {"snakemake": snakemake.cli.main, "dvc": dvc.cli.main}


def run(command: list[str], folder: str, environment: dict[str, str], output: int) -> int:
    """Become what `command` starts in a shell of its own."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = command
    return MAINS[command[0]]() or 0


def serve() -> None:
    snakemake.cli.get_argument_parser()  # finds the plugins
    dvc.cli.parser.get_main_parser()
    gc.freeze()  # or each fork copies all pages to collect garbage
    for line in sys.stdin:
        command, folder, environment, path = json.loads(line)
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if (process := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.exit(run(command, folder, environment, output))
        os.close(output)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
