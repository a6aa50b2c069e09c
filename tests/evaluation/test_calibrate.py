"""Calibration of the guide: what is tried, from which starts, and what is written."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from dmemm.config import CalibrateConfig
from dmemm.data.normaliser import Normaliser
from dmemm.diffusion.model import DiffusionModel
from dmemm.errors import UserError
from dmemm.evaluation import calibrate as module
from dmemm.evaluation.calibrate import calibrate, settings
from dmemm.inputs import Inputs
from dmemm.methods import get_method
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.planning import rollout
from dmemm.planning.planner import Planner
from dmemm.planning.rollout import CALIBRATION
from dmemm.tasks import Task, get_task
from tests.checkout import staged_params

HOPPER, MAZE = get_task("hopper-medium"), get_task("maze2d-umaze")


def config(task: Task = HOPPER, variant: str = "dmemm", **changes: Any) -> CalibrateConfig:
    return replace(CalibrateConfig.resolve(staged_params(), task, get_method(variant)), **changes)


def shown(task: Task, of: CalibrateConfig) -> list[dict[str, Any]]:
    return [dict(pairs) for pairs in settings(task, of)]


def test_the_grid_is_every_combination_once_and_params_yaml_s_setting_comes_first() -> None:
    grid = {"objective": ["reward", "value"], "candidates": [1, 16], "alpha": [0.0, 0.001], "replan_every": [1, 4]}
    own = {"objective": "plan_value", "candidates": 64, "alpha": 0.5, "replan_every": 2}
    tried = shown(HOPPER, config(guide_grid=grid, **own))
    # A single plan that nothing draws is the same whatever the objective.
    expected = [
        dict(zip(grid, (None if values[1:3] == (1, 0.0) else values[0], *values[1:]), strict=True))
        for values in product(*grid.values())
    ]
    assert tried[0] == own and len(tried) == 1 + 2 * 2 * 2 * 2 - 2
    assert set(map(json.dumps, tried[1:])) == {json.dumps({knob: one[knob] for knob in tried[0]}) for one in expected}


def test_a_setting_in_the_grid_is_not_tried_twice_and_diffuser_s_own_is_what_it_fixes() -> None:
    grid = {"objective": ["value", "plan_value"], "alpha": [0.1]}
    assert shown(HOPPER, config(variant="diffuser", guide_grid=grid, candidates=4, alpha=0.1)) == [
        {"objective": "plan_value", "alpha": 0.1}, {"objective": "value", "alpha": 0.1},
    ]  # fmt: skip


def test_in_a_maze_nothing_is_maximised() -> None:
    grid = {"objective": ["reward", "value"], "candidates": [1, 16], "alpha": [0.0, 0.1]}
    guided = shown(MAZE, config(MAZE, guide_grid=grid, alpha=0.1, candidates=16, lambda_guide=0.1))
    assert guided[0] == {"objective": None, "candidates": 16, "alpha": 0.1} and len(guided) == 4
    assert shown(MAZE, config(MAZE, "diffuser", guide_grid=grid, candidates=1)) == [dict.fromkeys(grid)]


@pytest.mark.parametrize("task", [MAZE, replace(MAZE, goal_dim=0)])
def test_settings_that_are_shown_alike_plan_alike(task: Task) -> None:
    """With the least of models, over every combination of what may be idle."""
    torch.manual_seed(0)
    header = {"action_dim": 2, "observation_dim": 4, "horizon": 4, "end_dim": 4 * task.has_goal, "predict": "sample"}
    network = {"network": "mlp", "mlp_width": 8, "mlp_blocks": 1, "diffusion_steps": 3}
    model = DiffusionModel({**header, **network}, torch.device("cpu"))
    model.set_normaliser(Normaliser(*(np.full(6, x, np.float32) for x in (0, 1, -3, 3))))
    models = DynamicsEnsemble(4, 2, 2, 8), RewardModel(4, 2, 1, 8), ValueModel(4, 0, 1, 8)
    dynamics, reward, value = (one.requires_grad_(False) for one in models)
    value.between_episodes.fill_(0.7)
    dynamics.remember(torch.randn(9, 2))
    grid = {
        "objective": ["reward", "value"], "model_rollout": [False, True], "veto": [0.0, 50.0], "candidates": [1, 8],
        "alpha": [0.0, 5.0], "guide_limit": [0.5, 1.0], "lambda_guide": [0.0, 5.0], "t_stopgrad": [0, 2],
    }  # fmt: skip
    own = config(MAZE, guide_grid=grid, sampling_steps=0, warm_start=0)
    plans: dict[tuple[Any, ...], np.ndarray] = {}
    for values in product(*grid.values()):
        setting = replace(own, **dict(zip(grid, values, strict=True)))
        planner = Planner(task, setting, model.requires_grad_(False), dynamics, reward, 0, value=value)
        plan = planner.plan(np.full((2, 4), 0.5, np.float32), np.ones((2, 2)) if task.has_goal else None)
        states = np.concatenate([plan.states, plan.actions], axis=2)
        np.testing.assert_array_equal(plans.setdefault(next(iter(settings(task, setting))), states), states)
    # The settings do differ, and those that are shown as others often plan otherwise.
    assert 4 < len({states.tobytes() for states in plans.values()}) <= len(plans) < 256


class Env(gym.Env[Any, Any]):
    """One step, rewarded by the action; `seeds` are those of all resets."""

    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    seeds: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seeds.append(seed)
        return np.zeros(11, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(11, np.float32), float(action[0]), True, False, {}


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, fails: float, seed: int = 3) -> dict[str, Any]:
    """Calibrate an actor whose action is α, and whose plan is not finite where α is `fails`."""

    def planner(task: Task, setting: CalibrateConfig, seed: int, **models: str) -> Any:
        assert models == {"model": "network", "value": "V"}

        def act(observations: Any, goals: Any, running: Any) -> Any:
            if setting.alpha == fails:
                raise UserError("the plan from observation 0 is not finite; lower alpha or lambda_guide")
            actor.plans_made += len(observations)
            return np.full((len(observations), 3), setting.alpha)

        actor = SimpleNamespace(plans_made=0, act=act, reset=lambda: None)
        return actor

    monkeypatch.setattr(Env, "seeds", [])
    monkeypatch.setattr(rollout, "make_env", lambda task: Env())
    monkeypatch.setattr(module, "Planner", planner)
    monkeypatch.setattr(module, "load_models", lambda inputs: {"model": "network", "value": "V"})
    (folder / "statistics.json").write_text(
        '{"data_source": "local", "warnings": [], "score_mean": 0.0, "best_policy_score": null}'
    )
    calibrate(
        get_method("dmemm"), HOPPER,
        config(guide_grid={"alpha": [0.25, 0.5, 0.75]}, alpha=0.5, guide_episodes=2), seed,
        Inputs(statistics=folder / "statistics.json"), output=folder / "out.json",
    )  # fmt: skip
    record: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return record


def test_every_setting_starts_alike_where_no_scored_episode_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = run(monkeypatch, tmp_path, fails=0)
    assert Env.seeds == 3 * [CALIBRATION + 30_000, CALIBRATION + 30_001]
    assert {key: record[key] for key in ("task", "variant", "seed", "data_source", "episodes")} == {
        "task": "hopper-medium", "variant": "dmemm", "seed": 3, "data_source": "local", "episodes": 2,
    }  # fmt: skip
    assert [(one["setting"]["alpha"], one["plans"]) for one in record["settings"]] == [(0.5, 2), (0.25, 2), (0.75, 2)]
    for one in record["settings"]:
        assert one["scores"] == pytest.approx(2 * [HOPPER.score(one["setting"]["alpha"])])


def test_a_setting_that_diverges_has_no_scores_and_stops_only_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = run(monkeypatch, tmp_path, fails=0.25)
    assert [one["scores"] is None for one in record["settings"]] == [False, True, False]
    (tmp_path / "out.json").unlink()
    with pytest.raises(UserError, match="not finite"):
        run(monkeypatch, tmp_path, fails=0.5)
    assert not (tmp_path / "out.json").exists()
