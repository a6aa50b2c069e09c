"""Ways to damage a file, and what a command must say of it."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from .conftest import contents, edit_weights, own_data, run, write_hdf5

Damage = Callable[[Path], object]
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Case:
    """What a command says of a damaged file."""

    command: str
    file: str
    damage: Damage
    said: str


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def binary(path: Path) -> object:
    return path.write_bytes(b"\xff\xfe\x00\x80" * 20)


def half(path: Path) -> object:
    return path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> object:
    return path.write_bytes(b"")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced(old: str, new: str) -> Damage:
    def damage(path: Path) -> None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return damage


def appended(line: str) -> Damage:
    return lambda path: path.write_text(f"{path.read_text()}{line}\n")


def own(**changes: Any) -> Damage:
    """Own data with other arrays; None takes one away."""

    def damage(path: Path) -> None:
        write_hdf5(path, {key: values for key, values in (own_data() | changes).items() if values is not None})

    return damage


def hdf5(change: Callable[[h5py.File], object]) -> Damage:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def array(name: str, change: Callable[[Any], Any]) -> Damage:
    """Another array in the place of one."""

    def replace(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return hdf5(replace)


def removed(name: str) -> Damage:
    return hdf5(lambda file: file.__delitem__(name))


def linked(name: str) -> Damage:
    def replace(file: h5py.File) -> None:
        del file[name]
        file[name] = h5py.ExternalLink("own.hdf5", "rewards")

    return hdf5(replace)


def scribbled(path: Path) -> object:
    """The tail of the data overwritten."""
    content = path.read_bytes()
    return path.write_bytes(content[: len(content) // 2] + b"\xa5" * (len(content) - len(content) // 2))


def spoiled(name: str, value: float) -> Damage:
    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors[name].flat[0] = value
        return tensors

    return edit_weights(tensors=change)


def reshaped(name: str) -> Damage:
    return edit_weights(tensors=lambda tensors: tensors | {name: np.zeros((2, 2), np.float32)})


def without(name: str) -> Damage:
    return edit_weights(tensors=lambda tensors: {key: value for key, value in tensors.items() if key != name})


def headed(**changes: Any) -> Damage:
    return edit_weights(header=lambda header: header | changes)


def unheaded(*names: str) -> Damage:
    return edit_weights(header=lambda header: {key: value for key, value in header.items() if key not in names})


def long_header(path: Path) -> object:
    """The length of the header that safetensors begins with is beyond the file."""
    return path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def policy(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        edit_weights(
            tensors=lambda tensors: tensors | {"graph": np.frombuffer(content, np.uint8)},
            header=lambda header: header | {"graph_bytes": len(content)},
        )(path)

    return damage


_PROGRESS = re.compile(r"\d+%\|")


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr that are no progress."""
    return [line for line in capsys.readouterr().err.splitlines() if line.strip() and not _PROGRESS.search(line)]


def check(case: Case, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr that names what is wrong, the exit code 1, and every file as it was."""
    case.damage(folder / case.file)
    before = contents(folder)
    assert run(case.command) == 1
    (line,) = told(capsys)
    assert line.startswith("dmemm: ") and case.said in line and len(line) < 1000, line
    assert any(name in line for name in (Path(case.file).name, "raw.hdf5", "pendulum", "seed 0")), line
    assert contents(folder) == before
