"""How to choose the guide: the settings that `calibrate` tried, ranked by score, and how certain the best one is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dmemm.errors import UserError
from dmemm.reporting.formats import Table, write
from dmemm.reporting.rows import mean_and_standard_error
from dmemm.schema import read_record

_RESAMPLES = 10_000
_CAPTION = (
    "Settings of the guide, tried with the trained networks. Score: D4RL's normalised score, mean ± standard error over"
    " seeds, on calibration episodes. These start alike for every setting, and where no scored episode starts. Best is"
    f" better: the probability that the best setting scores higher than this one, by {_RESAMPLES} bootstrap samples of"
    " the seeds and of each seed's episodes (with one seed, it holds for that network only); equal scores count half."
    " ms a plan: planning time. The best of many settings looks better than it is, so Tables 1 and 2 score it on other"
    " episodes. –: no effect."
)
_SETTING = {
    "type": "object",
    "required": ["setting", "scores", "plans", "planning_seconds"],
    "properties": {
        "setting": {"type": "object"},
        "scores": {"type": ["array", "null"], "items": {"type": "number"}},
        "plans": {"type": "integer"},
        "planning_seconds": {"type": "number"},
    },
}
_PROPERTIES = {
    "task": {"type": "string"},
    "variant": {"type": "string"},
    "seed": {"type": "integer"},
    "data_source": {"type": "string"},
    "episodes": {"type": "integer", "minimum": 1},
    "settings": {"type": "array", "items": _SETTING},
}
Record = Mapping[str, Any]
Line = dict[str, Any]
Ranked = Mapping[tuple[str, str], Sequence[Line]]  # by task and variant


def write_guide(paths: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write the settings of each task and variant by descending score, as a table and a figure.

    Args:
        paths: files of `calibrate` for all tasks, variants and seeds.
        outputs: one file per format, chosen by suffix; see `formats.write`.

    Raises:
        UserError: files of a task and variant tried different settings, or a file cannot be read or written.
    """
    groups: dict[tuple[str, str], dict[Path, Record]] = {}
    for path in paths:
        record = read_record(path, _PROPERTIES, "calibrate")
        groups.setdefault((record["task"], record["variant"]), {})[path] = record
    ranked = {}
    for group, records in groups.items():
        _check(records)
        ranked[group] = rank(list(records.values()))
    sources = sorted({record["data_source"] for records in groups.values() for record in records.values()})
    table = Table(
        "Which guide",
        f"Data source: {', '.join(sources)}. {_CAPTION}",
        _lines(ranked),
        {
            f"{task}, {variant}. {conclusion(lines)}": list(map(_texts, lines))
            for (task, variant), lines in ranked.items()
        },
    )
    write(outputs, table, lambda: _draw(ranked))


def rank(records: Sequence[Record]) -> list[Line]:
    """Sort the settings of one task and variant by descending score.

    Ties keep the order of trial, with params.yaml's setting first. Failed settings come last.

    Args:
        records: one record of `calibrate` per seed, all with the same settings and numbers of episodes.

    Returns:
        For each setting: `setting`, parameter → value; `own`, whether it is params.yaml's; `seeds`; `episodes`, of all
        seeds together; `mean`, `standard_error`, `ms_a_plan` and `best_is_better`, each None if not defined.
    """
    lines, scores = [], []
    for number, first in enumerate(records[0]["settings"]):
        tried = [record["settings"][number] for record in records]
        line = {"setting": first["setting"], "own": number == 0, "seeds": len(records), "episodes": 0}
        line |= dict.fromkeys(("mean", "standard_error", "ms_a_plan", "best_is_better"))
        lines.append(line)
        if all(one["scores"] for one in tried):
            scores.append(np.array([one["scores"] for one in tried]))
            mean, error = mean_and_standard_error([one["scores"] for one in tried])
            milliseconds = 1000 * sum(one["planning_seconds"] for one in tried) / sum(one["plans"] for one in tried)
            line |= {"episodes": scores[-1].size, "mean": mean, "ms_a_plan": milliseconds}
            line["standard_error"] = error if len(records) > 1 else None
    known = [line for line in lines if line["mean"] is not None]
    order = sorted(range(len(known)), key=lambda i: -known[i]["mean"])
    for i, probability in zip(order[1:], certainty(np.array(scores)[order]), strict=True):
        known[i]["best_is_better"] = float(probability)
    return [known[i] for i in order] + [line for line in lines if line["mean"] is None]


def certainty(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate the probability that the first setting's mean is above each other's, by a bootstrap; ties count half.

    A sample draws seeds, and episodes of each, with replacement. All settings get the same draws, because they share
    networks and starts.

    Args:
        scores: shape (settings, seeds, episodes).

    Returns:
        Shape (settings - 1,).
    """
    _, seeds, episodes = scores.shape
    rng = np.random.default_rng(0)
    # How often a sample contains each seed, and each of its episodes: (samples, seeds), (samples, seeds, episodes).
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=_RESAMPLES)
    counts = rng.multinomial(drawn * episodes, np.full(episodes, 1 / episodes))
    differences = (scores[:1] - scores[1:]).reshape(-1, seeds * episodes) @ counts.reshape(_RESAMPLES, -1).T
    return np.asarray(((differences > 0) + (differences == 0) / 2).mean(axis=1))


def conclusion(lines: Sequence[Line]) -> str:
    """Name the best setting, and say how certain that is."""
    best, *others = lines
    text = f"Best: {_name(best)}{', as in params.yaml' * best['own']}."
    beaten = {
        "params.yaml's": [line for line in others if line["own"]],
        "the runner-up": [line for line in others[:1] if not line["own"]],
    }
    chances = [
        f"than {name} with probability {line['best_is_better']:.2f}"
        for name, found in beaten.items()
        for line in found
        if line["best_is_better"] is not None
    ]
    text += f" Better {', '.join(chances)}." * bool(chances)
    return f"{text} {sum(line['episodes'] for line in lines)} episodes used."


def _check(records: Mapping[Path, Record]) -> None:
    first_path, first = next(iter(records.items()))
    for path, record in records.items():
        for key, ours, theirs in (
            ("settings", *([one["setting"] for one in each["settings"]] for each in (record, first))),
            ("episodes", record["episodes"], first["episodes"]),
        ):
            if ours != theirs:
                raise UserError(f"{path}: other {key} than in {first_path}; calibrate both alike")
        for number, tried in enumerate(record["settings"]):
            scores = tried["scores"] if number else tried["scores"] or []  # params.yaml's own setting never fails
            if scores is not None and (len(scores) != record["episodes"] or tried["plans"] < 1):
                raise UserError(f"{path}: settings.{number}: not of {record['episodes']} episodes; calibrate again")
        if not record["settings"]:
            raise UserError(f"{path}: settings: the list is empty; calibrate again")


def _lines(ranked: Ranked) -> list[Line]:
    knobs = dict.fromkeys(knob for lines in ranked.values() for knob in lines[0]["setting"])
    rows = []
    for (task, variant), lines in ranked.items():
        for line in lines:
            # As text, because the CSV's three decimals are too few for a guide scale.
            values = {knob: _value(value) for knob, value in line["setting"].items() if value is not None}
            row = {"task": task, "variant": variant, **knobs, **values, **line}
            del row["setting"]
            rows.append(row | {"own": int(line["own"])})
    return rows


def _texts(line: Line) -> dict[str, str]:
    texts = {knob: _value(value) for knob, value in line["setting"].items()}
    texts["params.yaml"] = "yes" if line["own"] else ""
    if line["mean"] is None:
        return texts | {"Score": "failed", "ms a plan": "–", "Best is better": "–"}
    error, probability = (line[key] for key in ("standard_error", "best_is_better"))
    texts["Score"] = f"{line['mean']:z.1f} ± {'–' if error is None else f'{error:.1f}'}"
    texts["ms a plan"] = f"{line['ms_a_plan']:.1f}"
    return texts | {"Best is better": "–" if probability is None else f"{probability:.2f}"}


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _name(line: Line) -> str:
    return (
        ", ".join(f"{knob} {_value(value)}" for knob, value in line["setting"].items() if value is not None)
        or "any, none has an effect"
    )


def _draw(ranked: Ranked) -> Figure:
    """Draw the scores: a row of panels per task, a panel per variant, a line per setting."""
    tasks, variants = (list(dict.fromkeys(group[i] for group in ranked)) for i in (0, 1))
    longest = max(map(len, ranked.values()))
    size = (5.5 * len(variants), (0.2 * longest + 0.9) * len(tasks) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(tasks), len(variants), squeeze=False)
    for i, task in enumerate(tasks):
        for j, variant in enumerate(variants):
            if (task, variant) in ranked:
                _panel(panels[i, j], [line for line in ranked[task, variant] if line["mean"] is not None])
                panels[i, j].set_title(f"{task}, {variant}", loc="left", fontsize=10)
            else:
                panels[i, j].set_axis_off()
    figure.supxlabel("normalised score; filled: the best; diamond: params.yaml's", fontsize=9)
    return figure


def _panel(axes: Axes, lines: Sequence[Line]) -> None:
    for y, line in enumerate(lines):
        axes.errorbar(
            line["mean"],
            y,
            xerr=line["standard_error"] or 0,
            fmt="D" if line["own"] else "o",
            color="black",
            markerfacecolor="black" if y == 0 else "white",
            capsize=2,
            markersize=5,
        )
    axes.set_yticks(range(len(lines)), map(_name, lines), fontsize=7)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
