"""Stands for `snakemake`, `dvc` and `python -m dmemm` on the PATH of tests: server.py runs the command in a fork."""

import json
import os
import socket
import sys


def main() -> int:
    """Send the command and the standard files to the server; return the exit code."""
    folder, name = os.path.split(__file__)
    if name == "python" and sys.argv[1:3] != ["-m", "dmemm"]:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.path.join(folder, os.pardir, "socket"))
        socket.send_fds(server, [b"."], [0, 1, 2])
        server.sendall(json.dumps([[name, *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode())
        server.shutdown(socket.SHUT_WR)
        return int(server.recv(16))


if __name__ == "__main__":
    sys.exit(main())
