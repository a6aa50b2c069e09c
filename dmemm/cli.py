"""The command line: one subcommand a stage. `dmemm STAGE --help` says what it reads and writes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dmemm.config import (
    DownloadConfig,
    DynamicsConfig,
    EvaluateConfig,
    Params,
    RewardConfig,
    SegmentConfig,
    StageConfig,
    TrainConfig,
    load_params,
    override,
)
from dmemm.errors import UserError
from dmemm.tasks import get_task
from dmemm.variants import get_variant

# Stages import what they need when they run: torch takes seconds, and `--help` or a table need none of it.


def _params(arguments: argparse.Namespace, config: type[StageConfig]) -> Params:
    """The stage's parameters: those given on the command line, the others from params.yaml."""
    unknown = [a for a in arguments.assignments if a.partition("=")[0] not in config.parameters()]
    if unknown:
        raise UserError(f"{unknown[0]}: not a parameter of this stage; it reads {', '.join(config.parameters())}")
    return override(load_params(Path("params.yaml")), arguments.assignments)


def _download(arguments: argparse.Namespace) -> None:
    from dmemm.data.download import download

    task = get_task(arguments.task)
    config = DownloadConfig.resolve(_params(arguments, DownloadConfig), task)
    download(task, config, arguments.output, arguments.statistics)


def _segment(arguments: argparse.Namespace) -> None:
    from dmemm.data.segments import segment

    task = get_task(arguments.task)
    segment(task, SegmentConfig.resolve(_params(arguments, SegmentConfig), task), arguments.raw, arguments.output)


def _dynamics(arguments: argparse.Namespace) -> None:
    from dmemm.models.regression import train_dynamics

    task = get_task(arguments.task)
    config = DynamicsConfig.resolve(_params(arguments, DynamicsConfig), task)
    train_dynamics(task, config, arguments.raw, arguments.output, arguments.report)


def _reward(arguments: argparse.Namespace) -> None:
    from dmemm.models.regression import train_reward

    task = get_task(arguments.task)
    config = RewardConfig.resolve(_params(arguments, RewardConfig), task)
    train_reward(task, config, arguments.raw, arguments.output, arguments.report)


def _train(arguments: argparse.Namespace) -> None:
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
    )


def _plan(arguments: argparse.Namespace, run: Callable[..., None], **paths: Path) -> None:
    """Run a stage that plans with a trained network."""
    task, variant = get_task(arguments.task), get_variant(arguments.variant)
    run(
        task,
        variant.name,
        EvaluateConfig.resolve(_params(arguments, EvaluateConfig), task, variant),
        arguments.seed,
        model_path=arguments.model,
        dynamics_path=arguments.dynamics,
        reward_path=arguments.reward,
        output=arguments.output,
        **paths,
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    from dmemm.evaluation.evaluate import evaluate

    _plan(arguments, evaluate, statistics_path=arguments.statistics)


def _consistency(arguments: argparse.Namespace) -> None:
    from dmemm.evaluation.consistency import consistency

    _plan(arguments, consistency, raw_path=arguments.raw, segments_path=arguments.segments)


def _pictures(arguments: argparse.Namespace) -> None:
    from dmemm.evaluation.pictures import pictures

    _plan(arguments, pictures, denoising=arguments.denoising, animation=arguments.animation)


def _table(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.tables import write_table

    paths = arguments.published, arguments.csv, arguments.markdown, arguments.long
    write_table(arguments.number, arguments.scores, *paths)


def _figure(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.figures import write_figure1

    write_figure1(arguments.scores, arguments.params, arguments.outputs)


def _study(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.study import write_study

    write_study(arguments.scores, arguments.consistency, arguments.csv, arguments.markdown, arguments.figure)


def _consistency_table(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.consistency import write_consistency

    write_consistency(arguments.consistency, arguments.csv, arguments.markdown, arguments.figure)


def _metrics(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.tables import write_metrics

    write_metrics(arguments.tables, arguments.output)


def _setting(arguments: argparse.Namespace) -> None:
    from dmemm.settings import apply_setting

    apply_setting(arguments.name, Path("params.yaml"))


def _stage(
    stages: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    description: str,
    config: type[StageConfig] | None = None,
) -> argparse.ArgumentParser:
    parser = stages.add_parser(name, help=description, description=description)
    parser.set_defaults(run=run)
    if config is not None:
        parser.add_argument("task", help="a task's name, e.g. hopper-medium-expert or maze2d-umaze")
        parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE",
                            help=f"instead of params.yaml's value; keys: {', '.join(config.parameters())}")  # fmt: skip
    return parser


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of every stage."""
    top = argparse.ArgumentParser(prog="dmemm", description="Offline-RL planning with modulated diffusion (DMEMM).")
    stages = top.add_subparsers(required=True, metavar="STAGE")

    stage = _stage(stages, "download", _download, "Fetch or make a data set and check it.", DownloadConfig)
    stage.add_argument("--output", type=Path, required=True, help="raw data, HDF5 in D4RL's layout")
    stage.add_argument("--statistics", type=Path, required=True, help="the data set's statistics, JSON")

    stage = _stage(stages, "segment", _segment, "Index the windows of a data set.", SegmentConfig)
    stage.add_argument("--raw", type=Path, required=True)
    stage.add_argument("--output", type=Path, required=True, help="windows and normaliser, HDF5")

    for name, run, description, config in (
        ("dynamics", _dynamics, "Train the transition ensemble.", DynamicsConfig),
        ("reward", _reward, "Train the reward model.", RewardConfig),
    ):
        stage = _stage(stages, name, run, description, config)
        stage.add_argument("--raw", type=Path, required=True)
        stage.add_argument("--output", type=Path, required=True, help="weights, safetensors")
        stage.add_argument("--report", type=Path, required=True, help="held-out errors, JSON")

    stage = _stage(stages, "train", _train, "Train a variant's diffusion model (eq. 12).", TrainConfig)
    stage.add_argument("variant", help="dmemm, diffuser, wo_..., lambda_tr=VALUE or lambda_rd=VALUE")
    stage.add_argument("seed", type=int)
    for name in ("raw", "segments"):
        stage.add_argument(f"--{name}", type=Path, required=True)
    for name in ("dynamics", "reward"):
        stage.add_argument(f"--{name}", type=Path, help="only variants with modulation losses need it")
    stage.add_argument("--output", type=Path, required=True, help="averaged weights, safetensors")
    stage.add_argument("--curve", type=Path, required=True, help="losses along training, CSV")

    stage = _stage(stages, "evaluate", _evaluate, "Plan and act under guidance (eq. 13).", EvaluateConfig)
    stage.add_argument("variant")
    stage.add_argument("seed", type=int)
    stage.add_argument("--model", type=Path, required=True)
    stage.add_argument("--reward", type=Path, required=True)
    stage.add_argument("--dynamics", type=Path, help="only variants with transition guidance need it")
    stage.add_argument("--statistics", type=Path, required=True, help="of the data set, as `download` wrote them")
    stage.add_argument("--output", type=Path, required=True, help="scores, JSON")

    stage = _stage(stages, "consistency", _consistency, "Compare plans with what happens.", EvaluateConfig)
    stage.add_argument("variant")
    stage.add_argument("seed", type=int)
    for name in ("model", "dynamics", "reward", "raw", "segments"):
        stage.add_argument(f"--{name}", type=Path, required=True)
    stage.add_argument("--output", type=Path, required=True, help="transition errors and spread of plans, JSON")

    stage = _stage(stages, "pictures", _pictures, "Draw plans and what happened.", EvaluateConfig)
    stage.add_argument("variant")
    stage.add_argument("seed", type=int)
    for name in ("model", "dynamics", "reward"):
        stage.add_argument(f"--{name}", type=Path, required=True)
    stage.add_argument("--output", type=Path, required=True, help="plans and paths, PNG")
    stage.add_argument("--denoising", type=Path, required=True, help="a plan from noise to clean, PNG")
    stage.add_argument("--animation", type=Path, required=True, help="plan and rollout, GIF")

    stage = _stage(stages, "table", _table, "Write a table of the paper from score files.")
    stage.add_argument("number", type=int, choices=(1, 2, 3))
    stage.add_argument("--scores", type=Path, nargs="+", required=True)
    stage.add_argument("--published", type=Path, required=True, help="the paper's own numbers, CSV")
    stage.add_argument("--csv", type=Path, required=True)
    stage.add_argument("--markdown", type=Path, required=True)
    stage.add_argument("--long", type=Path, help="a line a seed and way to execute the plans, CSV")

    stage = _stage(stages, "figure", _figure, "Draw Figure 1 from score files.")
    stage.add_argument("--scores", type=Path, nargs="+", required=True)
    stage.add_argument("--params", nargs=2, required=True, metavar="KEY=VALUE", help="lambda_tr=, lambda_rd= of dmemm")
    stage.add_argument("--outputs", type=Path, nargs="+", required=True, help="one file a format: png, pdf")

    for stage_name, run, description in (
        ("consistency-table", _consistency_table, "Compare the variants' plans with what happens."),
        ("study", _study, "Compare the method's choices."),
    ):
        stage = _stage(stages, stage_name, run, description)
        stage.add_argument("--consistency", type=Path, nargs="+", required=True)
        for name in ("csv", "markdown", "figure"):
            stage.add_argument(f"--{name}", type=Path, required=True)
    stage.add_argument("--scores", type=Path, nargs="+", required=True)

    stage = _stage(stages, "metrics", _metrics, "Collect the tables' averages for `dvc metrics`.")
    stage.add_argument("--tables", type=Path, nargs="+", required=True)
    stage.add_argument("--output", type=Path, required=True)

    stage = _stage(stages, "setting", _setting, "Put a setting's values into params.yaml.")
    stage.add_argument("name", choices=("quick", "paper"))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"dmemm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dmemm: interrupted; nothing half-written was kept", file=sys.stderr)
        return 130
    return 0
