"""Artifacts on disk: either whole or not there at all."""

import csv
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from dmemm.errors import UserError

# 3e-05 and 1e-4, which DVC writes and YAML 1.2 reads as numbers, but PyYAML as text.
EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class YamlLoader(yaml.CSafeLoader):
    """SafeLoader (the fast one) that reads numbers with an exponent as YAML 1.2 does."""


YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only if the block succeeds.

    Raises:
        UserError: the folder or the file cannot be written (permissions, disk full).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        full = os.strerror(errno.ENOSPC)  # h5py and safetensors raise errors of their own, with the system's words
        if full in str(error):
            reason = full
        elif isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else str(error)
        else:
            raise
        raise UserError(f"{path}: cannot write: {reason}; free space or choose another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a header and a line for each row; a column that a row lacks is left empty."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinity are refused, as JSON has neither."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run the stage that makes it") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the stage that makes it again") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: the file is missing or is not YAML.
    """
    try:
        return yaml.load(path.read_text(), YamlLoader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run in the project's folder") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
