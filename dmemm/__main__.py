"""`python -m dmemm STAGE`."""

import sys

from dmemm.cli import main

if __name__ == "__main__":
    sys.exit(main())
