"""What each subcommand does: hand its arguments and parameters to the stage. The docstrings are shown by `--help`."""

import argparse
import os
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from dmemm.config import (
    CalibrateConfig,
    DownloadConfig,
    DynamicsConfig,
    EvaluateConfig,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    StageConfig,
    ValueConfig,
    acting_config,
    load_params,
    override,
    override_own,
    split,
    training_config,
)
from dmemm.errors import UserError
from dmemm.files import parse_yaml
from dmemm.inputs import Inputs
from dmemm.methods import Method, get_method
from dmemm.tasks import Task, get_task

ROOT = Path(__file__).parents[1]
METHODS_ENVIRONMENT = ".venv-methods"
SEEDS = 100_000  # each has environments of its own, see `dmemm.planning.rollout`

AnyConfig = TypeVar("AnyConfig", bound=StageConfig)

# Stages import what they need when they run: torch takes seconds, and `--help` or a table need none of it.


def _resolve(
    arguments: argparse.Namespace, kind: type[AnyConfig], method: Method | None = None
) -> tuple[Task, AnyConfig]:
    """The task, and the stage's parameters: those given on the command line, the others from params.yaml."""
    unknown = [a for a in arguments.assignments if split(a)[0] not in kind.parameters()]
    if unknown:
        raise UserError(f"{unknown[0]}: not a parameter of this stage; it reads {', '.join(kind.parameters())}")
    seed = getattr(arguments, "seed", 0)
    if not 0 <= seed < SEEDS:
        raise UserError(f"seed {seed}: use one from 0 to {SEEDS - 1}")
    params = override(load_params(Path("params.yaml")), arguments.assignments)
    task = override_own(get_task(arguments.task), arguments.assignments)
    fixed = method.fixed if method else {}
    for assignment in arguments.assignments:
        name, _, value = split(assignment)
        if name in fixed and fixed[name] != parse_yaml(value):
            raise UserError(f"{assignment}: {arguments.method} fixes {name} at {fixed[name]}; leave it out")
    return task, kind.resolve(params, task, method)


def _inputs(arguments: argparse.Namespace) -> Inputs:
    return Inputs(**{field.name: getattr(arguments, field.name, None) for field in fields(Inputs)})


def _planner(arguments: argparse.Namespace) -> Method:
    """The method, which must be a variant of the planner."""
    method = get_method(arguments.method)
    if not method.is_planner:
        raise UserError(f"{method.name}: not a variant of the planner; this stage needs a guide and plans")
    return method


def download(arguments: argparse.Namespace) -> None:
    """Download or generate a data set, and check it."""
    from dmemm.data.download import download

    download(*_resolve(arguments, DownloadConfig), arguments.output, arguments.statistics)


def segment(arguments: argparse.Namespace) -> None:
    """Cut a data set into windows of one horizon."""
    from dmemm.data.segments import segment

    segment(*_resolve(arguments, SegmentConfig), arguments.raw, arguments.output)


def dynamics(arguments: argparse.Namespace) -> None:
    """Train the transition ensemble."""
    from dmemm.training.mechanisms import train_dynamics

    task, config = _resolve(arguments, DynamicsConfig)
    train_dynamics(task, config, arguments.seed, arguments.raw, arguments.output, arguments.report, arguments.curve)


def reward(arguments: argparse.Namespace) -> None:
    """Train the reward model."""
    from dmemm.training.mechanisms import train_reward

    task, config = _resolve(arguments, RewardConfig)
    train_reward(task, config, arguments.seed, arguments.raw, arguments.output, arguments.report, arguments.curve)


def value(arguments: argparse.Namespace) -> None:
    """Train the value model of states."""
    from dmemm.training.mechanisms import train_value

    task, config = _resolve(arguments, ValueConfig)
    train_value(task, config, arguments.seed, arguments.raw, arguments.output, arguments.report, arguments.curve)


def plan_value(arguments: argparse.Namespace) -> None:
    """Train the value of noisy plans, Diffuser's guide."""
    from dmemm.training.plan_value import train_plan_value

    task, config = _resolve(arguments, PlanValueConfig)
    train_plan_value(
        task, config, arguments.seed,
        raw_path=arguments.raw, segments_path=arguments.segments, value_path=arguments.value,
        output=arguments.output, report=arguments.report, curve=arguments.curve,
    )  # fmt: skip


def train(arguments: argparse.Namespace) -> None:
    """Train a method: the diffusion model of a variant (eq. 12), or another method's policy."""
    method = get_method(arguments.method)
    python = ROOT / METHODS_ENVIRONMENT / "bin" / "python"
    if method.by_d3rlpy and Path(sys.prefix).name != METHODS_ENVIRONMENT and python.exists():
        # The same command, run there; the package is found by its own folder only.
        os.execve(python, [str(python), "-m", "dmemm", *sys.argv[1:]], {**os.environ, "PYTHONPATH": str(ROOT)})
    task, config = _resolve(arguments, training_config(method), method)
    import_module(method.trainer).train(
        method, task, config, arguments.seed, _inputs(arguments),
        output=arguments.output, curve=arguments.curve, report=arguments.report,
    )  # fmt: skip


def evaluate(arguments: argparse.Namespace) -> None:
    """Score a method in its environment; planners sample under guidance (eq. 13)."""
    from dmemm.evaluation.evaluate import evaluate

    method = get_method(arguments.method)
    task, config = _resolve(arguments, acting_config(method), method)
    evaluate(method, task, config, arguments.seed, _inputs(arguments), output=arguments.output)


def consistency(arguments: argparse.Namespace) -> None:
    """Measure how well plans agree with the ensemble and the simulator."""
    from dmemm.evaluation.consistency import consistency

    method = get_method(arguments.method)
    task, config = _resolve(arguments, acting_config(method), method)
    consistency(method, task, config, arguments.seed, _inputs(arguments), output=arguments.output)


def calibrate(arguments: argparse.Namespace) -> None:
    """Score settings of the guide on episodes that no table uses."""
    from dmemm.evaluation.calibrate import calibrate

    method = _planner(arguments)
    task, config = _resolve(arguments, CalibrateConfig, method)
    calibrate(method, task, config, arguments.seed, _inputs(arguments), output=arguments.output)


def pictures(arguments: argparse.Namespace) -> None:
    """Draw plans and the paths that were taken."""
    from dmemm.evaluation.pictures import pictures

    method = _planner(arguments)
    task, config = _resolve(arguments, EvaluateConfig, method)
    pictures(
        method, task, config, arguments.seed, _inputs(arguments),
        output=arguments.output, denoising=arguments.denoising, animation=arguments.animation, page=arguments.page,
    )  # fmt: skip


def table(arguments: argparse.Namespace) -> None:
    """Write a table of the paper from score files."""
    from dmemm.reporting.tables import write_table

    write_table(arguments.number, arguments.scores, arguments.published, arguments.outputs, arguments.long)


def ranking(arguments: argparse.Namespace) -> None:
    """Compare the ranking of the methods with the published one."""
    from dmemm.reporting.ranking import write_ranking

    write_ranking(arguments.scores, arguments.published, arguments.outputs)


def intervals(arguments: argparse.Namespace) -> None:
    """Compare variants over all tasks and seeds, with confidence intervals."""
    from dmemm.reporting.intervals import write_intervals

    write_intervals(arguments.scores, arguments.outputs)


def training(arguments: argparse.Namespace) -> None:
    """List what the training of each method took, beside its score."""
    from dmemm.reporting.cost import write_training

    write_training(arguments.records, arguments.scores, arguments.outputs)


def figure(arguments: argparse.Namespace) -> None:
    """Draw Figure 1 from score files."""
    from dmemm.reporting.figures import write_figure1

    write_figure1(arguments.scores, arguments.params, arguments.outputs)


def curves(arguments: argparse.Namespace) -> None:
    """Draw learning curves."""
    from dmemm.reporting.curves import write_curves

    write_curves(arguments.curves, arguments.mechanisms, arguments.outputs)


def study(arguments: argparse.Namespace) -> None:
    """Compare the choices of the transition loss."""
    from dmemm.reporting.study import write_study

    write_study(arguments.scores, arguments.consistency, arguments.outputs)


def guide(arguments: argparse.Namespace) -> None:
    """Compare the settings of the guide."""
    from dmemm.reporting.guide import write_guide

    write_guide(arguments.calibrations, arguments.outputs)


def consistency_table(arguments: argparse.Namespace) -> None:
    """Compare the errors of the variants' plans."""
    from dmemm.reporting.plan_errors import write_consistency

    write_consistency(arguments.consistency, arguments.outputs)


def metrics(arguments: argparse.Namespace) -> None:
    """Collect the averages of the tables for `dvc metrics`."""
    from dmemm.reporting.tables import write_metrics

    write_metrics(arguments.tables, arguments.output)


def setting(arguments: argparse.Namespace) -> None:
    """Write the values of a setting into params.yaml."""
    from dmemm.settings import apply_setting

    apply_setting(arguments.name, Path("params.yaml"))
