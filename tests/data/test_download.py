"""Data of every source in one raw format: D4RL's semantics, its servers and caches, bad files."""

import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmemm.config import DownloadConfig
from dmemm.data import d4rl, hdf5
from dmemm.data.download import download
from dmemm.data.raw import ARRAYS, read_raw
from dmemm.envs import GOALS, MazeEnv
from dmemm.errors import UserError
from dmemm.tasks import Task, get_task
from tests.checkout import task_names

HOPPER, MAZE = get_task("hopper-medium-expert"), get_task("maze2d-umaze")
Columns = dict[str, Any]


def hopper(length: int = 200, **changes: Any) -> Columns:
    rng = np.random.default_rng(0)
    states = rng.standard_normal((length + 1, 11))
    ends = np.arange(1, length + 1) % 50 == 0
    return {
        "observations": states[:-1],
        "actions": rng.uniform(-1, 1, (length, 3)),
        "rewards": rng.standard_normal(length),
        "terminals": ends & (np.arange(length) < 100),
        "timeouts": ends & (np.arange(length) >= 100),
        "next_observations": states[1:],
        **changes,
    }


def write(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            if values is not None:
                file[key] = values
        file["metadata/algorithm"] = "made up"
    return path


def own(path: Path, task: Task = HOPPER) -> Task:
    return Task(**{**vars(task), "data": {"own": str(path)}})


def fetch(task: Task, folder: Path, source: str = "d4rl", mirrors: tuple[str, ...] = ()) -> dict[str, Any]:
    config = DownloadConfig(data_source=source, d4rl_mirrors=mirrors, local_steps=100, data_seed=0)  # type: ignore[arg-type]
    download(task, config, folder / "raw.hdf5", folder / "statistics.json")
    return dict(json.loads((folder / "statistics.json").read_text()))


# --- what the numbers mean ---


def test_stored_successors_are_used_as_they_are(tmp_path: Path) -> None:
    columns = hopper()
    statistics = fetch(own(write(tmp_path / "a.hdf5", columns)), tmp_path)
    raw = read_raw(tmp_path / "raw.hdf5")
    for key in ARRAYS:
        np.testing.assert_allclose(getattr(raw, key), columns[key], rtol=1e-6)
    assert (statistics["data_source"], statistics["episodes"], statistics["warnings"]) == ("own", 4, [])


def maze_data(steps: int) -> tuple[Columns, list[tuple[Any, ...]]]:
    """A file as D4RL's generator writes it, and the transitions that really happened.

    It records the state before every step; at a goal it marks a timeout and keeps a stale state for the next row.
    """
    env = MazeEnv("umaze", random_goal=False)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    state = np.array([1.49, 1, -0.1, 0], np.float32)  # at the rim of the goal's disc
    env.set_observation(state)
    rows: dict[str, list[Any]] = {key: [] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    truth = []
    for t in range(steps):
        action, done = rng.uniform(-1, 1, 2).astype(np.float32), t % 17 == 16
        reward = float(np.linalg.norm(state[:2] - GOALS["umaze"]) <= 0.5)
        for key, value in zip(rows, (state, action, reward, False, done), strict=True):
            rows[key].append(value)
        after, arrived, _, _, _ = env.step(action)
        if not done:
            truth.append((state, action, arrived, after))
            state = after
    return {key: np.array(values) for key, values in rows.items()}, truth


def test_a_maze_file_gives_the_transitions_that_happened(tmp_path: Path) -> None:
    columns, truth = maze_data(300)
    fetch(own(write(tmp_path / "a.hdf5", columns), MAZE), tmp_path)
    raw = read_raw(tmp_path / "raw.hdf5")
    truth = truth if columns["timeouts"][-1] else truth[:-1]  # the last row's successor was not recorded
    happened = {(*np.round(s, 5), *np.round(a, 5)): (r, after) for s, a, r, after in truth}
    wrong = 0
    for s, a, r, after in zip(raw.observations, raw.actions, raw.rewards, raw.next_observations, strict=True):
        reward, state = happened[(*np.round(s, 5), *np.round(a, 5))]
        np.testing.assert_allclose(after, state, atol=1e-6)
        wrong += r != reward
    # The row before a timeout leads to the state that was recorded, the row at it leads nowhere known.
    assert len(raw.rewards) == 300 - columns["timeouts"].sum() - (not columns["timeouts"][-1])
    assert wrong == 0 and 0 < raw.rewards.sum() < len(raw.rewards)
    assert raw.timeouts.sum() == columns["timeouts"].sum()
    for start, end in zip(*[iter(np.flatnonzero(raw.timeouts))] * 2, strict=False):
        np.testing.assert_array_equal(raw.observations[start + 2 : end], raw.next_observations[start + 1 : end - 1])


def slow_shift(columns: Columns, maze: bool) -> list[tuple[Any, ...]]:
    """Row by row: with the row after it, if that is of the same episode; a fall with its own state."""
    found, length = [], len(columns["rewards"])
    s, r, falls, timeouts = (columns[key] for key in ("observations", "rewards", "terminals", "timeouts"))
    for t in range(length):
        if falls[t] and not maze:
            found.append((s[t], s[t], r[t], True, False))
        elif t + 1 < length and not (falls[t] or timeouts[t]):
            cut_off = (timeouts[t + 1] and not falls[t + 1]) or (maze and falls[t + 1])
            found.append((s[t], s[t + 1], r[t + maze], False, cut_off))
    return found


@given(
    ends=st.lists(st.sampled_from(["", "", "terminals", "timeouts"]), min_size=2, max_size=40),
    block=st.integers(1, 50),
    maze=st.booleans(),
)
def test_rows_without_successors_are_paired_within_episodes_whatever_the_blocks(
    ends: list[str], block: int, maze: bool
) -> None:
    columns = hopper(len(ends), next_observations=None)
    for key in ("terminals", "timeouts"):
        columns[key] = np.array([end == key for end in ends])
    expected = slow_shift(columns, maze)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(hdf5, "_BLOCK", 11 * 8 * block)
        path = write(Path(folder) / "a.hdf5", columns)
        reading = hdf5.read_blocks(path, own(path, MAZE if maze else HOPPER), "own")
        if not expected:
            with pytest.raises(UserError, match="holds no transitions whose next state is known"):
                list(reading)
            return
        blocks = list(reading)
    keys = ("observations", "next_observations", "rewards", "terminals", "timeouts")
    found = [row for block in blocks for row in zip(*(getattr(block, key) for key in keys), strict=True)]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_falls_stay_falls_without_stored_successors(tmp_path: Path) -> None:
    columns = hopper()
    with_successors, without = tmp_path / "with", tmp_path / "without"
    fetch(own(write(tmp_path / "a.hdf5", columns)), with_successors)
    fetch(own(write(tmp_path / "b.hdf5", {**columns, "next_observations": None})), without)
    full, raw = read_raw(with_successors / "raw.hdf5"), read_raw(without / "raw.hdf5")
    assert raw.terminals.sum() == full.terminals.sum() == 2 and raw.rewards[raw.terminals].any()
    np.testing.assert_array_equal(raw.rewards[raw.terminals], full.rewards[full.terminals])
    np.testing.assert_array_equal(raw.observations[raw.terminals], full.observations[full.terminals])
    assert len(raw.rewards) == 198 and raw.timeouts.sum() == 2  # the rows at the two cuts lead nowhere known
    np.testing.assert_array_equal(raw.has_successor, ~raw.terminals)
    assert full.has_successor.all()


def test_integers_columns_and_files_without_timeouts_are_read(tmp_path: Path) -> None:
    columns = hopper(
        rewards=np.arange(200)[:, None], timeouts=None, terminals=(np.arange(200) % 50 == 49).astype(np.uint8)
    )
    assert fetch(own(write(tmp_path / "a.hdf5", columns)), tmp_path)["episodes"] == 4
    np.testing.assert_array_equal(read_raw(tmp_path / "raw.hdf5").rewards, np.arange(200))


def test_rows_that_do_not_go_on_within_an_episode_are_told(tmp_path: Path) -> None:
    columns = hopper()
    columns["next_observations"] = np.concatenate([columns["observations"][1:], columns["observations"][-1:]])
    assert fetch(own(write(tmp_path / "a.hdf5", columns)), tmp_path)["warnings"] == []
    columns["next_observations"][10:13] += 1
    (warning,) = fetch(own(write(tmp_path / "b.hdf5", columns)), tmp_path)["warnings"]
    assert "after 3 of 200 transitions" in warning and "`timeouts`" in warning


def test_actions_out_of_bounds_are_clipped_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = hopper()
    columns["actions"][:30] *= 100
    statistics = fetch(own(write(tmp_path / "a.hdf5", columns)), tmp_path)
    assert "of 200 actions lie outside the environment's bounds" in statistics["warnings"][0]
    assert np.abs(read_raw(tmp_path / "raw.hdf5").actions).max() == 1
    assert "!! hopper-medium-expert" in capsys.readouterr().err


def test_cuts_that_are_not_marked_are_told(tmp_path: Path) -> None:
    columns = hopper(timeouts=None, next_observations=None)
    (warning,) = fetch(own(write(tmp_path / "a.hdf5", columns)), tmp_path)["warnings"]
    assert "neither `timeouts` nor `next_observations`" in warning
    columns = hopper(next_observations=None)
    assert fetch(own(write(tmp_path / "b.hdf5", columns)), tmp_path)["warnings"] == []


class Doubles(gym.Env[Any, Any]):
    """An environment whose actions are float64, as many people's are."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (11,))
    action_space = gym.spaces.Box(-0.1, 0.1, (3,), np.float64)


class Integers(Doubles):
    """An environment with integers for actions."""

    action_space = gym.spaces.Box(-1, 1, (3,), np.int64)


class Mixed(Doubles):
    """An environment whose observations are a dict, but not of goals."""

    observation_space = gym.spaces.Dict({"position": Doubles.observation_space})


def test_an_environment_s_actions_may_be_doubles_but_not_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", hopper(actions=np.full((200, 3), 0.1)))
    task = dataclasses.replace(own(path), env=f"{__name__}:Doubles", terminal="")
    assert fetch(task, tmp_path)["warnings"] == []  # 0.1 is not outside of 0.1
    assert read_raw(tmp_path / "raw.hdf5").actions.dtype == np.float32
    with pytest.raises(UserError, match="actions in Box.*int64.*fractional"):
        fetch(dataclasses.replace(task, env=f"{__name__}:Integers"), tmp_path)
    with pytest.raises(UserError, match="or, with goal_dim, a dict of flat observation, achieved_goal"):
        fetch(dataclasses.replace(task, env=f"{__name__}:Mixed", goal_dim=1), tmp_path)


# --- bad files: one line, and the earlier data stay ---


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def link(kind: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        other = write(path.with_name("other.hdf5"), hopper())
        with h5py.File(path, "r+") as file:
            del file["rewards"]
            if kind == "external":
                file["rewards"] = h5py.ExternalLink(str(other), "/rewards")
            elif kind == "soft":
                file["elsewhere"] = h5py.ExternalLink(str(other), "/")
                file["rewards"] = h5py.SoftLink("/elsewhere/rewards")
            elif kind == "storage":
                (path.parent / "secret").write_bytes(bytes(1600))
                file.create_dataset("rewards", (200,), "f8", external=[(str(path.parent / "secret"), 0, 1600)])
            elif kind == "pickle":
                file["rewards"] = np.void(pickle.dumps([1.0] * 200))
            else:
                layout = h5py.VirtualLayout((200,), "f8")
                layout[:] = h5py.VirtualSource(str(other), "rewards", (200,))
                file.create_virtual_dataset("rewards", layout)

    return change


BAD: list[tuple[Columns | Callable[[Path], None], str]] = [
    (truncated, "damaged or not an HDF5"),
    (lambda path: path.write_text("<html>404</html>"), "damaged or not an HDF5"),  # type: ignore[list-item]
    (lambda path: path.unlink(), "no such file"),
    (link("external"), "links are not followed"),
    (link("soft"), "links are not followed"),
    (link("storage"), "links are not followed"),
    (link("virtual"), "links are not followed"),
    (link("pickle"), "not an array of numbers"),
    ({"rewards": None}, "lacks rewards"),
    ({"rewards": ["a"] * 200}, "not an array of numbers"),
    ({"rewards": np.ones(199)}, "rewards have shape (199,)"),
    ({"rewards": 1.0}, "rewards have shape ()"),
    ({"rewards": np.full(200, np.nan)}, "rewards hold NaN"),
    ({"actions": np.where(np.arange(600).reshape(200, 3) == 500, np.nan, 0.0)}, "NaN or infinity, first in row 166"),
    ({"rewards": np.full(200, 1e300)}, "rewards hold NaN or infinity"),
    ({"actions": np.ones((200, 2))}, "actions have shape (2,), Hopper-v4's (3,)"),
    ({"observations": np.ones((200, 12)), "next_observations": np.ones((200, 12))}, "observations have shape (12,)"),
    ({"next_observations": np.ones((200, 3))}, "next_observations have shape"),
    ({key: values[:0] for key, values in hopper().items()}, "holds no transitions"),
    ({"next_observations": None, "terminals": np.zeros(200), "timeouts": np.ones(200)}, "holds no transitions"),
]


@pytest.mark.parametrize(("damage", "message"), BAD)
def test_bad_files_are_one_line_and_the_earlier_data_stay(tmp_path: Path, damage: Any, message: str) -> None:
    path = write(tmp_path / "sub" / "a.hdf5", hopper())
    fetch(own(path), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    if callable(damage):
        damage(path)
    else:
        write(path, hopper(**damage))
    with pytest.raises(UserError) as caught:
        fetch(own(path), tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_a_file_larger_than_the_memory_it_may_take_is_streamed(tmp_path: Path) -> None:
    length = 4_000_000
    with h5py.File(tmp_path / "large.hdf5", "w") as file:
        for key, shape in (("observations", (11,)), ("actions", (3,)), ("next_observations", (11,)), ("rewards", ())):
            file.create_dataset(key, (length, *shape), "f8", chunks=(4096, *shape))  # never written: zeros
        file.create_dataset("terminals", (length,), "?", chunks=(4096,))
    code = f"""
import resource
from dataclasses import replace
from pathlib import Path
from dmemm.config import DownloadConfig
from dmemm.data.download import download
from dmemm.envs import make_env
from dmemm.tasks import get_task

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

folder, task = Path({str(tmp_path)!r}), get_task("hopper-medium")
make_env(task)
before = peak()
task = replace(task, data={{"own": str(folder / "large.hdf5")}})
download(task, DownloadConfig("local", (), 1, 0), folder / "raw.hdf5", folder / "statistics.json")
print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads((tmp_path / "statistics.json").read_text())["transitions"] == length
    assert int(output.splitlines()[-1]) < 300 * 1024  # its observations alone are 690 MiB in float64


# --- D4RL's servers and caches ---


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A server of D4RL's layout, an empty cache, and no waiting between attempts."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("dmemm.data.http.FIRST_WAIT_S", 0.01)
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_d4rl_is_downloaded_once_recorded_and_compared_with_what_is_known(
    tmp_path: Path, mirror: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = mirror
    task = get_task("hopper-medium")
    served = write(folder / task.data["d4rl"]["file"], hopper())
    statistics = fetch(task, tmp_path, mirrors=("http://127.0.0.1:9", url))
    assert statistics["data_source"] == "d4rl" and statistics["transitions"] == 200
    assert "NOT D4RL'S DATA? 200 transitions, D4RL's has 999906" in statistics["warnings"][0]
    assert "!! hopper-medium: NOT D4RL" in capsys.readouterr().err
    cached = tmp_path / "cache" / "hopper_medium-v2.hdf5"
    record = cached.with_name(f"{cached.name}.sha256")
    assert record.read_text().split()[0] == hashlib.sha256(served.read_bytes()).hexdigest()
    before = (tmp_path / "raw.hdf5").read_bytes()
    served.unlink()
    fetch(task, tmp_path)  # from the cache
    assert (tmp_path / "raw.hdf5").read_bytes() == before
    with h5py.File(cached, "r+") as file:
        file["rewards"][0] = 7
    with pytest.raises(UserError, match=r"hopper_medium-v2\.hdf5: its SHA-256 is"):
        fetch(task, tmp_path)
    cached.unlink()
    write(served, hopper(rewards=np.zeros(200)))  # another version than at first
    with pytest.raises(UserError, match=r"hopper_medium-v2\.hdf5"):
        fetch(task, tmp_path, mirrors=(url,))
    assert not cached.exists() and (tmp_path / "raw.hdf5").read_bytes() == before


def test_a_cache_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "cache" / "hopper_medium-v2.hdf5", hopper())
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))

    def refuse(path: Path) -> Any:
        raise UserError(f"{path}: cannot write: Permission denied")

    monkeypatch.setattr(d4rl, "replacing", refuse)
    assert fetch(get_task("hopper-medium"), tmp_path)["transitions"] == 200
    assert "Permission denied; later uses cannot check hopper_medium-v2.hdf5" in capsys.readouterr().err


def test_a_published_checksum_is_required_and_a_bare_mirror_is_asked_by_name(
    tmp_path: Path, mirror: tuple[str, Path]
) -> None:
    url, folder = mirror
    task = get_task("hopper-medium-replay")
    served = write(folder / "flat" / "hopper_medium_replay-v2.hdf5", hopper())
    with pytest.raises(UserError, match="hopper_medium_replay-v2.hdf5"):
        fetch(task, tmp_path, mirrors=(f"{url}/flat/<name>",))
    known = {"file": task.data["d4rl"]["file"], "sha256": hashlib.sha256(served.read_bytes()).hexdigest()}
    statistics = fetch(Task(**{**vars(task), "data": {"d4rl": known}}), tmp_path, mirrors=(url, f"{url}/flat/<name>"))
    assert statistics["transitions"] == 200


def test_a_source_that_a_task_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data_source=minari: .*medium-replay.yaml .*choose one of local, d4rl"):
        fetch(get_task("hopper-medium-replay"), tmp_path, "minari")


def test_d4rl_files_fit_every_task_of_the_paper() -> None:
    files = {name: get_task(name).data["d4rl"]["file"] for name in task_names() if not name.startswith("multi2d")}
    assert len(files) == len(set(files.values())) == 12
    assert files["walker2d-medium-expert"] == "gym_mujoco_v2/walker2d_medium_expert-v2.hdf5"
