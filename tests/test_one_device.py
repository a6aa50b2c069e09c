"""The tests of one_device.py, in a process of their own: autograd asks for the devices at its first use."""

import subprocess
import sys

from tests.checkout import ROOT


def test_no_step_mixes_devices() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/one_device.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
