"""Minari stores that are damaged, or hold something else than the task's environment would give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest

from ..workflow.test_own_task import record
from .conftest import contents, run
from .damage import told

NAME = "pendulum/random-v0"


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one data set of two episodes, which the task names."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    monkeypatch.setattr("dmemm.data.minari._SERVERS", {"hf": "http://127.0.0.1:9"})
    with gym.make("Pendulum-v1") as env:
        record(env, NAME, [20, 20])
    path = folder / "tasks/pendulum.yaml"
    path.write_text(path.read_text().replace("own: own.hdf5", f"minari: [{NAME}]"))
    assert run("download") == 0
    return folder / "minari" / NAME / "data"


def arrays(change: Callable[[h5py.Group], object]) -> Callable[[Path], None]:
    """Change the second episode."""

    def damage(data: Path) -> None:
        with h5py.File(data / "main_data.hdf5", "r+") as file:
            change(file["episode_1"])

    return damage


def put(name: str, values: Any) -> Callable[[Path], None]:
    def change(episode: h5py.Group) -> None:
        del episode[name]
        episode[name] = values

    return arrays(change)


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(data: Path) -> None:
        content = (data / name).read_bytes()
        (data / name).write_bytes(content[: int(share * len(content))])

    return damage


def metadata(**changes: Any) -> Callable[[Path], None]:
    def damage(data: Path) -> None:
        path = data / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        cut("main_data.hdf5", 0),
        cut("main_data.hdf5", 0.5),
        cut("main_data.hdf5", 0.98),
        lambda data: (data / "main_data.hdf5").unlink(),
        lambda data: (data / "main_data.hdf5").write_text("<html>404</html>"),
        cut("metadata.json", 0),
        cut("metadata.json", 0.5),
        lambda data: (data / "metadata.json").unlink(),
        metadata(total_episodes=5),
        metadata(total_episodes="two"),
        metadata(observation_space="round"),
        arrays(lambda episode: episode.__delitem__("observations")),
        arrays(lambda episode: episode.__delitem__("rewards")),
        put("observations", np.ones((21, 3, 1), np.float32)),
        put("observations", np.ones(21, np.float32)),
        put("observations", np.ones((20, 3), np.float32)),
        put("observations", np.ones((0, 3), np.float32)),
        put("observations", np.full((21, 3), np.nan, np.float32)),
        put("observations", np.ones((21, 4), np.float32)),
        put("observations", [b"text"] * 21),
        put("actions", np.ones(20, np.float32)),
        put("actions", np.ones((20, 2), np.float32)),
        put("actions", 1.0),
        put("rewards", [b"text"] * 20),
        put("rewards", np.full(20, np.inf)),
        put("rewards", np.ones(3)),
        put("terminations", np.zeros(0, bool)),
        put("terminations", np.zeros(7, bool)),
        put("terminations", np.zeros((20, 2), bool)),
    ],
)  # fmt: skip
def test_a_damaged_store_is_one_line_and_the_earlier_data_stay(
    damage: Callable[[Path], object], store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store)
    before = contents(folder)
    capsys.readouterr()
    assert run("download") == 1
    (line,) = told(capsys)
    assert line.startswith("dmemm: ") and (NAME in line or "pendulum.yaml: the" in line) and len(line) < 1000, line
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["../own-v0", "pendulum/random", "pendulum random-v0", "-v0"])
def test_a_name_that_leads_out_of_the_store_is_refused(
    name: str, store: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tasks/pendulum.yaml"
    path.write_text(path.read_text().replace(NAME, name))
    capsys.readouterr()
    assert run("download") == 1
    (line,) = told(capsys)
    assert "pendulum.yaml: data.minari.0: " in line and "does not match" in line
