"""What each subcommand does: its arguments and parameters, handed to the stage. The docstrings are the help's text."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dmemm.config import (
    CalibrateConfig,
    DownloadConfig,
    DynamicsConfig,
    EpisodesConfig,
    EvaluateConfig,
    MethodConfig,
    Params,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    StageConfig,
    TrainConfig,
    ValueConfig,
    load_params,
    override,
)
from dmemm.errors import UserError
from dmemm.methods import BY_D3RLPY, PLANNING
from dmemm.tasks import get_task
from dmemm.variants import get_variant

ROOT = Path(__file__).parents[1]
METHODS_ENVIRONMENT = ".venv-methods"

# Stages import what they need when they run: torch takes seconds, and `--help` or a table need none of it.


def _params(arguments: argparse.Namespace, config: type[StageConfig]) -> Params:
    """The stage's parameters: those given on the command line, the others from params.yaml."""
    unknown = [a for a in arguments.assignments if a.partition("=")[0].partition(".")[0] not in config.parameters()]
    if unknown:
        raise UserError(f"{unknown[0]}: not a parameter of this stage; it reads {', '.join(config.parameters())}")
    return override(load_params(Path("params.yaml")), arguments.assignments)


def download(arguments: argparse.Namespace) -> None:
    """Fetch or make a data set and check it."""
    from dmemm.data.download import download

    task = get_task(arguments.task)
    config = DownloadConfig.resolve(_params(arguments, DownloadConfig), task)
    download(task, config, arguments.output, arguments.statistics)


def segment(arguments: argparse.Namespace) -> None:
    """Index the windows of a data set."""
    from dmemm.data.segments import segment

    task = get_task(arguments.task)
    segment(task, SegmentConfig.resolve(_params(arguments, SegmentConfig), task), arguments.raw, arguments.output)


def dynamics(arguments: argparse.Namespace) -> None:
    """Train the transition ensemble."""
    from dmemm.training.mechanisms import train_dynamics

    task = get_task(arguments.task)
    config = DynamicsConfig.resolve(_params(arguments, DynamicsConfig), task)
    train_dynamics(task, config, arguments.raw, arguments.output, arguments.report, arguments.curve)


def reward(arguments: argparse.Namespace) -> None:
    """Train the reward model."""
    from dmemm.training.mechanisms import train_reward

    task = get_task(arguments.task)
    config = RewardConfig.resolve(_params(arguments, RewardConfig), task)
    train_reward(task, config, arguments.raw, arguments.output, arguments.report, arguments.curve)


def value(arguments: argparse.Namespace) -> None:
    """Train the value model of states."""
    from dmemm.training.mechanisms import train_value

    task = get_task(arguments.task)
    config = ValueConfig.resolve(_params(arguments, ValueConfig), task)
    train_value(task, config, arguments.raw, arguments.output, arguments.report, arguments.curve)


def plan_value(arguments: argparse.Namespace) -> None:
    """Train the value of noisy plans, Diffuser's guide."""
    from dmemm.training.plan_value import train_plan_value

    task = get_task(arguments.task)
    train_plan_value(
        task, PlanValueConfig.resolve(_params(arguments, PlanValueConfig), task),
        raw_path=arguments.raw, segments_path=arguments.segments, value_path=arguments.value,
        output=arguments.output, report=arguments.report, curve=arguments.curve,
    )  # fmt: skip


def train(arguments: argparse.Namespace) -> None:
    """Train a variant's diffusion model (eq. 12)."""
    from dmemm.training.train import train

    task, variant = get_task(arguments.task), get_variant(arguments.variant)
    config = TrainConfig.resolve(_params(arguments, TrainConfig), task, variant)
    train(
        task,
        config,
        arguments.seed,
        raw_path=arguments.raw,
        segments_path=arguments.segments,
        dynamics_path=arguments.dynamics,
        reward_path=arguments.reward,
        output=arguments.output,
        curve=arguments.curve,
        report=arguments.report,
        variant=variant.name,
    )


def _plan(
    arguments: argparse.Namespace,
    run: Callable[..., None],
    config: type[EvaluateConfig] = EvaluateConfig,
    **paths: Path,
) -> None:
    """Run a stage that plans with a trained network."""
    task, variant = get_task(arguments.task), get_variant(arguments.variant)
    run(
        task,
        variant.name,
        config.resolve(_params(arguments, config), task, variant),
        arguments.seed,
        model_path=arguments.model,
        dynamics_path=arguments.dynamics,
        reward_path=arguments.reward,
        value_path=arguments.value,
        plan_value_path=arguments.plan_value,
        output=arguments.output,
        **paths,
    )


def evaluate(arguments: argparse.Namespace) -> None:
    """Plan and act under guidance (eq. 13)."""
    from dmemm.evaluation.evaluate import evaluate

    _plan(arguments, evaluate, statistics_path=arguments.statistics)


def calibrate(arguments: argparse.Namespace) -> None:
    """Try other settings of the guide."""
    from dmemm.evaluation.calibrate import calibrate

    _plan(arguments, calibrate, CalibrateConfig, statistics_path=arguments.statistics)


def train_method(arguments: argparse.Namespace) -> None:
    """Train another method."""
    python = ROOT / METHODS_ENVIRONMENT / "bin" / "python"
    if arguments.method in BY_D3RLPY and Path(sys.prefix).name != METHODS_ENVIRONMENT and python.exists():
        # The same command there; by its own folder the package is found, and by no other way.
        os.execve(python, [str(python), "-m", "dmemm", *sys.argv[1:]], {**os.environ, "PYTHONPATH": str(ROOT)})
    from dmemm.methods.base import train_method

    task = get_task(arguments.task)
    config = MethodConfig.resolve(_params(arguments, MethodConfig), task)
    train_method(
        task, arguments.method, config, arguments.seed,
        raw_path=arguments.raw, output=arguments.output, report=arguments.report,
    )  # fmt: skip


def evaluate_method(arguments: argparse.Namespace) -> None:
    """Score another method."""
    from dmemm.methods.evaluate import evaluate_method

    task = get_task(arguments.task)
    config = EpisodesConfig.resolve(_params(arguments, EpisodesConfig), task)
    evaluate_method(
        task, arguments.method, config, arguments.seed,
        model_path=arguments.model, statistics_path=arguments.statistics, output=arguments.output,
    )  # fmt: skip


def consistency_method(arguments: argparse.Namespace) -> None:
    """Compare another method's plans with what happens."""
    from dmemm.methods.consistency import method_consistency

    if arguments.method not in PLANNING:
        raise UserError(f"{arguments.method}: makes no plans of states; choose one of {', '.join(PLANNING)}")
    method_consistency(
        get_task(arguments.task), arguments.method, arguments.seed,
        model_path=arguments.model, dynamics_path=arguments.dynamics, raw_path=arguments.raw,
        segments_path=arguments.segments, output=arguments.output,
    )  # fmt: skip


def consistency(arguments: argparse.Namespace) -> None:
    """Compare plans with what happens."""
    from dmemm.evaluation.consistency import consistency

    _plan(arguments, consistency, raw_path=arguments.raw, segments_path=arguments.segments)


def pictures(arguments: argparse.Namespace) -> None:
    """Draw plans and what happened."""
    from dmemm.evaluation.pictures import pictures

    _plan(arguments, pictures, denoising=arguments.denoising, animation=arguments.animation)


def table(arguments: argparse.Namespace) -> None:
    """Write a table of the paper from score files."""
    from dmemm.reporting.tables import write_table

    write_table(arguments.number, arguments.scores, arguments.published, arguments.outputs, arguments.long)


def ranking(arguments: argparse.Namespace) -> None:
    """Compare the methods' order with the published one."""
    from dmemm.reporting.ranking import write_ranking

    write_ranking(arguments.scores, arguments.published, arguments.outputs)


def intervals(arguments: argparse.Namespace) -> None:
    """Compare variants over all tasks and seeds."""
    from dmemm.reporting.intervals import write_intervals

    write_intervals(arguments.scores, arguments.outputs)


def training(arguments: argparse.Namespace) -> None:
    """Compare what the methods' trainings took."""
    from dmemm.reporting.training import write_training

    write_training(arguments.records, arguments.scores, arguments.outputs)


def figure(arguments: argparse.Namespace) -> None:
    """Draw Figure 1 from score files."""
    from dmemm.reporting.figures import write_figure1

    write_figure1(arguments.scores, arguments.params, arguments.outputs)


def curves(arguments: argparse.Namespace) -> None:
    """Draw the losses along training."""
    from dmemm.reporting.curves import write_curves

    write_curves(arguments.curves, arguments.mechanisms, arguments.outputs)


def study(arguments: argparse.Namespace) -> None:
    """Compare the method's choices."""
    from dmemm.reporting.study import write_study

    write_study(arguments.scores, arguments.consistency, arguments.outputs)


def guide(arguments: argparse.Namespace) -> None:
    """Compare the guide's settings."""
    from dmemm.reporting.guide import write_guide

    write_guide(arguments.calibrations, arguments.outputs)


def consistency_table(arguments: argparse.Namespace) -> None:
    """Compare the variants' plans."""
    from dmemm.reporting.consistency import write_consistency

    write_consistency(arguments.consistency, arguments.outputs)


def metrics(arguments: argparse.Namespace) -> None:
    """Collect the tables' averages for `dvc metrics`."""
    from dmemm.reporting.tables import write_metrics

    write_metrics(arguments.tables, arguments.output)


def setting(arguments: argparse.Namespace) -> None:
    """Put a setting's values into params.yaml."""
    from dmemm.settings import apply_setting

    apply_setting(arguments.name, Path("params.yaml"))
