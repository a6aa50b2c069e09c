"""A tiny task of one's own with every file that the stages make, and the commands that read them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import save_file

from dmemm.cli import main

from ..checkout import ROOT, staged_params
from ..workflow.conftest import TINY
from .onnx import graph

TASK = """\
env: Pendulum-v1
episode_steps: 20
random_return: -1200
expert_return: -150
data: {own: own.hdf5}
parameters: {horizon: 8, train_steps: 2, batch_size: 4, episodes: 1, candidates: 2, objective: return}
"""
_MECHANISMS = "--raw raw.hdf5 --output {0}.safetensors --report {0}.json --curve {0}.csv"
_GUIDES = " ".join(f"--{name.replace('_', '-')} {name}.safetensors" for name in ("dynamics", "reward", "value"))
_SCORES = "--scores e.json f.json"
COMMANDS = {
    "download": "download pendulum --output raw.hdf5 --statistics s.json",
    "segment": "segment pendulum --raw raw.hdf5 --output w.h5",
    "dynamics": f"dynamics pendulum 0 {_MECHANISMS.format('dynamics')}",
    "reward": f"reward pendulum 0 {_MECHANISMS.format('reward')}",
    "value": f"value pendulum 0 {_MECHANISMS.format('value')}",
    "plan-value": f"plan-value pendulum 0 {_MECHANISMS.format('plan_value')} --segments w.h5 --value value.safetensors",
    "train": "train pendulum dmemm 0 --raw raw.hdf5 --segments w.h5 --dynamics dynamics.safetensors"
    " --reward reward.safetensors --output m.safetensors --curve m.csv --report m.json",
    "rvs": "train pendulum rvs 0 --raw raw.hdf5 --output rvs.safetensors --curve rvs.csv --report rvs.json"
    " --set method_steps=2",
    "evaluate": f"evaluate pendulum dmemm 0 --model m.safetensors --statistics s.json --output e.json {_GUIDES}",
    "evaluate-rvs": "evaluate pendulum rvs 0 --model rvs.safetensors --statistics s.json --output r.json"
    " --set episodes=1",
    "evaluate-iql": "evaluate pendulum iql 0 --model iql.safetensors --statistics s.json --output r.json"
    " --set episodes=1",
    "consistency": f"consistency pendulum dmemm 0 --model m.safetensors --raw raw.hdf5 --segments w.h5 {_GUIDES}"
    " --output c.json",
    "calibrate": f"calibrate pendulum dmemm 0 --model m.safetensors --statistics s.json {_GUIDES} --output g.json"
    " --plan-value plan_value.safetensors"
    ' --set guide_episodes=1 guide_grid={"alpha":[0.001,0.1]}',
    "table": f"table 1 {_SCORES} --published published.csv --outputs t.csv t.md --long l.csv",
    "ranking": f"ranking {_SCORES} --published published.csv --outputs t.csv",
    "intervals": f"intervals {_SCORES} --outputs t.csv",
    "training": f"training --records m.json n.json {_SCORES} --outputs t.csv",
    "figure": "figure --scores e.json --params lambda_tr=0.1 lambda_rd=0.1 --outputs t.png",
    "curves": "curves --curves pendulum/dmemm/seed0.csv --mechanisms dynamics/pendulum/seed0.csv --outputs t.png",
    "study": "study --scores p.json --consistency q.json --outputs t.csv t.png",
    "guide": "guide --calibrations g.json --outputs t.csv",
    "consistency-table": "consistency-table --consistency c.json --outputs t.csv t.png",
    "metrics": "metrics --tables table1.csv --output metrics.json",
    "setting": "setting quick",
}


def own_data(steps: int = 300) -> dict[str, Any]:
    """Random numbers in the shapes of Pendulum's transitions, as D4RL lays them out."""
    rng = np.random.default_rng(0)
    ended = np.arange(steps) % 20 == 19
    return {
        "observations": rng.normal(size=(steps + 1, 3)).astype(np.float32)[:-1],
        "actions": rng.uniform(-2, 2, (steps, 1)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": np.zeros(steps, bool),
        "timeouts": ended,
    }


def write_hdf5(path: Path, arrays: Mapping[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def run(command: str) -> int:
    return main(COMMANDS[command].split())


def edit_json(**changes: Any) -> Callable[[Path], None]:
    """Replace keys; `...` takes one away."""

    def damage(path: Path) -> None:
        record = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))

    return damage


def edit_weights(tensors: Any = None, header: Any = None, metadata: Any = None) -> Callable[[Path], None]:
    """Change tensors and the header (functions from dict to dict), or write a header of any text."""

    def damage(path: Path) -> None:
        with safe_open(path, "np") as file:
            found = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118  (not a dict)
            told = json.loads(file.metadata()["dmemm"])
        found, told = (change(old) if change else old for change, old in ((tensors, found), (header, told)))
        save_file(found, path, {"dmemm": json.dumps(told)} if metadata is None else metadata)

    return damage


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file; made once, since each test copies it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tasks").mkdir()
    (folder / "tasks/pendulum.yaml").write_text(TASK)
    (folder / "params.yaml").write_text(yaml.safe_dump({**staged_params(), **TINY}))
    shutil.copy2(ROOT / "workflow/resources/published.csv", folder)
    write_hdf5(folder / "own.hdf5", own_data())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DMEMM_DEVICE", "cpu")
        stages = list(COMMANDS)
        for command in stages[: stages.index("table")]:
            if command == "evaluate-iql":
                _imitate_iql(folder)
            assert run(command) == 0, command
        _others(folder)
        for command in stages[stages.index("table") : -1]:
            assert (run(command) == 0) == (command != "ranking"), command  # nothing is published of the pendulum
    for name in ("t.csv", "t.md", "t.png", "l.csv"):
        (folder / name).unlink()
    return folder


def _imitate_iql(folder: Path) -> None:
    """A policy of d3rlpy, without d3rlpy: its graph gives the largest observation as the action."""
    content = np.frombuffer(graph("observations", 3, 1), np.uint8)
    with safe_open(folder / "rvs.safetensors", "np") as file:
        header = json.loads(file.metadata()["dmemm"]) | {"kind": "iql", "graph_bytes": len(content), "parameters": 1}
        tensors = {name: file.get_tensor(name) for name in ("center", "scale", "low", "high")}
    save_file(tensors | {"graph": content}, folder / "iql.safetensors", {"dmemm": json.dumps(header)})


def _others(folder: Path) -> None:
    """Of a second method, as the tables compare; curves, a study and a table at their places."""
    for source, target, changes in (
        ("e", "f", {"variant": "diffuser"}),
        ("m", "n", {"variant": "diffuser"}),
        ("e", "p", {"variant": "sample-plain"}),
        ("c", "q", {"variant": "sample-plain"}),
    ):
        shutil.copy2(folder / f"{source}.json", folder / f"{target}.json")
        edit_json(**changes)(folder / f"{target}.json")
    for source, target in (("m.csv", "pendulum/dmemm"), ("dynamics.csv", "dynamics/pendulum")):
        (folder / target).mkdir(parents=True)
        shutil.copy2(folder / source, folder / target / "seed0.csv")
    assert main(COMMANDS["table"].replace("t.csv t.md", "table1.csv").split()) == 0


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DMEMM_DEVICE", "cpu")
    return tmp_path / "copy"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
