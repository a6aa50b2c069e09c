"""A planner's folder that is damaged or put together of others: one line, whatever is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dmemm
from dmemm.errors import UserError

from ..planning.example import planner
from .conftest import edit_weights

Damage = Callable[[Path], object]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planners") / "planner"
    planner(4, objective="return").save(folder)
    return folder


def record(part: str, **changes: Any) -> Damage:
    """Other values in planner.json; `...` takes a key away."""

    def damage(folder: Path) -> None:
        path = folder / "planner.json"
        found = json.loads(path.read_text())
        found[part] = {key: value for key, value in (found[part] | changes).items() if value is not ...}
        path.write_text(json.dumps(found))

    return damage


def text(content: str) -> Damage:
    return lambda folder: (folder / "planner.json").write_text(content)


def model(name: str, **header: Any) -> Damage:
    return lambda folder: edit_weights(header=lambda old: old | header)(folder / f"{name}.safetensors")


def other_sizes(folder: Path) -> None:
    """The ensemble of another planner, trained on data that nobody can tell from ours."""
    import torch

    from dmemm.models.mechanisms import DynamicsEnsemble

    torch.manual_seed(0)
    DynamicsEnsemble(5, 2, 3, 16).save(folder / "dynamics.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (text(""), "planner.json: not valid JSON"),
        (text("[]"), "planner.json: of another version of dmemm"),
        (text("{}"), "planner.json: of another version of dmemm ('task')"),
        (text('{"task": 3, "config": {}}'), "planner.json: of another version of dmemm"),
        (text('{"task": {}, "config": {}}'), "planner.json: of another version of dmemm"),
        (text("[" * 100_000), "planner.json: not valid JSON"),
        (record("task", goal_dim="two"), "planner.json: goal_dim: 'two' is not of type 'integer'"),
        (record("task", env=3), "planner.json: env: 3 is not of type 'string'"),
        (record("task", terminal=["os:system"]), "planner.json: terminal: ['os:system'] is not of type 'string'"),
        (record("task", protocol="walk"), "planner.json: protocol: 'walk' is not one of"),
        (record("task", episode_steps=0), "planner.json: episode_steps: 0 is less than the minimum"),
        (record("task", random_return=float("nan")), "planner.json: random_return: nan is not of type 'number'"),
        (record("task", parameters=[1]), "planner.json: "),
        (record("task", body="nobody"), "planner.json: body: 'nobody' is not one of"),
        (record("config", candidates="many"), "planner.json: parameters.candidates: 'many' is not of type 'integer'"),
        (record("config", candidates=0), "planner.json: parameters.candidates: 0 is less than the minimum"),
        (record("config", alpha=float("nan")), "planner.json: parameters.alpha: nan is not of type 'number'"),
        (record("config", alpha=None), "planner.json: parameters.alpha: None is not of type 'number'"),
        (record("config", objective="fame"), "planner.json: parameters.objective: 'fame' is not one of"),
        (record("config", veto=...), "planner.json: of another version of dmemm"),
        (lambda folder: (folder / "planner.json").unlink(), "planner: no planner in it (planner.json is missing)"),
        (lambda folder: (folder / "diffusion.safetensors").unlink(), "diffusion.safetensors: cannot read weights"),
        (lambda folder: (folder / "dynamics.safetensors").unlink(), "--dynamics: "),
        (lambda folder: (folder / "reward.safetensors").write_bytes(b""), "reward.safetensors: cannot read weights"),
        (lambda folder: shutil.copy(folder / "reward.safetensors", folder / "dynamics.safetensors"),
         "dynamics.safetensors: holds RewardModel, but DynamicsEnsemble was expected"),
        (model("diffusion", observation_dim=5), "diffusion.safetensors: of another version of dmemm"),
        (model("dynamics", observation_dim=3), "dynamics.safetensors: of another version of dmemm"),
        (model("dynamics", data="1"), "dynamics.safetensors: of other raw data than"),
        (other_sizes, "dynamics.safetensors: observation_dim is 5, 4 in"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_line(damage: Damage, said: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "planner"
    shutil.copytree(saved, folder)
    assert dmemm.Planner.load(folder).task.name == "maze2d-umaze"
    damage(folder)
    with pytest.raises(UserError) as caught:
        dmemm.Planner.load(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)
