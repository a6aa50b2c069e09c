"""Are the plans possible? The table and the figure of what `consistency` measured, over variants."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.files import read_json, replacing
from dmemm.reporting.figures import COLOURS
from dmemm.reporting.scores import mean_and_standard_error

# Measure of one network → what a column says.
MEASURES = {
    "diffusion_loss": "diffusion loss",
    "model_error": "error, model",
    "model_error_median": "median",
    "simulator_error": "error, simulator",
    "simulator_error_median": "median",
    "open_loop_error": "open loop",
    "spread": "spread",
    "diversity": "diversity",
    "outside": "in walls",
}
UNITS = (
    "Transition errors ‖s' - ŝ'‖² are squared and summed over the normalised state, means and medians over transitions;"
    " open loop: after the plan's last action, executed from its first state; spread: of the plans' states, the data's"
    " is 1; in walls: share of a maze's plans that leave its free space."
)
Record = dict[str, Any]


def write_consistency(paths: Sequence[Path], csv_path: Path, markdown: Path, figure: Path) -> None:
    """Write means and standard errors over seeds, a row a task and variant, and the errors' growth over the horizon.

    Args:
        paths: files of `consistency`, the same seeds for every variant of a task.
        csv_path: output for programs.
        markdown: output for people.
        figure: PNG.

    Raises:
        UserError: seeds are missing, or a file cannot be read or written.
    """
    groups: dict[str, dict[str, list[Record]]] = {}
    for path in paths:
        record = read_json(path)
        groups.setdefault(record["task"], {}).setdefault(record["variant"], []).append(record)
    lines = []
    for task, variants in groups.items():
        seeds = {variant: sorted(record["seed"] for record in records) for variant, records in variants.items()}
        for variant, own in seeds.items():
            if own != next(iter(seeds.values())):
                raise UserError(f"{task}: {variant} has seeds {own}, {next(iter(seeds))} others; run the same for each")
        # Of the data, in place of plans: the floor that the measurement itself has.
        data = [{**record["data"], "seed": record["seed"]} for record in next(iter(variants.values()))]
        for variant, records in {"data": data, **variants}.items():
            lines.append({"task": task, "variant": variant, "seeds": len(records), **averages(records)})
    with replacing(csv_path) as temporary:
        write_lines(temporary, lines)
    source = ", ".join(sorted({r["data_source"] for v in groups.values() for records in v.values() for r in records}))
    with replacing(markdown) as temporary:
        text = f"**Are the plans possible?** Data source: {source}. Mean ± standard error over seeds. {UNITS}\n"
        temporary.write_text(text + markdown_tables(lines, MEASURES), encoding="utf-8")
    with replacing(figure) as temporary, style.context("default"):
        _draw(groups).savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def averages(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = tuple(MEASURES)) -> dict[str, str]:
    """Mean and standard error over `records`, one a seed, of each measure that they have; empty for one they lack."""
    line = {}
    for measure in measures:
        values = [record.get(measure) for record in records]
        values = [value[-1] if isinstance(value, list) else value for value in values]
        known = [[float(value)] for value in values if value is not None]
        mean, error = mean_and_standard_error(known) if len(known) == len(values) else (None, None)
        line[measure] = "" if mean is None else f"{mean:.6g}"
        line[f"{measure}_standard_error"] = "" if error is None else f"{error:.3g}"
    return line


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write `lines`, dicts with the same keys, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def markdown_tables(lines: Sequence[Mapping[str, Any]], measures: Mapping[str, str]) -> str:
    """A table a task, a row a variant."""
    text = ""
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        shown = {measure: label for measure, label in measures.items() if any(line[measure] for line in own)}
        text += f"\n{task}\n\n| variant | {' | '.join(shown.values())} |\n|---|{'---:|' * len(shown)}\n"
        for line in own:
            text += f"| {line['variant']} | {' | '.join(_cell(line, measure) for measure in shown)} |\n"
    return text


def _cell(line: Mapping[str, Any], measure: str) -> str:
    if not line[measure]:
        return ""
    return f"{float(line[measure]):.3g} ± {float(line[f'{measure}_standard_error']):.1g}"


def _draw(groups: Mapping[str, Mapping[str, Sequence[Record]]]) -> Figure:
    """How far the planned actions lead from the planned states, step by step: a panel a task, a line a variant."""
    figure = Figure(figsize=(4.2 * len(groups), 3.4), layout="constrained")
    colours = {v: COLOURS[i % len(COLOURS)] for i, v in enumerate(dict.fromkeys(v for g in groups.values() for v in g))}
    for axes, (task, variants) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        for variant, records in variants.items():
            if any(record["open_loop_error"] is None for record in records):
                continue
            length = min(len(record["open_loop_error"]) for record in records)
            growth = np.array([record["open_loop_error"][:length] for record in records])
            mean, steps = growth.mean(axis=0), np.arange(1, length + 1)
            axes.plot(steps, mean, color=colours[variant], label=variant)
            if len(growth) > 1:
                error = growth.std(axis=0, ddof=1) / len(growth) ** 0.5
                low = np.maximum(mean - error, mean / 10)
                axes.fill_between(steps, low, mean + error, color=colours[variant], alpha=0.2, linewidth=0)
        axes.set_yscale("log")
        axes.set_title(task, loc="left", fontsize=10)
        axes.set_xlabel("step of the plan")
        axes.grid(color="0.9")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("squared distance to the executed states")
    return figure
