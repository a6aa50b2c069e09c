"""The picture of a table: a dot for the score of each seed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dmemm.reporting.formats import add_caption, style_of
from dmemm.reporting.rows import NAMES, Row, mean_and_standard_error

_REFERENCES = {"data_score": ("|", "data set's own"), "best_policy_score": ("x", "its best policy")}


def draw_scores(rows: Sequence[Row], variants: Sequence[str], caption: str) -> Figure:
    """Draw each variant's seeds as pale dots, their mean with its standard error, and the scores of the data.

    Args:
        rows: the table's rows, from top to bottom.
        variants: the table's columns; within a row, from top to bottom.
        caption: what the figure says below.
    """
    height = max(0.35, 0.16 * len(variants))  # inches of a row
    figure = Figure(figsize=(7.2, height * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    places = np.linspace(-0.28, 0.28, len(variants))
    styles = {variant: style_of(number) for number, variant in enumerate(variants)}
    for y, row in enumerate(rows):
        axes.axhspan(y - 0.5, y + 0.5, color="0.96" if y % 2 else "1", linewidth=0, zorder=0)
        for name, (marker, _) in _REFERENCES.items():
            if (score := getattr(row.first, name)) is not None:
                axes.plot(score, y, marker=marker, color="0.45", markersize=7, linestyle="", zorder=1)
        for (variant, drawn), place in zip(styles.items(), places, strict=True):
            seeds = [score.scores for score in row.variants[variant]]
            mean, error = mean_and_standard_error(seeds)
            axes.plot(
                [np.mean(each) for each in seeds], [y + place] * len(seeds), ".", color=drawn["color"], alpha=0.35
            )
            axes.errorbar(mean, y + place, xerr=error, linestyle="", markersize=4.5, elinewidth=1.2, **drawn)
    axes.set_yticks(range(len(rows)), [row.task for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("normalised score")
    shown = [Line2D([], [], label=NAMES.get(variant, variant), **drawn) for variant, drawn in styles.items()] + [
        Line2D([], [], color="0.45", marker=marker, linestyle="", label=label)
        for name, (marker, label) in _REFERENCES.items()
        if any(getattr(row.first, name) is not None for row in rows)
    ]
    figure.legend(handles=shown, loc="outside upper center", ncols=min(5, len(shown)), frameon=False)
    add_caption(figure, caption)
    return figure
