"""How to choose the guide: a trained network's scores under other settings, on episodes that are never scored."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from dmemm.config import CalibrateConfig
from dmemm.errors import UserError
from dmemm.evaluation.scores import read_statistics
from dmemm.files import write_json
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.planning.planner import Planner
from dmemm.planning.rollout import CALIBRATION, run_episodes
from dmemm.planning.storage import load_models
from dmemm.tasks import Task


def calibrate(
    method: Method,
    task: Task,
    config: CalibrateConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
) -> None:
    """Run the stage: run the same `guide_episodes` episodes under each setting; write the scores to one JSON file.

    A setting under which a plan or an environment diverges has no scores. If it is params.yaml's own, the stage fails.

    Raises:
        UserError: as in `evaluate`.
    """
    source = read_statistics(inputs.need("statistics"))["data_source"]
    models = load_models(inputs)
    tried: list[dict[str, Any]] = []
    for shown, setting in settings(task, config).items():
        planner = Planner(task, setting, seed=seed, **models)
        result: dict[str, Any] = {"setting": dict(shown), "scores": None, "plans": 0, "planning_seconds": 0.0}
        try:
            episodes = run_episodes(task, planner, episodes=config.guide_episodes, seed=seed, offset=CALIBRATION)
        except UserError as error:
            if not tried:
                raise
            print(f"{result['setting']}: {error}")
        else:
            result["scores"] = [task.score(value) for value in episodes.returns]
            result |= {"plans": episodes.plans, "planning_seconds": round(episodes.planning_seconds, 3)}
            print(f"{result['setting']}: {sum(result['scores']) / len(result['scores']):.1f}")
        tried.append(result)
    write_json(
        output,
        {
            "task": task.name,
            "variant": method.name,
            "seed": seed,
            "data_source": source,
            "episodes": config.guide_episodes,
            "settings": tried,
        },
    )


def settings(task: Task, config: CalibrateConfig) -> dict[tuple[tuple[str, Any], ...], CalibrateConfig]:
    """Return every combination of `guide_grid`'s values, params.yaml's own setting first.

    Returns:
        (knob, value) pairs of each setting → its parameters. The value of a knob without effect is None; settings that
        differ only in such knobs are merged.
    """
    # Restore the order of the knobs: the command line sorts the keys of a mapping.
    grid = {knob: config.guide_grid[knob] for knob in config.parameters() if knob in config.guide_grid}
    combinations = [{}, *(dict(zip(grid, values, strict=True)) for values in product(*grid.values()))]
    found: dict[tuple[tuple[str, Any], ...], CalibrateConfig] = {}
    for values in combinations:
        setting = replace(config, **values)
        idle = set(_idle(task, setting))
        shown = tuple((knob, None if knob in idle else getattr(setting, knob)) for knob in grid)
        found.setdefault(shown, setting)
    return found


def _idle(task: Task, setting: CalibrateConfig) -> Iterator[str]:
    """Yield the knobs without effect: those of guidance if nothing guides, those of selection if there is one plan."""
    nothing_to_follow = task.has_goal and setting.lambda_guide == 0 and setting.veto == 0
    if nothing_to_follow:
        yield from ("alpha", "candidates")
    unguided = nothing_to_follow or setting.alpha == 0
    if unguided:
        yield "t_stopgrad"
    if unguided or "value" not in setting.models(task):
        yield "guide_limit"
    if setting.candidates == 1 and (unguided or not task.has_goal):  # with a goal, the veto guides, too
        yield "veto"
    if setting.candidates == 1 and setting.alpha == 0:
        yield "lambda_guide"
    if task.has_goal or (setting.candidates == 1 and setting.alpha == 0):
        yield from ("objective", "model_rollout")
    elif setting.objective == "plan_value" or setting.candidates == 1:  # predicted states count in the choice
        yield "model_rollout"
