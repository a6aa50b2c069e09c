"""A job that works as long as the file `slow` is there, and goes on from its checkpoint, as dmemm's training does."""

import runpy
import sys
import time
from pathlib import Path

import dmemm.cli


def main() -> int:
    checkpoint = Path(sys.argv[1]).with_suffix(".checkpoint.safetensors")
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with open("slow.log", "a") as log:
        print(f"from step {step}", file=log)
    try:
        while Path("slow").exists():
            step += 1
            temporary = checkpoint.with_suffix(".tmp")
            temporary.write_text(str(step))
            temporary.replace(checkpoint)
            time.sleep(0.05)
    except KeyboardInterrupt:
        return 130
    checkpoint.unlink(missing_ok=True)
    return 0


dmemm.cli.main = main
runpy.run_module("dmemm", run_name="__main__")
