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
    """SafeLoader (the fast one) that reads numbers with an exponent as YAML 1.2 does, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))
_NESTED = 100  # nested collections; at about 50000 LibYAML's parser crashes the process


def parse_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        ValueError: the text is not valid YAML, or a value does not fit its tag.
    """
    depth = 0
    try:
        for event in yaml.parse(text, YamlLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _NESTED:
                raise ValueError(f"more than {_NESTED} collections in each other")
        return yaml.load(text, YamlLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, LookupError, AttributeError, TypeError) as error:  # PyYAML raises all of these
        raise ValueError(" ".join(str(error).split())) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only if the block succeeds.

    Raises:
        UserError: the folder or the file cannot be written (permissions, disk full), or the path names no file.
    """
    if not path.name:
        raise UserError(f"{path}: names no file; give the path of the file to write")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # an unwritable folder shows here, with the system's message
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        full = os.strerror(errno.ENOSPC)  # h5py and safetensors wrap the system's message in errors of their own
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
    """Write `value` as indented JSON.

    Raises:
        UserError: a number is NaN or infinite, which JSON cannot hold, or the file cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path}: not written, a number is not finite; look for outliers in the data") from error
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run the stage that makes it") from error
    except (ValueError, RecursionError) as error:  # also bytes that are not text, or a number of thousands of digits
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the stage that makes it again") from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: the file is missing or is not YAML.
    """
    try:
        return parse_yaml(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run in the project's folder") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
