"""A column of Table 1 from the raw data, in one process: every stage that it needs, and checkpoints of its training."""

from collections.abc import Iterator
from pathlib import Path

import torch

from dmemm.config import (
    DynamicsConfig,
    EvaluateConfig,
    Params,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    TrainConfig,
    ValueConfig,
)
from dmemm.data.segments import segment
from dmemm.device import choose_device
from dmemm.inputs import Inputs
from dmemm.methods import get_method
from dmemm.planning.planner import Planner, load_planner
from dmemm.tasks import Task
from dmemm.training.mechanisms import train_dynamics, train_reward, train_value
from dmemm.training.plan_value import train_plan_value
from dmemm.training.train import gradient_step, load_objective, new_state


def prepare(name: str, task: Task, params: Params, raw_path: Path, folder: Path) -> Iterator[None]:
    """Run all stages before the training of a method; yields after each.

    Args:
        name: of a variant of the planner.
        task: the task, without a goal.
        params: as params.yaml.
        raw_path: what `download` wrote.
        folder: where everything is written.
    """
    method = get_method(name)
    needed = {
        *TrainConfig.resolve(params, task, method).models(task),
        *EvaluateConfig.resolve(params, task, method).models(task),
    }
    if "plan_value" in needed:
        needed.add("value")  # its targets go on with V̂ where episodes are cut off

    def outputs(stage: str) -> tuple[Path, Path, Path]:
        return folder / f"{stage}.safetensors", folder / f"{stage}.json", folder / f"{stage}.csv"

    segments_path = folder / "segments.h5"
    segment(task, SegmentConfig.resolve(params, task), raw_path, segments_path)
    yield None
    if "dynamics" in needed:
        train_dynamics(task, DynamicsConfig.resolve(params, task), 0, raw_path, *outputs("dynamics"))
        yield None
    if "reward" in needed:
        train_reward(task, RewardConfig.resolve(params, task), 0, raw_path, *outputs("reward"))
        yield None
    if "value" in needed:
        train_value(task, ValueConfig.resolve(params, task), 0, raw_path, *outputs("value"))
        yield None
    if "plan_value" in needed:
        output, report, curve = outputs("plan_value")
        train_plan_value(
            task, PlanValueConfig.resolve(params, task), 0, raw_path=raw_path, segments_path=segments_path,
            value_path=outputs("value")[0], output=output, report=report, curve=curve,
        )  # fmt: skip
        yield None


def train(name: str, task: Task, params: Params, raw_path: Path, folder: Path, every: int) -> Iterator[Path]:
    """Train the network of a method after `prepare`, whose arguments it takes.

    Yields:
        Every so many gradient steps, and after the last one, the path of averaged weights, with which `planner` plans.
    """
    config = TrainConfig.resolve(params, task, get_method(name))
    mechanisms = {stage: folder / f"{stage}.safetensors" for stage in config.models(task)}
    inputs = Inputs(raw=raw_path, segments=folder / "segments.h5", **mechanisms)
    objective, windows = load_objective(task, config, 0, inputs)
    model = objective.model
    state = new_state(objective, windows, torch.Generator(choose_device()).manual_seed(0))
    for step in range(1, config.train_steps + 1):
        gradient_step(config, state)
        if step % every == 0 or step == config.train_steps:
            path, weights = folder / f"{name}-{step}.safetensors", [p.detach().clone() for p in state.parameters]
            with torch.no_grad():
                torch._foreach_copy_(state.parameters, state.average)
                model.save(path)
                torch._foreach_copy_(state.parameters, weights)
            yield path


def planner(name: str, task: Task, params: Params, checkpoint: Path) -> Planner:
    """The planner of a checkpoint that `train` yielded."""
    names = ("dynamics", "reward", "value", "plan_value")
    paths = {name: checkpoint.with_name(f"{name}.safetensors") for name in names}
    files = Inputs(model=checkpoint, **{name: path for name, path in paths.items() if path.exists()})
    return load_planner(task, EvaluateConfig.resolve(params, task, get_method(name)), 0, files)
