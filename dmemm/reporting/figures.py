"""Figure 1 of the paper: how the score depends on lambda_tr and lambda_rd."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.reporting.scores import Row, describe, group_rows, load_scores, mean_and_standard_error
from dmemm.variants import get_variant

_PARAMETERS = {"lambda_tr": r"$\lambda_{tr}$ (transition loss)", "lambda_rd": r"$\lambda_{rd}$ (reward loss)"}
# Okabe and Ito's palette, told apart by colour-blind readers too; without its yellow, too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Five markers on seven colours: 35 tasks before a pair repeats, and readable in grey.
_MARKERS = ("o", "s", "^", "D", "v")
# What varies between two runs (dates) or installations is left out, so that equal scores give equal bytes.
_FORMATS: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
_STYLE: dict[str, Any] = {"pdf.fonttype": 42, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def write_figure1(scores: Sequence[Path], params: Sequence[str], outputs: Sequence[Path]) -> None:
    """Draw the normalised score over lambda_tr (left) and lambda_rd (right), a line a task, with standard errors.

    Args:
        scores: score files of the variants `dmemm`, `lambda_tr=VALUE` and `lambda_rd=VALUE`, the same seeds for each.
        params: dmemm's own values, `lambda_tr=VALUE` and `lambda_rd=VALUE`: where its scores stand on each axis.
        outputs: one file a format, by suffix: .pdf or .png.

    Raises:
        UserError: the score files do not make up the figure, or a file cannot be read or written.
    """
    for output in outputs:
        if output.suffix[1:] not in _FORMATS:
            raise UserError(f"{output}: no format {output.suffix or 'without suffix'}; use .pdf or .png")
    defaults = _defaults(params)
    rows = group_rows(load_scores(scores))
    curves = {key: {row.task: _curve(row, key, default) for row in rows} for key, default in defaults.items()}
    with style.context(["default", _STYLE]):  # a user's own style would change the bytes
        figure = _draw(curves, defaults, describe(rows))
        for output in outputs:
            kind = output.suffix[1:]
            with replacing(output) as temporary:
                figure.savefig(temporary, format=kind, dpi=200, metadata=_FORMATS[kind])


def _defaults(params: Sequence[str]) -> dict[str, float]:
    defaults = {}
    for assignment in params:
        key, _, value = assignment.partition("=")
        if key not in _PARAMETERS:
            raise UserError(f"{assignment}: expected {' and '.join(f'{key}=VALUE' for key in _PARAMETERS)}")
        try:
            defaults[key] = float(value)
        except ValueError:
            raise UserError(f"{assignment}: {value!r} is no number") from None
        if not 0 <= defaults[key] < math.inf:
            raise UserError(f"{assignment}: out of range; use a finite value of at least 0")
    for key in _PARAMETERS:
        if key not in defaults:
            raise UserError(f"{key}: not given; add {key}=VALUE, the value that dmemm was trained with")
    return {key: defaults[key] for key in _PARAMETERS}


def _curve(row: Row, key: str, default: float) -> dict[float, tuple[float, float]]:
    """Value of the parameter → mean and standard error, ascending; dmemm's own scores stand at its own value."""
    if "dmemm" not in row.variants:
        raise UserError(f"{row.task}: no scores of dmemm, the curves' common point; evaluate it")
    variants = {}
    for name in row.variants:
        fixed = get_variant(name).fixed
        if name != "dmemm":
            if "=" not in name:
                raise UserError(f"{row.variants[name][0].path}: {name} is no point of figure 1; leave the file out")
            if key in fixed:
                variants[float(fixed[key])] = name
    # Last, so that it also stands for a variant that asks for dmemm's own value: that is the same training.
    variants[default] = "dmemm"
    return {
        value: mean_and_standard_error([score.scores for score in row.variants[name]])
        for value, name in sorted(variants.items())
    }


def _draw(
    curves: Mapping[str, Mapping[str, Mapping[float, tuple[float, float]]]],
    defaults: Mapping[str, float],
    caption: str,
) -> Figure:
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
            axes.errorbar(
                [place[value] for value in curve],
                [mean for mean, _ in curve.values()],
                yerr=[0 if math.isnan(error) else error for _, error in curve.values()],  # one seed: no bar
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                capsize=3,
                linewidth=1.5,
                label=task,
            )
        axes.set_xlabel(_PARAMETERS[key])
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("normalised score")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
    # supxlabel takes part in the constrained layout; a plain text would be drawn over the axes.
    figure.supxlabel("\n".join(textwrap.wrap(caption, 140)), x=0.01, ha="left", fontsize=7, color="0.35")
    return figure


def _axis(axes: Axes, values: Sequence[float]) -> dict[float, float]:
    """Make a log axis with a tick at each value; return where each stands.

    Zero has no logarithm: it stands one decade left of the least positive value, behind a break of the axis.
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
