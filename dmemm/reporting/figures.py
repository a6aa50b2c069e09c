"""Figure 1 of the paper: how the score depends on lambda_tr and lambda_rd."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from dmemm.errors import UserError
from dmemm.methods import get_method
from dmemm.reporting.formats import add_caption, style_of, write
from dmemm.reporting.rows import Row, describe, load_rows

_PARAMETERS = {"lambda_tr": r"$\lambda_{tr}$ (transition loss)", "lambda_rd": r"$\lambda_{rd}$ (reward loss)"}
# Value of the parameter → scores of the seeds, shape (seeds,).
Curve = Mapping[float, NDArray[np.float64]]


def write_figure1(scores: Sequence[Path], params: Sequence[str], outputs: Sequence[Path]) -> None:
    """Draw the normalised score over lambda_tr (left) and lambda_rd (right): a line per task, with standard errors.

    Args:
        scores: score files of the variants `dmemm`, `lambda_tr=VALUE` and `lambda_rd=VALUE`, the same seeds for each;
            `wo_lambda_tr` and `wo_lambda_rd` are the points at 0.
        params: `lambda_tr=VALUE` and `lambda_rd=VALUE` of `dmemm`: the positions of its scores on the axes.
        outputs: one file per format, chosen by suffix: .pdf or .png.

    Raises:
        UserError: the score files do not make up the figure, or a file cannot be read or written.
    """
    defaults = _defaults(params)
    rows = load_rows(scores)
    curves = {key: {row.task: _curve(row, key, default) for row in rows} for key, default in defaults.items()}
    write(outputs, draw=lambda: _draw(curves, defaults, describe(rows)))


def plot_band(axes: Axes, x: ArrayLike, seeds: NDArray[np.float64], **line: Any) -> None:
    """Plot the mean over seeds as a line, and its standard error as a band if there are several seeds.

    Args:
        axes: the axes to draw on.
        x: x of each point, shape (n,).
        seeds: y of each seed and point, shape (seeds, n).
        line: style of the line: colour, marker, label.
    """
    mean = seeds.mean(axis=0)
    axes.plot(x, mean, **line)
    if len(seeds) > 1:
        error = seeds.std(axis=0, ddof=1) / len(seeds) ** 0.5
        # End the band a decade below the line: a logarithmic axis would stretch to the lower edge of a wide band.
        low = np.maximum(mean - error, mean / 10) if axes.get_yscale() == "log" else mean - error
        axes.fill_between(x, low, mean + error, color=line["color"], alpha=0.2, linewidth=0)


def _defaults(params: Sequence[str]) -> dict[str, float]:
    defaults = {}
    for assignment in params:
        key, _, value = assignment.partition("=")
        if key not in _PARAMETERS:
            raise UserError(f"{assignment}: expected {' and '.join(f'{key}=VALUE' for key in _PARAMETERS)}")
        try:
            defaults[key] = float(value)
        except ValueError:
            raise UserError(f"{assignment}: {value!r} is not a number") from None
        if not 0 <= defaults[key] < math.inf:
            raise UserError(f"{assignment}: out of range; use a finite value of at least 0")
    for key in _PARAMETERS:
        if key not in defaults:
            raise UserError(f"{key}: not given; add {key}=VALUE, the value that dmemm was trained with")
    return {key: defaults[key] for key in _PARAMETERS}


def _curve(row: Row, key: str, default: float) -> Curve:
    """Return the seeds' mean scores by ascending value of the parameter; `dmemm` gives those at its own value."""
    if "dmemm" not in row.variants:
        raise UserError(f"{row.task}: no scores of dmemm, which is a point of every curve; evaluate it")
    variants = {}
    for name in row.variants:
        fixed = get_method(name).fixed
        if name != "dmemm":
            if "=" not in name and name.removeprefix("wo_") not in _PARAMETERS:
                raise UserError(f"{row.variants[name][0].path}: {name} is not a point of figure 1; leave the file out")
            if key in fixed:
                variants[float(fixed[key])] = name
    # Last, to replace a variant with dmemm's own value, which is the same training.
    variants[default] = "dmemm"
    return {
        value: np.array([np.mean(score.scores) for score in row.variants[name]])
        for value, name in sorted(variants.items())
    }


def _draw(curves: Mapping[str, Mapping[str, Curve]], defaults: Mapping[str, float], caption: str) -> Figure:
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True)
    for axes, (key, tasks) in zip(panels, curves.items(), strict=True):
        place = _axis(axes, sorted({value for curve in tasks.values() for value in curve}))
        axes.axvline(place[defaults[key]], color="0.6", linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            f"default {defaults[key]:g}",
            (place[defaults[key]], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            color="0.35",
        )
        for number, (task, curve) in enumerate(tasks.items()):
            plot_band(
                axes,
                [place[value] for value in curve],
                np.stack(list(curve.values()), axis=1),
                markersize=5,
                linewidth=1.5,
                label=task,
                **style_of(number),
            )
        axes.set_xlabel(_PARAMETERS[key])
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("normalised score")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
    add_caption(figure, caption)
    return figure


def _axis(axes: Axes, values: Sequence[float]) -> dict[float, float]:
    """Make a log axis with a tick at each value; return the position of each.

    Zero, which has no logarithm, is one decade left of the smallest positive value, behind a break of the axis.
    """
    positive = [value for value in values if value > 0]
    least, greatest = (positive[0], positive[-1]) if positive else (1.0, 1.0)
    place = {value: value if value > 0 else least / 10 for value in values}
    left, right = min(place.values()), greatest
    margin = max(right / left, 10) ** 0.08
    axes.set_xscale("log")
    axes.set_xlim(left / margin, right * margin)
    axes.set_xticks([place[value] for value in values], [f"{value:g}" for value in values])
    axes.minorticks_off()
    if left < least:
        axes.annotate(
            "//",
            (math.sqrt(left * least), 0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    return place
