"""D4RL's own files (Fu et al., 2020): found in D4RL's cache folder or downloaded to it, and verified."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmemm.data.http import fetch
from dmemm.errors import UserError
from dmemm.files import replacing

# A sound file's statistics differ from the published ones by rounding and by what counts as the last episode.
_TOLERANCE = 0.05  # of the returns' deviation


def cache_folder() -> Path:
    """Return the folder in which D4RL keeps its downloads."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def find(known: Mapping[str, Any], mirrors: Sequence[str]) -> Path:
    """Return the data set's file; download it if it is missing, and verify its SHA-256.

    If no SHA-256 is published for a file, its first use records the SHA-256 beside the file, and later uses check it.

    Args:
        known: `file`, its path below a mirror, and where known `bytes` and `sha256`.
        mirrors: base URLs in order; with `<name>` in place of a path, the file's bare name is put there.

    Raises:
        UserError: no mirror delivers the file, or its SHA-256 is not the published or recorded one.
    """
    name = Path(known["file"]).name
    path = cache_folder() / name
    record = path.with_name(f"{name}.sha256")
    expected = known.get("sha256") or (_recorded(record) if record.is_file() else None)
    if path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if expected not in (None, found):
            raise UserError(f"{path}: its SHA-256 is {found}, not {expected}; delete it, it will be downloaded again")
    else:
        urls = [m.replace("<name>", name) if "<name>" in m else f"{m.rstrip('/')}/{known['file']}" for m in mirrors]
        found = fetch(urls, path, size=known.get("bytes"), sha256=expected)
    if expected is None:
        try:
            with replacing(record) as temporary:
                temporary.write_text(f"{found}  {name}\n")
        except UserError as error:  # a cache that is shared may be read-only
            print(f"dmemm: {error}; later uses cannot check {name}", file=sys.stderr)
    return path


def _recorded(record: Path) -> str:
    words = record.read_text(errors="replace").split()
    if not words:
        raise UserError(f"{record}: holds no SHA-256; delete it, and the data set beside it unless you trust that")
    return words[0]


def differences(statistics: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Return the statistics that differ from D4RL's published ones, one line each."""
    told = []
    if "transitions" in known and statistics["transitions"] != known["transitions"]:
        told.append(f"{statistics['transitions']} transitions, D4RL's has {known['transitions']}")
    for key, text in (("return_mean", "mean return"), ("return_std", "deviation of returns")):
        if key in known and abs(statistics[key] - known[key]) > _TOLERANCE * known["return_std"]:
            told.append(f"{text} {statistics[key]:.0f}, D4RL's has {known[key]}")
    return told
