"""`python -m dmemm STAGE`."""

import sys

from dmemm import run_lock
from dmemm.cli import main

if __name__ == "__main__":
    run_lock.follow()
    sys.exit(main())
