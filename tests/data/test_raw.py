"""Raw data files: whole, checked, and the same bytes for the same data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dmemm.data.raw import ARRAYS, RawData, episode_slices, read_raw, statistics, write_raw
from dmemm.errors import UserError
from dmemm.tasks import get_task


def make_raw(length: int = 2000) -> RawData:
    rng = np.random.default_rng(0)
    timeouts = np.zeros(length, np.bool_)
    timeouts[99::100] = True
    return RawData(
        observations=rng.standard_normal((length, 4)).astype(np.float32),
        actions=rng.standard_normal((length, 2)).astype(np.float32),
        rewards=np.ones(length, np.float32),
        terminals=np.zeros(length, np.bool_),
        timeouts=timeouts,
        next_observations=rng.standard_normal((length, 4)).astype(np.float32),
        data_source="local",
        task="hopper-medium",
    )


def test_round_trip_and_same_bytes(tmp_path: Path) -> None:
    raw = make_raw()
    write_raw(tmp_path / "sub" / "a.hdf5", [raw])
    write_raw(tmp_path / "b.hdf5", [raw])
    assert (tmp_path / "sub" / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()
    again = read_raw(tmp_path / "b.hdf5")
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(again, key), getattr(raw, key))
        assert getattr(again, key).dtype == getattr(raw, key).dtype
    assert (again.data_source, again.task) == ("local", "hopper-medium")


def test_other_numbers_become_float32(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_raw(path, [make_raw()])
    with h5py.File(path, "r+") as file:
        rewards = file["rewards"][()]
        del file["rewards"]
        file["rewards"] = rewards.astype(np.int64)
        terminals = file["terminals"][()]
        del file["terminals"]
        file["terminals"] = terminals.astype(np.uint8)
    raw = read_raw(path)
    assert raw.rewards.dtype == np.float32 and raw.terminals.dtype == np.bool_


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : 3 * len(data) // 4] = b"\xff" * (3 * len(data) // 4 - len(data) // 4)
    path.write_bytes(data)


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[key]
            if value is not None:
                file[key] = value

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_text("hello"), "damaged or not an HDF5"),
        (lambda path: path.write_bytes(b""), "damaged or not an HDF5"),
        (truncate, "damaged or not an HDF5"),
        (scribble, ""),
        (edit("timeouts", None), "lacks timeouts"),
        (edit("rewards", np.ones(3)), "rewards have length 3"),
        (edit("rewards", np.full(2000, np.nan)), "NaN"),
        (edit("actions", np.ones(2000)), "actions have shape"),
        (edit("next_observations", np.ones((2000, 3))), "next_observations have shape"),
        (edit("observations", np.ones((0, 4))), "no transitions"),
        (edit("observations", 1.0), "no transitions"),
        (edit("observations", "text"), "not an array of numbers"),
    ],
)
def test_unsound_files_are_one_line_errors(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.hdf5"
    write_raw(path, [make_raw()])
    damage(path)
    with pytest.raises(UserError) as caught:
        read_raw(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text


def test_failing_to_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    raw = make_raw()
    write_raw(path, [raw])
    before = path.read_bytes()
    with pytest.raises(UserError, match="NaN"):
        write_raw(path, [replace(raw, rewards=np.full(2000, np.nan, np.float32))])
    with pytest.raises(TypeError):  # fails half-way through the file
        write_raw(path, [replace(raw, task=None, data_source=object())])  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.hdf5"]


def test_episode_slices() -> None:
    raw = make_raw(250)
    raw.terminals[49] = True
    np.testing.assert_array_equal(episode_slices(raw.ended), [[0, 50], [50, 100], [100, 200], [200, 250]])


def test_statistics_of_episodes_and_of_windows(tmp_path: Path) -> None:
    def measured(length: int, task: str) -> dict[str, Any]:
        write_raw(tmp_path / "a.hdf5", [make_raw(length)])
        return statistics(tmp_path / "a.hdf5", get_task(task))

    result = measured(250, "hopper-medium")
    assert result["return_definition"] == "episodes" and result["episodes"] == 3
    assert result["return_mean"] == pytest.approx(250 / 3)
    assert result["score_mean"] == pytest.approx(get_task("hopper-medium").score(250 / 3))
    result = measured(400, "maze2d-umaze")
    assert result["return_definition"] == "windows of 300 consecutive steps"
    assert result["return_mean"] == 300 and result["return_std"] == 0
    assert measured(250, "maze2d-umaze")["return_mean"] == 250


def test_blocks_are_one_data_set_whatever_their_size(tmp_path: Path) -> None:
    raw = make_raw()
    write_raw(tmp_path / "one.hdf5", [raw])
    parts = [
        replace(raw, **{key: getattr(raw, key)[start : start + 300] for key in ARRAYS}) for start in range(0, 2000, 300)
    ]
    write_raw(tmp_path / "many.hdf5", iter(parts))
    again = read_raw(tmp_path / "many.hdf5")
    for key in ARRAYS:
        np.testing.assert_array_equal(getattr(again, key), getattr(raw, key))
    with pytest.raises(UserError, match="no transitions"):
        write_raw(tmp_path / "many.hdf5", [])
    wider = replace(raw, actions=np.zeros((2000, 3), np.float32))
    with pytest.raises(UserError, match=r"actions of \(3,\) after \(2,\)"):
        write_raw(tmp_path / "many.hdf5", [raw, wider])
    assert len(read_raw(tmp_path / "many.hdf5").rewards) == 2000
