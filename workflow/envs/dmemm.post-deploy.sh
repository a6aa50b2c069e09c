#!/usr/bin/env bash
# Install the exact versions of requirements.lock into the environment. To have an edit of the lock noticed, delete
# .snakemake/conda/.
set -euo pipefail
python -m pip install --requirement requirements.lock
