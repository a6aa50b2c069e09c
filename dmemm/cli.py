"""The command line, with one subcommand for each stage. `dmemm STAGE --help` says what the stage reads and writes."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmemm import stages
from dmemm.config import (
    CalibrateConfig,
    DownloadConfig,
    DynamicsConfig,
    EvaluateConfig,
    MethodConfig,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    TrainConfig,
    ValueConfig,
)
from dmemm.errors import UserError
from dmemm.inputs import PATHS
from dmemm.memory import keep_freed_memory
from dmemm.methods import METHODS

_TASK = "hopper-medium-expert"
_SCORES = f"results/eval/dmemm/{_TASK}/seed0.json"
_CONSISTENCY = f"results/consistency/dmemm/{_TASK}/seed0.json"


def _path(name: str) -> str:
    return PATHS[name].format(task=_TASK, method="dmemm", seed=0)


# Options of inputs → what each is, and where the pipeline has it.
_READS = {
    "raw": ("raw data, of `download`", _path("raw")),
    "segments": ("windows, of `segment`", _path("segments")),
    "dynamics": ("transition ensemble, of `dynamics`", _path("dynamics")),
    "reward": ("reward model, of `reward`", _path("reward")),
    "value": ("value model, of `value`", _path("value")),
    "plan-value": ("value of noisy plans, of `plan-value`", _path("plan_value")),
    "model": ("trained weights, of `train`", _path("model")),
    "statistics": ("the data set's statistics, of `download`", _path("statistics")),
    "published": ("the scores that the paper reports, CSV", "workflow/resources/published.csv"),
    "scores": ("score files, of `evaluate`", _SCORES),
    "consistency": ("files of `consistency`", _CONSISTENCY),
    "curves": ("losses during training, of `train`", f"results/curves/{_TASK}/dmemm/seed0.csv"),
    "mechanisms": (
        "held-out losses of `dynamics`, `reward`, `value`, `plan-value`",
        f"results/dynamics/{_TASK}/seed0.csv",
    ),
    "records": ("gradient steps and time, of `train`", f"results/training/{_TASK}/dmemm/seed0.json"),
    "calibrations": ("scores of each setting, of `calibrate`", f"results/calibrate/dmemm/{_TASK}/seed0.json"),
    "tables": ("tables, of `table`", "results/table1.csv"),
}
_LISTS = ("scores", "records", "consistency", "curves", "mechanisms", "calibrations", "tables", "outputs")

_TABLES = ("csv", "md", "html", "tex")
_FIGURES = ("png", "pdf")

Files = Mapping[str, tuple[str, str]]


def _outputs(stem: str, *kinds: str) -> Files:
    paths = " ".join(f"results/{stem}.{kind}" for kind in kinds)
    return {"outputs": (f"one file for each format, told by its suffix; formats: {', '.join(kinds)}", paths)}


def _stage(
    subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    reads: Sequence[str] = (),
    optional: Sequence[str] = (),
    writes: Files,
    parameters: Sequence[str] = (),
    of_method: bool = False,
    seeded: bool = False,
    example: str = "",
) -> argparse.ArgumentParser:
    """Add a subcommand that calls the function of the same name in `dmemm.stages`.

    It takes a task if it has `parameters`, a seed if `seeded`, and a method and a seed if `of_method`. `optional` are
    inputs that only some methods and tasks require; `example` are further arguments for the example in the help text.
    """
    run = getattr(stages, name.replace("-", "_"))
    description = run.__doc__
    parser = subcommands.add_parser(
        name, help=description, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run, writes=tuple(writes))
    command = f"dmemm {name}"
    if parameters:
        parser.add_argument("task", help="a task's name, e.g. hopper-medium-expert or maze2d-umaze")
        parser.add_argument("--set", dest="assignments", action="extend", nargs="*", default=[], metavar="KEY=VALUE",
                            help="use VALUE, not params.yaml's (KEY.locomotion=VALUE or KEY.maze=VALUE: one suite); "
                            f"keys: {', '.join(parameters)}")  # fmt: skip
        command += f" {_TASK}"
    if of_method:
        parser.add_argument("method", help=f"{', '.join(METHODS)}, lambda_tr=VALUE or lambda_rd=VALUE")
        command += " dmemm"
    if of_method or seeded:
        parser.add_argument("seed", type=int, help="seed of all random numbers")
        command += " 0"
    lines = [f"{command} {example}".rstrip()]
    files: Files = {option: _READS[option] for option in (*reads, *optional)}
    for title, options in (("reads", files), ("writes", writes)):
        group = parser.add_argument_group(title)
        for option, (text, path) in options.items():
            note = "; only some methods and tasks require it" if option in optional else ""
            many = {"nargs": "+"} if option in _LISTS else {}
            group.add_argument(f"--{option}", type=Path, required=option not in optional, help=text + note, **many)
            lines.append(f"--{option} {path}")
    parser.epilog = "example:\n  " + " \\\n    ".join(lines)
    return parser


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of every stage."""
    top = argparse.ArgumentParser(prog="dmemm", description="Offline-RL planning with modulated diffusion (DMEMM).")
    subcommands = top.add_subparsers(required=True, metavar="STAGE")
    _stage(
        subcommands, "download", parameters=DownloadConfig.parameters(),
        writes={"output": ("raw data, HDF5 in D4RL's layout", _path("raw")),
                "statistics": ("the data set's statistics, JSON", _path("statistics"))},
    )  # fmt: skip
    _stage(
        subcommands, "segment", parameters=SegmentConfig.parameters(),
        reads=["raw"], writes={"output": ("windows and normaliser, HDF5", _path("segments"))},
    )  # fmt: skip
    for name, config in (
        ("dynamics", DynamicsConfig),
        ("reward", RewardConfig),
        ("value", ValueConfig),
        ("plan-value", PlanValueConfig),
    ):
        weights = Path(_path(name.replace("-", "_")))
        _stage(
            subcommands, name, parameters=config.parameters(), seeded=True,
            reads=["raw", "segments", "value"] if name == "plan-value" else ["raw"],
            writes={"output": ("weights, safetensors", str(weights)),
                    "report": ("held-out errors, JSON", str(weights.with_suffix(".json"))),
                    "curve": ("held-out losses, CSV", str(weights.with_suffix(".csv")))},
        )  # fmt: skip
    planning = ["dynamics", "reward", "value", "plan-value"]
    _stage(
        subcommands, "train", parameters=TrainConfig.parameters() + MethodConfig.parameters(), of_method=True,
        reads=["raw"], optional=["segments", "dynamics", "reward"],
        writes={"output": ("averaged weights, safetensors", _path("model")),
                "curve": ("losses during training, CSV", _READS["curves"][1]),
                "report": ("gradient steps and time, JSON", _READS["records"][1])},
    )  # fmt: skip
    _stage(
        subcommands, "evaluate", parameters=EvaluateConfig.parameters(), of_method=True,
        reads=["model", "statistics"], optional=planning, writes={"output": ("scores, JSON", _SCORES)},
    )  # fmt: skip
    _stage(
        subcommands, "consistency", parameters=EvaluateConfig.parameters(), of_method=True,
        reads=["model", "raw", "segments", "dynamics"], optional=planning[1:],
        writes={"output": ("transition errors and spread of plans, JSON", _CONSISTENCY)},
    )  # fmt: skip
    _stage(
        subcommands, "calibrate", parameters=CalibrateConfig.parameters(), of_method=True,
        reads=["model", "statistics"], optional=planning,
        writes={"output": ("scores of each setting, JSON", _READS["calibrations"][1])},
    )  # fmt: skip
    pictures = f"results/pictures/dmemm/{_TASK}/seed0"
    _stage(
        subcommands, "pictures", parameters=EvaluateConfig.parameters(), of_method=True,
        reads=["model"], optional=planning,
        writes={"output": ("plans and the paths taken, PNG", f"{pictures}.png"),
                "denoising": ("the denoising of a plan, PNG", f"{pictures}.denoising.png"),
                "animation": ("animation of a plan and its execution, GIF", f"{pictures}.gif"),
                "page": ("all of them on one page, HTML", f"{pictures}.html")},
    )  # fmt: skip
    stage = _stage(
        subcommands, "table", example="1",
        reads=["scores", "published"], writes=_outputs("table1", *_TABLES, *_FIGURES),
    )  # fmt: skip
    stage.add_argument("number", type=int, choices=(1, 2, 3))
    stage.add_argument("--long", type=Path, help="scores by seed and by how plans are executed, CSV")
    stage = _stage(
        subcommands, "figure", example="--params lambda_tr=0.1 lambda_rd=0.05",
        reads=["scores"], writes=_outputs("figure1", *_FIGURES),
    )  # fmt: skip
    stage.add_argument("--params", nargs=2, required=True, metavar="KEY=VALUE", help="the values of the variant dmemm")
    for name, reads, stem, kinds in (
        ("ranking", ["scores", "published"], "ranking", _TABLES),
        ("intervals", ["scores"], "intervals", _TABLES),
        ("training", ["records", "scores"], "training", _TABLES),
        ("curves", ["curves", "mechanisms"], "curves", _FIGURES),
        ("consistency-table", ["consistency"], "consistency",
         _TABLES + _FIGURES),
        ("study", ["scores", "consistency"], "estimators", _TABLES + _FIGURES),
        ("guide", ["calibrations"], "guide", _TABLES + _FIGURES),
    ):  # fmt: skip
        _stage(subcommands, name, reads=reads, writes=_outputs(stem, *kinds))
    _stage(
        subcommands, "metrics",
        reads=["tables"], writes={"output": ("averages, JSON", "results/metrics.json")},
    )  # fmt: skip
    stage = _stage(subcommands, "setting", writes={}, example="quick")
    stage.add_argument(
        "name", choices=("quick", "small", "paper", "demo"),
        help="quick: for a laptop; small: all of the paper, quick's networks; paper: its own values; demo: `make demo`",
    )  # fmt: skip
    return top


def _check_paths(arguments: Mapping[str, Any]) -> None:
    """Refuse an output that another option names too: it would replace what that one reads or writes.

    Raises:
        UserError: naming the file and its options.
    """
    named: dict[Path, str] = {}
    written = {*arguments["writes"], "long"}
    for option in sorted(arguments, key=written.__contains__):  # outputs last
        values = arguments[option] if isinstance(arguments[option], list) else [arguments[option]]
        for path in (value.resolve() for value in values if isinstance(value, Path)):
            if path in named and option in written:
                raise UserError(f"{path}: given as --{named[path]} and as --{option}; choose another file to write")
            named[path] = option.replace("_", "-")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; return the exit code."""
    arguments = parser().parse_args(argv)
    sys.path.insert(0, "")  # own modules in this folder, which `python -m` finds, but a script does not
    keep_freed_memory()
    try:
        _check_paths(vars(arguments))
        arguments.run(arguments)
    except UserError as error:
        print(f"dmemm: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "dmemm").partition(".")[0] == "dmemm":
            raise
        hint = "the pipeline's packages come with `pip install '.[pipeline]'` in the project's folder"
        print(f"dmemm: module {error.name} is not installed; {hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dmemm: interrupted; nothing half-written was kept", file=sys.stderr)
        return 130
    return 0
