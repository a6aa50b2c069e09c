"""The command line: one subcommand a stage. `dmemm STAGE --help` says what it reads and writes."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
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

    write_table(arguments.number, arguments.scores, arguments.published, arguments.outputs, arguments.long)


def _intervals(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.intervals import write_intervals

    write_intervals(arguments.scores, arguments.outputs)


def _figure(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.figures import write_figure1

    write_figure1(arguments.scores, arguments.params, arguments.outputs)


def _curves(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.curves import write_curves

    write_curves(arguments.curves, arguments.outputs)


def _study(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.study import write_study

    write_study(arguments.scores, arguments.consistency, arguments.outputs)


def _consistency_table(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.consistency import write_consistency

    write_consistency(arguments.consistency, arguments.outputs)


def _metrics(arguments: argparse.Namespace) -> None:
    from dmemm.reporting.tables import write_metrics

    write_metrics(arguments.tables, arguments.output)


def _setting(arguments: argparse.Namespace) -> None:
    from dmemm.settings import apply_setting

    apply_setting(arguments.name, Path("params.yaml"))


_TASK = "hopper-medium-expert"
_MODELS = f"results/models/{_TASK}"
_SCORES = f"results/eval/dmemm/{_TASK}/seed0.json"
_CONSISTENCY = f"results/consistency/dmemm/{_TASK}/seed0.json"

# Option → what it is, and where the pipeline has it. Where stages read it:
_READS = {
    "raw": ("raw data, of `download`", f"data/raw/{_TASK}.hdf5"),
    "segments": ("windows, of `segment`", f"data/segments/{_TASK}.h5"),
    "dynamics": ("transition ensemble, of `dynamics`", f"{_MODELS}/dynamics.safetensors"),
    "reward": ("reward model, of `reward`", f"{_MODELS}/reward.safetensors"),
    "model": ("diffusion model, of `train`", f"{_MODELS}/dmemm/seed0.safetensors"),
    "statistics": ("the data set's statistics, of `download`", f"results/data/{_TASK}.json"),
    "published": ("the paper's own numbers, CSV", "workflow/resources/published.csv"),
    "scores": ("score files, of `evaluate`", _SCORES),
    "consistency": ("files of `consistency`", _CONSISTENCY),
    "curves": ("losses along training, of `train`", f"results/curves/{_TASK}/dmemm/seed0.csv"),
    "tables": ("tables, of `table`", "results/table1.csv"),
}  # fmt: skip
_LISTS = ("scores", "consistency", "curves", "tables", "outputs")

_TABLES = ("csv", "md", "html", "tex")
_FIGURES = ("png", "pdf")

Files = Mapping[str, tuple[str, str]]


def _outputs(stem: str, *kinds: str) -> Files:
    paths = " ".join(f"results/{stem}.{kind}" for kind in kinds)
    return {"outputs": (f"one file a format, by suffix; formats: {', '.join(kinds)}", paths)}


def _stage(
    stages: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    description: str,
    *,
    reads: Sequence[str] = (),
    optional: Sequence[str] = (),
    writes: Files,
    config: type[StageConfig] | None = None,
    of_variant: bool = False,
    example: str = "",
) -> argparse.ArgumentParser:
    """A subcommand; `optional` are those of `reads` that some variants do without, `example` its other arguments."""
    parser = stages.add_parser(
        name, help=description, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    command = f"dmemm {name}"
    if config is not None:
        parser.add_argument("task", help="a task's name, e.g. hopper-medium-expert or maze2d-umaze")
        parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE",
                            help=f"instead of params.yaml's value; keys: {', '.join(config.parameters())}")  # fmt: skip
        command += f" {_TASK}"
    if of_variant:
        parser.add_argument("variant", help="dmemm, diffuser, wo_..., lambda_tr=VALUE or lambda_rd=VALUE")
        parser.add_argument("seed", type=int, help="of everything random")
        command += " dmemm 0"
    lines = [f"{command} {example}".rstrip()]
    files: Files = {option: _READS[option] for option in reads}
    for title, options in (("reads", files), ("writes", writes)):
        group = parser.add_argument_group(title)
        for option, (text, path) in options.items():
            note = "; only some variants need it" if option in optional else ""
            many = {"nargs": "+"} if option in _LISTS else {}
            group.add_argument(f"--{option}", type=Path, required=option not in optional, help=text + note, **many)
            lines.append(f"--{option} {path}")
    parser.epilog = "example:\n  " + " \\\n    ".join(lines)
    return parser


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of every stage."""
    top = argparse.ArgumentParser(prog="dmemm", description="Offline-RL planning with modulated diffusion (DMEMM).")
    stages = top.add_subparsers(required=True, metavar="STAGE")
    _stage(
        stages, "download", _download, "Fetch or make a data set and check it.", config=DownloadConfig,
        writes={"output": ("raw data, HDF5 in D4RL's layout", _READS["raw"][1]),
                "statistics": ("the data set's statistics, JSON", _READS["statistics"][1])},
    )  # fmt: skip
    _stage(
        stages, "segment", _segment, "Index the windows of a data set.", config=SegmentConfig,
        reads=["raw"], writes={"output": ("windows and normaliser, HDF5", _READS["segments"][1])},
    )  # fmt: skip
    for name, run, description, config in (
        ("dynamics", _dynamics, "Train the transition ensemble.", DynamicsConfig),
        ("reward", _reward, "Train the reward model.", RewardConfig),
    ):
        _stage(
            stages, name, run, description, config=config,
            reads=["raw"], writes={"output": ("weights, safetensors", _READS[name][1]),
                                   "report": ("held-out errors, JSON", f"{_MODELS}/{name}.json")},
        )  # fmt: skip
    _stage(
        stages, "train", _train, "Train a variant's diffusion model (eq. 12).", config=TrainConfig, of_variant=True,
        reads=["raw", "segments", "dynamics", "reward"], optional=["dynamics", "reward"],
        writes={"output": ("averaged weights, safetensors", _READS["model"][1]),
                "curve": ("losses along training, CSV", _READS["curves"][1])},
    )  # fmt: skip
    _stage(
        stages, "evaluate", _evaluate, "Plan and act under guidance (eq. 13).", config=EvaluateConfig, of_variant=True,
        reads=["model", "reward", "dynamics", "statistics"], optional=["dynamics"],
        writes={"output": ("scores, JSON", _SCORES)},
    )  # fmt: skip
    _stage(
        stages, "consistency", _consistency, "Compare plans with what happens.", config=EvaluateConfig, of_variant=True,
        reads=["model", "dynamics", "reward", "raw", "segments"],
        writes={"output": ("transition errors and spread of plans, JSON", _CONSISTENCY)},
    )  # fmt: skip
    pictures = f"results/pictures/dmemm/{_TASK}/seed0"
    _stage(
        stages, "pictures", _pictures, "Draw plans and what happened.", config=EvaluateConfig, of_variant=True,
        reads=["model", "dynamics", "reward"],
        writes={"output": ("plans and paths, PNG", f"{pictures}.png"),
                "denoising": ("a plan from noise to clean, PNG", f"{pictures}.denoising.png"),
                "animation": ("plan and rollout, GIF", f"{pictures}.gif")},
    )  # fmt: skip
    stage = _stage(
        stages, "table", _table, "Write a table of the paper from score files.", example="1",
        reads=["scores", "published"], writes=_outputs("table1", *_TABLES),
    )  # fmt: skip
    stage.add_argument("number", type=int, choices=(1, 2, 3))
    stage.add_argument("--long", type=Path, help="a line a seed and way to execute the plans, CSV")
    stage = _stage(
        stages, "figure", _figure, "Draw Figure 1 from score files.", example="--params lambda_tr=0.1 lambda_rd=0.05",
        reads=["scores"], writes=_outputs("figure1", *_FIGURES),
    )  # fmt: skip
    stage.add_argument("--params", nargs=2, required=True, metavar="KEY=VALUE", help="lambda_tr=, lambda_rd= of dmemm")
    for name, run, description, reads, stem, kinds in (
        ("intervals", _intervals, "Compare variants over all tasks and seeds.", ["scores"], "intervals", _TABLES),
        ("curves", _curves, "Draw the losses along training.", ["curves"], "curves", _FIGURES),
        ("consistency-table", _consistency_table, "Compare the variants' plans.", ["consistency"], "consistency",
         _TABLES + _FIGURES),
        ("study", _study, "Compare the method's choices.", ["scores", "consistency"], "estimators", _TABLES + _FIGURES),
    ):  # fmt: skip
        _stage(stages, name, run, description, reads=reads, writes=_outputs(stem, *kinds))
    _stage(
        stages, "metrics", _metrics, "Collect the tables' averages for `dvc metrics`.",
        reads=["tables"], writes={"output": ("averages, JSON", "results/metrics.json")},
    )  # fmt: skip
    stage = _stage(stages, "setting", _setting, "Put a setting's values into params.yaml.", writes={}, example="quick")
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
