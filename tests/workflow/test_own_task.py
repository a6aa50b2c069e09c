"""A task of one's own, from the documentation's own text, through every stage; Minari's data from a local store."""

import argparse
import json
import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import minari
import numpy as np
import pytest
import yaml
from minari.data_collector import EpisodeBuffer

from dmemm.cli import main
from dmemm.config import EvaluateConfig, SegmentConfig, TrainConfig, load_params
from dmemm.data.raw import episode_slices, read_raw
from dmemm.envs import GOALS, is_free, make_env
from dmemm.errors import UserError
from dmemm.inputs import PATHS, in_pipeline
from dmemm.methods import get_method
from dmemm.planning.planner import Planner
from dmemm.settings import apply_setting
from dmemm.stages import _resolve
from dmemm.tasks import get_task, read_task
from workflow.pipeline import Pipeline

from ..checkout import ROOT, staged, staged_params, tracked
from .conftest import TINY

TEXT = "".join((ROOT / f"docs/{page}.md").read_text() for page in ("data", "planner"))
BLOCKS = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with tiny settings, and the documentation's task files."""
    params = {**staged_params(), **TINY}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "tasks").mkdir()
    for name in ("pendulum", "point"):
        text = BLOCKS[f"tasks/{name}.yaml"].replace("train_steps: 3000", "train_steps: 5")
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DMEMM_DEVICE", "cpu")
    return tmp_path


COMMON = ["--raw", "raw.hdf5"]


def stage(*words: str) -> None:
    assert main(list(words)) == 0


def train(task: str) -> tuple[str, list[str]]:
    """Run the stages up to training, for the variant `dmemm`, where the pipeline has its files.

    Returns:
        The network's path, and the options with all mechanisms.
    """
    of_pipeline = in_pipeline(PATHS, task, "dmemm", 0)
    network = str(of_pipeline.model)
    stage("download", task, "--output", "raw.hdf5", "--statistics", "s.json")
    stage("segment", task, *COMMON, "--output", "w.h5")

    def mechanism(name: str, *reads: str) -> list[str]:
        file = name.replace("-", "_")
        weights = str(of_pipeline.need(file))
        stage(
            name, task, "0", *COMMON, *reads, "--output", weights, "--report", f"{file}.json", "--curve", f"{file}.csv"
        )
        return [f"--{name}", weights]

    mechanisms = mechanism("dynamics") + mechanism("reward")
    value = [] if get_task(task).has_goal else mechanism("value")
    guided_by = [*mechanisms, *value, *(mechanism("plan-value", "--segments", "w.h5", *value) if value else [])]
    stage("train", task, "dmemm", "0", *COMMON, "--segments", "w.h5", *mechanisms, "--output", network,
          "--curve", "curve.csv", "--report", "t.json")  # fmt: skip
    return network, guided_by


def stages(task: str) -> dict[str, Any]:
    """Run every stage for the variant `dmemm`, and return the score file."""
    network, guided_by = train(task)
    stage(
        "evaluate", task, "dmemm", "0", "--model", network, *guided_by, "--statistics", "s.json", "--output", "e.json"
    )
    stage("consistency", task, "dmemm", "0", "--model", network, *guided_by, *COMMON, "--segments", "w.h5",
          "--output", "c.json")  # fmt: skip
    stage("pictures", task, "dmemm", "0", "--model", network, *guided_by, "--output", "p.png",
          "--denoising", "d.png", "--animation", "a.gif", "--page", "p.html")  # fmt: skip
    for name, head in (("p.png", b"\x89PNG"), ("d.png", b"\x89PNG"), ("a.gif", b"GIF89a")):
        picture = Path(name).read_bytes()
        assert picture.startswith(head) and b64encode(picture).decode() in Path("p.html").read_text()
    return dict(json.loads(Path("e.json").read_text()))


def test_the_pendulum_of_the_documentation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS["record.py"].replace("20_000", "1_000"), "record.py", "exec"), {})
    record = stages("pendulum")
    assert record["data_source"] == "own" and record["protocol"] == "own" and record["success"] is None
    assert record["lengths"] == [200, 200]
    assert all(-2000 < value < 0 for value in record["returns"])
    raw = read_raw(folder / "raw.hdf5")
    np.testing.assert_array_equal(np.diff(episode_slices(raw.ended)).ravel(), [200] * 5)
    consistency = json.loads(Path("c.json").read_text())
    assert consistency["model_error"] > 0 and consistency["simulator_error"] is None
    for name in ("drive.py", "vector.py"):
        exec(compile(BLOCKS[name], name, "exec"), {})
    told = capsys.readouterr().out
    assert re.search(r"return -\d+\n", told) and "(4, 32, 3) (4, 32, 1)" in told


def test_two_spaces_are_environment_enough_to_train_and_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(compile(BLOCKS["record.py"].replace("20_000", "1_000"), "record.py", "exec"), {})
    (folder / "robot.py").write_text(BLOCKS["robot.py"])
    monkeypatch.syspath_prepend(str(folder))
    path = folder / "tasks/pendulum.yaml"
    path.write_text(path.read_text().replace("env: Pendulum-v1", "env: robot:Robot"))
    train("pendulum")
    action = Planner.load("pendulum").act(np.array([1.0, 0.0, 0.0]))
    assert action.shape == (1,) and np.isfinite(action).all()


def record(env: gym.Env[Any, Any], name: str, lengths: list[int], spaces: gym.Env[Any, Any] | None = None) -> None:
    """A local Minari data set of random play."""
    buffers = []
    env.action_space.seed(0)
    for i, length in enumerate(lengths):
        observation, _ = env.reset(seed=i)
        rows: dict[str, list[Any]] = {key: [] for key in ("actions", "rewards", "terminations", "truncations")}
        observations = [observation]
        for t in range(length):
            action = env.action_space.sample()
            observation, reward, _, _, _ = env.step(action)
            observations.append(observation)
            for column, value in zip(rows.values(), (action, float(reward), False, t == length - 1), strict=True):
                column.append(value)
        if isinstance(observation, dict):
            gathered = {key: np.array([o[key] for o in observations]) for key in observation}
        else:
            gathered = np.array(observations)
        buffers.append(EpisodeBuffer(id=i, observations=gathered, actions=np.array(rows.pop("actions")), **rows))
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=env.observation_space, action_space=env.action_space
    )


def test_a_goal_in_a_dict_from_a_local_minari_store(folder: Path) -> None:
    gym.register_envs(gymnasium_robotics)
    with gym.make("PointMaze_UMaze-v3", max_episode_steps=1000) as env:
        record(env, "D4RL/pointmaze/umaze-v2", [90, 70, 120])
    score = stages("point")
    assert score["data_source"] == "minari" and len(score["success"]) == 2 and score["lengths"] == [300, 300]
    raw = read_raw(folder / "raw.hdf5")
    assert raw.observations.shape == (280, 6)  # achieved_goal, then observation, which starts with the same position
    np.testing.assert_allclose(raw.observations[:, :2], raw.observations[:, 2:4], atol=1e-6)
    assert np.diff(episode_slices(raw.ended)).ravel().tolist() == [90, 70, 120]


def test_minaris_maze_is_d4rls_in_another_frame(folder: Path) -> None:
    gym.register_envs(gymnasium_robotics)
    with gym.make("PointMaze_UMaze-v3", max_episode_steps=1000) as env:
        record(env, "D4RL/pointmaze/umaze-v2", [150, 150])
    text = (ROOT / "tasks/maze2d-umaze.yaml").read_text()
    (folder / "tasks/maze2d-umaze.yaml").write_text(text)
    arguments = ["--output", "raw.hdf5", "--statistics", "s.json", "--set", "data_source=minari"]
    assert main(["download", "maze2d-umaze", *arguments]) == 0
    raw = read_raw(Path("raw.hdf5"))
    maze = make_env(get_task("maze2d-umaze"))
    maze.reset(seed=0)
    base: Any = maze.unwrapped
    assert is_free(base.maze_map, raw.observations[:, :2]).all()
    for t in range(0, 300, 7):
        base.set_observation(raw.observations[t])
        after = base.step(raw.actions[t])[0]
        np.testing.assert_allclose(after, raw.next_observations[t], atol=1e-3)
    near = np.linalg.norm(raw.next_observations[:, :2] - GOALS["umaze"], axis=1) <= 0.5
    np.testing.assert_array_equal(raw.rewards, near)


def test_several_minari_sets_are_one(folder: Path) -> None:
    with gym.make("Pendulum-v1") as env:
        record(env, "pendulum/a-v0", [30, 20])
        record(env, "pendulum/b-v0", [10])
    path = folder / "tasks/pendulum.yaml"
    path.write_text(path.read_text().replace("own: data/own/pendulum.hdf5", "minari: [pendulum/a-v0, pendulum/b-v0]"))
    assert main(["download", "pendulum", "--output", "raw.hdf5", "--statistics", "s.json"]) == 0
    assert np.diff(episode_slices(read_raw(Path("raw.hdf5")).ended)).ravel().tolist() == [30, 20, 10]


def test_without_a_network_minari_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dmemm.data.minari._SERVERS", {"hf": "http://127.0.0.1:9"})
    assert main(["download", "point", "--output", "raw.hdf5", "--statistics", "s.json"]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "D4RL/pointmaze/umaze-v2: not in" in told[0] and "cannot be reached" in told[0]
    assert not Path("raw.hdf5").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("env: Pendulum-v9", "pendulum.yaml: env: Pendulum-v9 cannot be built"),
        ("env: Pendulum-v9", "versioned environments: [ `v1` ]; correct it or env_arguments"),
        ("env: nowhere:Env", "pendulum.yaml: env: nowhere:Env: No module named 'nowhere'"),
        ("env: gymnasium:Env", "pendulum.yaml: env: gymnasium:Env has no observation_space; define it in its class"),
        ("env: CartPole-v1", "CartPole-v1 has actions in Discrete(2); it must be a flat Box"),
        ("episode_steps: 0", "pendulum.yaml: episode_steps: 0 is less than the minimum"),
        ("expert_return: -1200", "pendulum.yaml: expert_return: equal to random_return"),
        ("colour: red", "tasks/pendulum.yaml: colour: unknown key; known: "),
        ("parameters: {train_steps: 5}", "pendulum.yaml: parameters: 'horizon' is a required property"),
        (
            "data: {own: nowhere.hdf5}",
            "nowhere.hdf5: no such file; put it there, or correct `data` in tasks/pendulum.yaml",
        ),
        ("terminal: os.system('x')", "pendulum.yaml: terminal"),
        ("terminal: nowhere:ended", "pendulum.yaml: terminal: nowhere:ended: No module named 'nowhere'"),
        ("terminal: math:sqrt", "pendulum.yaml: terminal: math:sqrt: TypeError"),
        ("goal_dim: 1", "pendulum.yaml: parameters: 'execute' is a required property"),
        (
            "parameters: {horizon: 32, train_steps: 5, execute: actions, replan_every: 4}\ngoal_dim: 4",
            "pendulum.yaml: goal_dim: 4, but Pendulum-v1's states have 3 entries",
        ),
        ("parameters: {horizon: 32, execute: waypoints}", "pendulum.yaml: parameters.execute: 'actions' was expected"),
        ("data: {local: medium}", "pendulum.yaml: data: 'local' is not one of ['own', 'minari', 'd4rl']"),
        (
            "data: {d4rl: {file: a.hdf5, return_mean: 1}}",
            "pendulum.yaml: data.d4rl: 'return_std' is a dependency of 'return_mean'",
        ),
        ("env: [", "pendulum.yaml: not valid YAML"),
    ],
)
def test_a_wrong_task_file_is_one_line(
    folder: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "tasks/pendulum.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(change.partition(":")[0] + ":")]
    path.write_text("\n".join([*kept, change]))
    assert main(["download", "pendulum", "--output", "raw.hdf5", "--statistics", "s.json"]) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and message in told[0], told
    assert not Path("raw.hdf5").exists()


@pytest.mark.parametrize("setting", ["quick", "small", "paper"])
def test_the_documentations_tasks_have_every_parameter_under_each_setting(folder: Path, setting: str) -> None:
    path = folder / "params.yaml"
    path.write_text(staged("params.yaml"))
    apply_setting(setting, path)
    method = get_method("dmemm")
    for task in (get_task("pendulum"), get_task("point")):
        pipeline = Pipeline(load_params(path), {task.name: task})
        for stage, kind in (("segment", SegmentConfig), ("train", TrainConfig), ("evaluate", EvaluateConfig)):
            passed = argparse.Namespace(task=task.name, assignments=pipeline.settings(stage, task.name, "dmemm"))
            assert _resolve(passed, kind, method) == (task, kind.resolve(load_params(path), task, method))


def test_a_value_on_the_command_line_replaces_that_of_the_tasks_file(folder: Path) -> None:
    def resolved(*assignments: str) -> Any:
        return _resolve(argparse.Namespace(task="pendulum", assignments=list(assignments)), SegmentConfig)[1]

    (folder / "params.yaml").write_text(staged("params.yaml"))
    assert (resolved().horizon, resolved("horizon=16").horizon, resolved("held_out=0.1").horizon) == (32, 16, 32)
    assert resolved("horizon.locomotion=8").horizon == 8 and resolved("horizon.maze=8").horizon == 32


@pytest.mark.parametrize("name", ["../params", "Hopper", "a b", "x;rm", ""])
def test_names_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="unknown task"):
        get_task(name)


def test_every_task_file_of_the_project_is_sound() -> None:
    for name in tracked("tasks"):
        task = read_task(ROOT / name)
        assert make_env(task).action_space.shape == {"hopper": (3,), "halfcheetah": (6,), "walker2d": (6,)}.get(
            task.body, (2,)
        )


def test_an_environment_of_ones_own_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "myenv.py").write_text(
        "from gymnasium.envs.classic_control.pendulum import PendulumEnv\n"
        "def upright(states):\n    return states[..., 0] > 0.99\n"
        "class Mine(PendulumEnv):\n    def __init__(self, g):\n        super().__init__(g=g)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    path = folder / "tasks/pendulum.yaml"
    text = path.read_text().replace("Pendulum-v1", "myenv:Mine\nenv_arguments: {g: 3.0}\nterminal: myenv:upright")
    path.write_text(text)
    env = make_env(get_task("pendulum"))
    assert env.unwrapped.g == 3.0  # type: ignore[attr-defined]
    assert "myenv" in sys.modules
    exec(compile(BLOCKS["record.py"].replace("20_000", "1_000"), "record.py", "exec"), {})
    assert stages("pendulum")["lengths"] == [200, 200]
