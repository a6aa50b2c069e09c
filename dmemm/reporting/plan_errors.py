"""Are the plans feasible? The table and the figure of what `consistency` measured, for all variants."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.reporting.figures import plot_band
from dmemm.reporting.formats import COLOURS, Table, write
from dmemm.reporting.rows import mean_and_standard_error
from dmemm.schema import read_record

# Measure of one network → heading of its column.
MEASURES = {
    "diffusion_loss": "diffusion loss",
    "model_error": "error, model",
    "model_error_median": "median, model",
    "simulator_error": "error, simulator",
    "simulator_error_median": "median, simulator",
    "open_loop_error": "open loop",
    "spread": "spread",
    "diversity": "diversity",
    "outside": "in walls",
}
UNITS = (
    "Transition errors ‖s' - ŝ'‖² are squared and summed over the normalised state; means and medians are over"
    " transitions. ŝ' is predicted by the ensemble (model) or by the simulator, set to the planned state. Open loop:"
    " the error after the plan's last action, when its actions are executed from its first state. Spread: standard"
    " deviation of the plans' states, relative to the data's. Diversity: that among plans from one start. In walls:"
    " share of a maze's plans that leave its free space."
)
_MEASURED = {"anyOf": [{"type": ["number", "null"]}, {"type": "array", "minItems": 1, "items": {"type": "number"}}]}
_VALUES = dict.fromkeys(MEASURES, _MEASURED) | {"open_loop_error": {**_MEASURED, "not": {"type": "number"}}}
_PROPERTIES = {
    "task": {"type": "string"},
    "variant": {"type": "string"},
    "seed": {"type": "integer"},
    "data_source": {"type": "string"},
    "open_loop_error": _VALUES["open_loop_error"],
    "data": {"type": "object", "properties": _VALUES},
}
Record = dict[str, Any]


def read_consistency(path: Path) -> Record:
    """Read a file of `consistency`.

    Raises:
        UserError: it lacks a key, or a value is of another kind.
    """
    return dict(read_record(path, _PROPERTIES, "consistency", optional=_VALUES))


def write_consistency(paths: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write means and standard errors over seeds, one row per task and variant, and draw the errors over the horizon.

    Args:
        paths: files of `consistency`, the same seeds for every variant of a task.
        outputs: one file per format, chosen by suffix; see `formats.write`.

    Raises:
        UserError: seeds are missing, or a file cannot be read or written.
    """
    groups: dict[str, dict[str, list[Record]]] = {}
    for path in paths:
        record = read_consistency(path)
        groups.setdefault(record["task"], {}).setdefault(record["variant"], []).append(record)
    lines = []
    for task, variants in groups.items():
        seeds = {variant: sorted(record["seed"] for record in records) for variant, records in variants.items()}
        for variant, own in seeds.items():
            if own != next(iter(seeds.values())):
                first = next(iter(seeds))
                raise UserError(f"{task}: {variant} has seeds {own}, but {first} has others; run the same for each")
        # The data's own windows instead of plans: the error that the measurement itself has.
        data = [{**record["data"], "seed": record["seed"]} for record in next(iter(variants.values()))]
        for variant, records in {"data": data, **variants}.items():
            lines.append({"task": task, "variant": variant, "seeds": len(records), **averages(records)})
    source = ", ".join(sorted({r["data_source"] for v in groups.values() for records in v.values() for r in records}))
    caption = f"Data source: {source}. Mean ± standard error over seeds. {UNITS}"
    write(outputs, Table("Consistency of plans", caption, lines, blocks(lines, MEASURES)), lambda: _draw(groups))


def averages(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = tuple(MEASURES)) -> dict[str, str]:
    """Return each measure's mean and standard error over `records`, one per seed; empty if a record lacks it."""
    line = {}
    for measure in measures:
        values = [record.get(measure) for record in records]
        values = [value[-1] if isinstance(value, list) else value for value in values]
        known = [[float(value)] for value in values if value is not None]
        mean, error = mean_and_standard_error(known) if len(known) == len(values) else (None, None)
        line[measure] = "" if mean is None else f"{mean:.6g}"
        line[f"{measure}_standard_error"] = "" if error is None or math.isnan(error) else f"{error:.3g}"
    return line


def blocks(lines: Sequence[Mapping[str, Any]], measures: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Map each task to its rows, one per variant, without measures that all of them lack."""
    tables = {}
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        shown = {measure: label for measure, label in measures.items() if any(line[measure] for line in own)}
        tables[task] = [
            {"variant": line["variant"], **{label: _cell(line, measure) for measure, label in shown.items()}}
            for line in own
        ]
    return tables


def _cell(line: Mapping[str, Any], measure: str) -> str:
    if not line[measure]:
        return ""
    error = line[f"{measure}_standard_error"]
    return f"{float(line[measure]):.3g} ± {f'{float(error):.1g}' if error else '–'}"


def _draw(groups: Mapping[str, Mapping[str, Sequence[Record]]]) -> Figure:
    """Draw the distance of the executed from the planned states, step by step: a panel per task, a line per variant."""
    figure = Figure(figsize=(4.2 * len(groups), 3.4), layout="constrained")
    colours = {v: COLOURS[i % len(COLOURS)] for i, v in enumerate(dict.fromkeys(v for g in groups.values() for v in g))}
    for axes, (task, variants) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        axes.set_yscale("log")
        for variant, records in variants.items():
            if any(record["open_loop_error"] is None for record in records):
                continue
            length = min(len(record["open_loop_error"]) for record in records)
            growth = np.array([record["open_loop_error"][:length] for record in records])
            plot_band(axes, np.arange(1, length + 1), growth, color=colours[variant], label=variant)
        axes.set_title(task, loc="left", fontsize=10)
        axes.set_xlabel("step of the plan")
        axes.grid(color="0.9")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("squared distance to the executed states")
    return figure
