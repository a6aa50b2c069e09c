"""The command line: one subcommand a stage. `dmemm STAGE --help` says what it reads and writes."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dmemm import stages
from dmemm.config import (
    CalibrateConfig,
    DownloadConfig,
    DynamicsConfig,
    EpisodesConfig,
    EvaluateConfig,
    MethodConfig,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    StageConfig,
    TrainConfig,
    ValueConfig,
)
from dmemm.errors import UserError
from dmemm.methods import METHODS

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
    "value": ("value model, of `value`", f"{_MODELS}/value.safetensors"),
    "plan-value": ("value of noisy plans, of `plan-value`", f"{_MODELS}/plan_value.safetensors"),
    "model": ("trained weights, of `train` or `train-method`", f"{_MODELS}/dmemm/seed0.safetensors"),
    "statistics": ("the data set's statistics, of `download`", f"results/data/{_TASK}.json"),
    "published": ("the paper's own numbers, CSV", "workflow/resources/published.csv"),
    "scores": ("score files, of `evaluate`", _SCORES),
    "consistency": ("files of `consistency` and `consistency-method`", _CONSISTENCY),
    "curves": ("losses along training, of `train`", f"results/curves/{_TASK}/dmemm/seed0.csv"),
    "mechanisms": ("held-out losses of `dynamics`, `reward`, `value`, `plan-value`",
                   f"results/mechanisms/{_TASK}/dynamics.csv"),
    "records": ("steps and time, of `train` and `train-method`", f"results/training/{_TASK}/dmemm/seed0.json"),
    "calibrations": ("scores of each setting, of `calibrate`", f"results/calibrate/dmemm/{_TASK}/seed0.json"),
    "tables": ("tables, of `table`", "results/table1.csv"),
}  # fmt: skip
_METHOD = "mppi"
_NAMES = {
    "variant": "dmemm, diffuser, wo_..., lambda_tr=VALUE or lambda_rd=VALUE",
    "method": f"another method: {', '.join(METHODS)}",
}
_LISTS = ("scores", "records", "consistency", "curves", "mechanisms", "calibrations", "tables", "outputs")

_TABLES = ("csv", "md", "html", "tex")
_FIGURES = ("png", "pdf")

Files = Mapping[str, tuple[str, str]]


def _outputs(stem: str, *kinds: str) -> Files:
    paths = " ".join(f"results/{stem}.{kind}" for kind in kinds)
    return {"outputs": (f"one file a format, by suffix; formats: {', '.join(kinds)}", paths)}


def _stage(
    subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    reads: Sequence[str] = (),
    optional: Sequence[str] = (),
    writes: Files,
    config: type[StageConfig] | None = None,
    of: str = "",
    example: str = "",
) -> argparse.ArgumentParser:
    """A subcommand, run by its namesake in `dmemm.stages`, of a task and what `of` names: a variant, a method.

    `optional` are those of `reads` that some variants and tasks do without, `example` its other arguments.
    """
    run = getattr(stages, name.replace("-", "_"))
    description = run.__doc__
    parser = subcommands.add_parser(
        name, help=description, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    command = f"dmemm {name}"
    if config is not None or of:
        parser.add_argument("task", help="a task's name, e.g. hopper-medium-expert or maze2d-umaze")
        command += f" {_TASK}"
    if config is not None:
        parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE",
                            help=f"instead of params.yaml's value; keys: {', '.join(config.parameters())}")  # fmt: skip
    if of:
        parser.add_argument(of, help=_NAMES[of])
        parser.add_argument("seed", type=int, help="of everything random")
        command += {"variant": " dmemm 0", "method": f" {_METHOD} 0"}[of]
    lines = [f"{command} {example}".rstrip()]
    files: Files = {option: _READS[option] for option in reads}
    for title, options in (("reads", files), ("writes", writes)):
        group = parser.add_argument_group(title)
        for option, (text, path) in options.items():
            note = "; not all variants and tasks need it" if option in optional else ""
            many = {"nargs": "+"} if option in _LISTS else {}
            group.add_argument(f"--{option}", type=Path, required=option not in optional, help=text + note, **many)
            lines.append(f"--{option} {path.replace('dmemm', _METHOD) if of == 'method' else path}")
    parser.epilog = "example:\n  " + " \\\n    ".join(lines)
    return parser


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of every stage."""
    top = argparse.ArgumentParser(prog="dmemm", description="Offline-RL planning with modulated diffusion (DMEMM).")
    subcommands = top.add_subparsers(required=True, metavar="STAGE")
    _stage(
        subcommands, "download", config=DownloadConfig,
        writes={"output": ("raw data, HDF5 in D4RL's layout", _READS["raw"][1]),
                "statistics": ("the data set's statistics, JSON", _READS["statistics"][1])},
    )  # fmt: skip
    _stage(
        subcommands, "segment", config=SegmentConfig,
        reads=["raw"], writes={"output": ("windows and normaliser, HDF5", _READS["segments"][1])},
    )  # fmt: skip
    for name, config in (
        ("dynamics", DynamicsConfig),
        ("reward", RewardConfig),
        ("value", ValueConfig),
        ("plan-value", PlanValueConfig),
    ):
        file = name.replace("-", "_")
        _stage(
            subcommands, name, config=config,
            reads=["raw", "segments", "value"] if name == "plan-value" else ["raw"],
            writes={"output": ("weights, safetensors", _READS[name][1]),
                    "report": ("held-out errors, JSON", f"{_MODELS}/{file}.json"),
                    "curve": ("held-out losses, CSV", f"results/mechanisms/{_TASK}/{file}.csv")},
        )  # fmt: skip
    _stage(
        subcommands, "train", config=TrainConfig, of="variant",
        reads=["raw", "segments", "dynamics", "reward"], optional=["dynamics", "reward"],
        writes={"output": ("averaged weights, safetensors", _READS["model"][1]),
                "curve": ("losses along training, CSV", _READS["curves"][1]),
                "report": ("steps and time, JSON", _READS["records"][1])},
    )  # fmt: skip
    _stage(
        subcommands, "evaluate", config=EvaluateConfig, of="variant",
        reads=["model", "reward", "value", "plan-value", "dynamics", "statistics"],
        optional=["value", "plan-value", "dynamics"],
        writes={"output": ("scores, JSON", _SCORES)},
    )  # fmt: skip
    _stage(
        subcommands, "consistency", config=EvaluateConfig, of="variant",
        reads=["model", "dynamics", "reward", "value", "plan-value", "raw", "segments"],
        optional=["value", "plan-value"],
        writes={"output": ("transition errors and spread of plans, JSON", _CONSISTENCY)},
    )  # fmt: skip
    _stage(
        subcommands, "calibrate", config=CalibrateConfig, of="variant",
        reads=["model", "reward", "value", "plan-value", "dynamics", "statistics"], optional=["value", "plan-value"],
        writes={"output": ("scores of each setting, JSON", _READS["calibrations"][1])},
    )  # fmt: skip
    method = f"{_MODELS}/{_METHOD}/seed0"
    _stage(
        subcommands, "train-method", config=MethodConfig, of="method",
        reads=["raw"], writes={"output": ("weights, safetensors", f"{method}.safetensors"),
                               "report": ("steps and time, JSON", _READS["records"][1])},
    )  # fmt: skip
    _stage(
        subcommands, "evaluate-method", config=EpisodesConfig, of="method",
        reads=["model", "statistics"],
        writes={"output": ("scores, JSON", _SCORES)},
    )  # fmt: skip
    _stage(
        subcommands, "consistency-method", of="method",
        reads=["model", "dynamics", "raw", "segments"],
        writes={"output": ("transition errors and spread of plans, JSON", _CONSISTENCY)},
    )  # fmt: skip
    pictures = f"results/pictures/dmemm/{_TASK}/seed0"
    _stage(
        subcommands, "pictures", config=EvaluateConfig, of="variant",
        reads=["model", "dynamics", "reward", "value", "plan-value"], optional=["value", "plan-value"],
        writes={"output": ("plans and paths, PNG", f"{pictures}.png"),
                "denoising": ("a plan from noise to clean, PNG", f"{pictures}.denoising.png"),
                "animation": ("plan and rollout, GIF", f"{pictures}.gif")},
    )  # fmt: skip
    stage = _stage(
        subcommands, "table", example="1",
        reads=["scores", "published"], writes=_outputs("table1", *_TABLES),
    )  # fmt: skip
    stage.add_argument("number", type=int, choices=(1, 2, 3))
    stage.add_argument("--long", type=Path, help="a line a seed and way to execute the plans, CSV")
    stage = _stage(
        subcommands, "figure", example="--params lambda_tr=0.1 lambda_rd=0.05",
        reads=["scores"], writes=_outputs("figure1", *_FIGURES),
    )  # fmt: skip
    stage.add_argument("--params", nargs=2, required=True, metavar="KEY=VALUE", help="lambda_tr=, lambda_rd= of dmemm")
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
