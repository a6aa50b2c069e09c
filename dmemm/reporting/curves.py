"""Learning curves: the losses of every network during its training."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dmemm.errors import UserError
from dmemm.reporting.figures import plot_band
from dmemm.reporting.formats import COLOURS, write

_TERMS = {"total": "total, eq. 12", "wdiff": "diffusion loss", "tr": "transition loss", "rd": "reward loss"}
_MECHANISMS = {
    "dynamics": "transition ensemble", "reward": "reward model", "value": "value model", "plan_value": "value of plans",
}  # fmt: skip
_LINES = ("-", "--", ":")
Curve = NDArray[np.void]
Curves = Mapping[str, Mapping[str, Sequence[Curve]]]
HeldOut = Mapping[tuple[str, str], Sequence[Curve]]


def write_curves(curves: Sequence[Path], mechanisms: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Draw each loss over the gradient steps: a row per task, a column per loss, a line per variant, mean over seeds.

    The last columns show the held-out loss of the mechanisms, mean over seeds.

    Args:
        curves: the CSV files of `train`, at TASK/VARIANT/seedN.csv.
        mechanisms: the CSV files of `dynamics`, `reward`, `value` and `plan-value`, at
            STAGE/TASK/seedN.csv.
        outputs: one file per format, chosen by suffix: .pdf or .png.

    Raises:
        UserError: a file is not a loss curve, or cannot be read or written.
    """
    tasks, held_out = _group(curves, mechanisms)
    write(outputs, draw=lambda: _draw(tasks, held_out))


def _group(curves: Sequence[Path], mechanisms: Sequence[Path]) -> tuple[Curves, HeldOut]:
    """Read the files; group the curves by task and variant, and the held-out losses by stage and task."""
    tasks: dict[str, dict[str, Sequence[Curve]]] = {}
    for (task, variant), seeds in _read_seeds(curves, ("task", "method"), ("step", *_TERMS)).items():
        tasks.setdefault(task, {})[variant] = seeds
    return tasks, _read_seeds(mechanisms, ("stage", "task"), ("step", "held_out_loss"))


def _read_seeds(
    paths: Sequence[Path], folders: tuple[str, str], columns: Sequence[str]
) -> dict[tuple[str, str], list[Curve]]:
    """Read CSV files and group them by the two folders that they are in, which messages call `folders`."""
    found: dict[tuple[str, str], list[Curve]] = {}
    for path in paths:
        if len(path.parts) < 3:
            place = "/".join(name.upper() for name in folders)
            raise UserError(f"{path}: the path does not name {' and '.join(folders)}; it must end with {place}/FILE")
        seeds = found.setdefault((path.parts[-3], path.parts[-2]), [])
        seeds.append(_read(path, columns))
        if len(seeds[-1]) != len(seeds[0]):
            raise UserError(
                f"{path}: {len(seeds[-1])} rows, but other seeds have {len(seeds[0])}; train all seeds alike"
            )
    return found


def _read(path: Path, columns: Sequence[str]) -> Curve:
    try:
        with warnings.catch_warnings(action="error"):  # numpy warns of a file without rows
            curve = np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))
    except (OSError, ValueError, UserWarning) as error:
        raise UserError(
            f"{path}: cannot read: {' '.join(str(error).split())}; delete it and run snakemake again"
        ) from error
    missing = [column for column in columns if column not in (curve.dtype.names or ())]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; delete it and run snakemake again")
    if len(curve) == 0:
        raise UserError(f"{path}: has no rows; delete it and run snakemake again")
    return curve


def _draw(tasks: Curves, held_out: HeldOut) -> Figure:
    figure = Figure(figsize=(20, 2.2 * len(tasks) + 0.6), layout="constrained")
    variants = list(dict.fromkeys(variant for own in tasks.values() for variant in own))
    styles: dict[str, dict[str, Any]] = {
        variant: {"color": COLOURS[i % len(COLOURS)], "linestyle": _LINES[i // len(COLOURS) % len(_LINES)]}
        for i, variant in enumerate(variants)
    }
    grid = figure.subplots(len(tasks), len(_TERMS) + len(_MECHANISMS), squeeze=False)
    for row, (task, own) in zip(grid, tasks.items(), strict=True):
        for axes, (term, label) in zip(row, _TERMS.items(), strict=False):
            losses = {variant: np.array([curve[term] for curve in seeds]) for variant, seeds in own.items()}
            losses = {variant: values for variant, values in losses.items() if not np.isnan(values).any()}
            if losses and all((values > 0).all() for values in losses.values()):
                axes.set_yscale("log")
            for variant, values in losses.items():  # only variants that have this loss
                plot_band(axes, own[variant][0]["step"], values, **styles[variant])
            axes.set_visible(bool(losses))
            _label(axes, label)
        for axes, (stage, name) in zip(row[len(_TERMS) :], _MECHANISMS.items(), strict=True):
            seeds = held_out.get((stage, task), ())
            if seeds:
                values = np.array([curve["held_out_loss"] for curve in seeds])
                plot_band(axes, seeds[0]["step"], values, color="black")
            axes.set_visible(bool(seeds))
            _label(axes, f"{name}, held out")
        row[0].set_ylabel(task)
    handles = [Line2D([], [], label=variant, **styles[variant]) for variant in variants]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(7, len(handles)), frameon=False)
    return figure


def _label(axes: Axes, title: str) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    place = axes.get_subplotspec()
    assert place is not None
    if place.is_first_row():
        axes.set_title(title, fontsize=9)
    if place.is_last_row():
        axes.set_xlabel("gradient step")
