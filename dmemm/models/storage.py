"""Weights on disk: safetensors with a JSON header, never a pickle."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dmemm.data.raw import OUTDATED
from dmemm.errors import UserError
from dmemm.files import replacing


def save_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and what is needed to rebuild their module."""
    with replacing(path) as temporary:
        # One string, its keys sorted: safetensors would write several in an order that changes from run to run.
        metadata = {"dmemm": json.dumps(header, sort_keys=True)}
        mode = temporary.stat().st_mode
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, temporary, metadata)
        temporary.chmod(mode)  # safetensors replaces the file by one that only its owner can read


def load_weights(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header.

    Raises:
        UserError: the file is missing, damaged, or its header's `kind` is another.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("dmemm", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError as error:
        made = (
            f"make it by `snakemake --cores 2 {path}`" if path.parts[0] == "results" else "run the stage that makes it"
        )
        raise UserError(f"{path}: cannot read weights (no such file); {made}") from error
    except (OSError, SafetensorError, ValueError, RecursionError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot read weights ({reason}); delete it and run the stage that makes it") from error
    if not isinstance(header, dict):
        raise UserError(f"{path}: its header is not a mapping; delete it and run the stage that makes it")
    if header.get("kind") != kind:
        raise UserError(f"{path}: holds {header.get('kind', 'unknown weights')}, but {kind} was expected")
    return tensors, header


def load_artifact(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights that a stage learned from raw data; in the header, `data` is the data's digest, `task` their task.

    Raises:
        UserError: as in `load_weights`; or a weight is not finite, or an earlier version wrote the file without `data`.
    """
    tensors, header = load_weights(path, kind)
    if "data" not in header:
        raise UserError(f"{path}: {OUTDATED}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; delete it and run the stage that makes it")
    return tensors, header


@contextmanager
def rebuilding(path: Path) -> Iterator[None]:
    """Turn an error in building a module from a loaded header and tensors into one line.

    Raises:
        UserError: a key is missing, or a value or a shape does not fit the module.
    """
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: of another version of dmemm ({reason}); train again") from error
