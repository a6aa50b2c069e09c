"""In the place of dmemm/__main__.py: every stage takes no time and writes a digest of all that it was given."""

import hashlib
import json
import sys
from pathlib import Path

files = [Path(argument) for argument in sys.argv if argument.startswith(("data/", "results/"))]
digest = hashlib.sha256(repr(sys.argv[1:]).encode())
for file in files:
    if file.exists():
        digest.update(file.read_bytes())
for file in files:
    if not file.exists():
        file.write_text(json.dumps({"digest": digest.hexdigest()}))
