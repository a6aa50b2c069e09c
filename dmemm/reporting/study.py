"""The study of settings: what the network predicts, the estimator, the weighting of levels, and λ_tr."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.reporting.formats import COLOURS, Table, write
from dmemm.reporting.plan_errors import MEASURES as CONSISTENCY
from dmemm.reporting.plan_errors import UNITS, averages, blocks, read_consistency
from dmemm.reporting.rows import Row, describe, load_rows

MEASURES = {measure: label for measure, label in CONSISTENCY.items() if measure != "outside"} | {"score": "score"}
_PANELS = {"simulator_error": "transition error against the simulator", "spread": "spread / data's", "score": "score"}


def write_study(scores: Sequence[Path], consistency: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write the study: one row per task and setting, with mean and standard error over seeds of every measure.

    Args:
        scores: files of `evaluate`.
        consistency: files of `consistency`, for the same tasks, settings and seeds.
        outputs: one file per format, chosen by suffix; see `formats.write`. The figure has transition error, spread
            and score.

    Raises:
        UserError: the files do not belong together, or cannot be read or written.
    """
    rows = load_rows(scores)
    measured = {
        (record["task"], record["variant"], record["seed"]): record for record in map(read_consistency, consistency)
    }
    lines = [_line(row, variant, measured) for row in rows for variant in row.variants]
    caption = (
        "A setting names what the network predicts - estimator - weighting of levels - λ_tr; `plain` is Diffuser's"
        f" training. Without eq. 11's weights and without the reward loss. {UNITS} {describe(rows)}"
    )
    write(outputs, Table("Which setting works", caption, lines, blocks(lines, MEASURES)), lambda: _draw(rows, lines))


def _line(row: Row, variant: str, measured: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    predict, *choices = variant.split("-", 3)  # a weight may have a minus: 1e-05
    denoise, modulation_weight, lambda_tr = choices if len(choices) == 3 else ("", "", "0")
    line: dict[str, Any] = {
        "task": row.task,
        "variant": variant,
        "predict": predict,
        "denoise": denoise,
        "modulation_weight": modulation_weight,
        "lambda_tr": lambda_tr,
        "seeds": row.seeds,
    }
    records = []
    for score in row.variants[variant]:
        record = measured.get((row.task, variant, score.seed))
        if record is None:
            raise UserError(f"{row.task}: no consistency of {variant}, seed {score.seed}; run the consistency stage")
        records.append({**record, "score": statistics.fmean(score.scores)})
    return line | averages(records, tuple(MEASURES))


def _draw(rows: Sequence[Row], lines: Sequence[dict[str, Any]]) -> Figure:
    settings = list(dict.fromkeys(line["variant"] for line in lines))
    figure = Figure(figsize=(11, 0.24 * len(settings) * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(len(rows), len(_PANELS), sharey=True, squeeze=False)
    for row, axes_row in zip(rows, panels, strict=True):
        own = [line for line in lines if line["task"] == row.task]
        for (measure, label), axes in zip(_PANELS.items(), axes_row, strict=True):
            for line in own:
                if not line[measure]:  # the simulator of a user's task cannot be set to a planned state
                    continue
                plain = line["variant"].endswith("-plain")
                axes.errorbar(
                    float(line[measure]),
                    settings.index(line["variant"]),
                    xerr=float(line[f"{measure}_standard_error"] or 0),
                    fmt="D" if plain else "o",
                    color="black" if plain else COLOURS[0] if line["predict"] == "sample" else COLOURS[1],
                    capsize=2,
                    markersize=4,
                )
            if measure.endswith("error"):
                axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
        axes_row[0].set_yticks(range(len(settings)), settings, fontsize=7)
        axes_row[0].set_ylim(len(settings) - 0.5, -0.5)
        axes_row[0].set_title(row.task, loc="left", fontsize=10)
    return figure
