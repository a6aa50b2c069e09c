"""Checksums of files, as dvc.lock and Snakemake's records have them; a file that has not changed is read once."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path


def has_checksum(path: str, checksum: str | None) -> bool:
    """Whether a file is there and has a checksum `algorithm:digest`, or a bare one of SHA-256."""
    if checksum is None or not os.path.exists(path):
        return False
    algorithm, _, digest = checksum.rpartition(":")
    return _digest(path, algorithm or "sha256") == digest


def md5_of(path: str) -> str:
    """What DVC knows a file by."""
    return _digest(path, "md5")


def named_checksums(deps: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """The checksum of each file, from a stage's `deps` in dvc.lock; none of a folder that is another by now."""
    for dep in deps:
        if not dep["md5"].endswith(".dir"):
            yield dep["path"], f"md5:{dep['md5']}"
            continue
        # dvc.lock has one hash for a folder: its files are known if the folder is still the one it names.
        md5s = {str(path): md5_of(str(path)) for path in _files(Path(dep["path"]))}
        listing = [{"md5": md5, "relpath": os.path.relpath(path, dep["path"])} for path, md5 in md5s.items()]
        if _listing_hash(listing) == dep["md5"]:
            yield from ((path, f"md5:{md5}") for path, md5 in md5s.items())


def _files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _listing_hash(listing: list[dict[str, str]]) -> str:
    """DVC's hash of a folder."""
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _digest(path: str, algorithm: str) -> str:
    return _cached_digest(path, os.stat(path).st_mtime_ns, algorithm)


@cache
def _cached_digest(path: str, mtime_ns: int, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
