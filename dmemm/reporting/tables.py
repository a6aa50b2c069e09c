"""Tables 1 to 3 of the paper, and the averages that `dvc metrics` shows."""

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.methods import ABLATIONS, POLICIES
from dmemm.reporting.dots import draw_scores
from dmemm.reporting.formats import Table, write
from dmemm.reporting.rows import NAMES, Row, describe, load_rows, mean_and_standard_error
from dmemm.tasks import get_task

Cell = str | int | float | None
Cells = dict[str, Cell]

_TITLES = {1: "Locomotion", 2: "Mazes with a fixed goal (Maze2D) and with random goals (Multi2D)", 3: "Ablations"}
_SUITES = {"table1": "locomotion", "table2": "mazes"}  # column headings of `dvc exp show`
_VARIANTS = {1: ("diffuser", "dmemm"), 2: ("diffuser", "dmemm"), 3: ("dmemm", *ABLATIONS)}  # required in every row
_HEADINGS = {
    "task": "Task",
    "data": "Data",
    "seeds": "Seeds",
    "episodes": "Episodes a seed",
    "data_score": "Data set's own",
    "best_policy_score": "Its best policy",
    **NAMES,
}
# Variant → name of the method in the published tables.
_PUBLISHED_NAMES = {
    **NAMES,
    "wo_weighting": "DMEMM-w/o-weighting",
    "wo_lambda_tr": "DMEMM-w/o-lambda_tr",
    "wo_lambda_rd": "DMEMM-w/o-lambda_rd",
    "wo_tr_guide": "DMEMM-w/o-tr-guide",
}

# Published scores have their own block, because they are not this project's.
_PUBLISHED = "Published scores, as the paper prints them: 5 seeds; it does not say what its ± means."

Published = Mapping[tuple[int, str, str], tuple[float, float | None]]


def write_table(
    number: int, scores: Sequence[Path], published: Path, outputs: Sequence[Path], long: Path | None = None
) -> None:
    """Write Table 1 (locomotion), 2 (mazes) or 3 (ablations): rows in the order of the score files, then their average.

    Published scores appear only in rows whose data source is d4rl, and have columns only if there is such a row.

    Args:
        number: number of the table.
        scores: score files of all tasks, variants and seeds of the table.
        published: the paper's scores; see `read_published`.
        outputs: one file per format, chosen by suffix; see `formats.write`. The figure has the score of each seed.
        long: optional CSV output with a line per task, variant, seed and way to execute the plans.

    Raises:
        UserError: the score files do not make up the table, or a file cannot be read or written.
    """
    rows = load_rows(scores)
    variants = _columns(number, rows)
    for row in rows:
        _check(number, row, variants)
    references = read_published(published)
    with_published = any(row.first.data_source == "d4rl" for row in rows)
    lines = [_cells(number, row, variants, references if with_published else None) for row in rows]
    lines.append(_average(lines))
    known = [line for line in lines if line["best_policy_score"] is not None]
    blocks = {"": [_texts(line, variants, best_policy=bool(known)) for line in lines]}
    if with_published and any(quoted := [_published_texts(line, variants) for line in lines]):
        blocks[_PUBLISHED] = [texts for texts in quoted if texts]
    caption = f"{_TITLES[number]}. {describe(rows)}"
    table = Table(f"Table {number}", f"{caption} Bold: the best method of a row.", lines, blocks)
    write(outputs, table, lambda: draw_scores(rows, variants, f"{table.name}. {caption} Pale dots: seeds."))
    if long is not None:
        write([long], Table("", "", _long(rows), {}))


def write_metrics(tables: Sequence[Path], output: Path) -> None:
    """Write the averages of Tables 1 and 2 as JSON: suite → variant → score (one decimal) or success rate (three).

    Args:
        tables: CSV files of `write_table`; the file's stem names the table.
        output: the JSON file.

    Raises:
        UserError: a file is not such a table, or cannot be read or written.
    """
    metrics: dict[str, dict[str, float]] = {}
    for path in tables:
        lines = _read_csv(path, ("task",))
        if path.stem not in _SUITES or not lines or lines[-1]["task"] != "Average":
            raise UserError(f"{path}: no Table 1 or 2 with an average in its last row; run the table stage again")
        averages = metrics.setdefault(_SUITES[path.stem], {})
        for variant in ("diffuser", "dmemm"):
            for column, name, decimals in (("mean", "", 1), ("success_rate", "_success", 3)):
                if text := lines[-1].get(f"{variant}_{column}"):
                    averages[f"{variant}{name}"] = round(_number(text, path, f"{variant}_{column}"), decimals)
    write_json(output, metrics)


def read_published(path: Path) -> Published:
    """Read published scores: (table, task, method) → mean and what the paper prints after ±.

    Raises:
        UserError: the file cannot be read, lacks a column, or has a value that is not a number.
    """
    published = {}
    for line in _read_csv(path, ("table", "task", "method", "mean", "plus_minus")):
        key = (int(_number(line["table"], path, "table")), line["task"], line["method"])
        error = _number(line["plus_minus"], path, "plus_minus") if line["plus_minus"] else None
        published[key] = (_number(line["mean"], path, "mean"), error)
    return published


def _columns(number: int, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the table's columns; in Tables 1 and 2 the other methods come first, as in the paper."""
    found = dict.fromkeys(variant for row in rows for variant in row.variants)
    methods = [variant for variant in found if variant in POLICIES and number < 3]
    return (*methods, *_VARIANTS[number])


def _check(number: int, row: Row, variants: Sequence[str]) -> None:
    task = get_task(row.task)
    if (number == 1 and task.has_goal) or (number == 2 and not task.has_goal):
        raise UserError(
            f"{row.first.path}: {row.task} is not a row of table {number}; use table {2 if task.has_goal else 1}"
        )
    for variant in variants:
        if variant not in row.variants:
            raise UserError(f"{row.task}: no scores of {variant}, which table {number} compares; evaluate it")
    for variant, scores in row.variants.items():
        if variant not in variants:
            raise UserError(f"{scores[0].path}: table {number} has no column {variant}; leave the file out")
        for score in scores:
            if number == 2 and score.success is None:
                raise UserError(f"{score.path}: success: missing, though mazes have a goal; run evaluate again")


def _cells(number: int, row: Row, variants: Sequence[str], published: Published | None) -> Cells:
    """Return one row; None is an empty cell."""
    cells: Cells = {
        "task": row.task,
        "data": row.first.data_source,
        "seeds": row.seeds,
        "episodes": row.first.episodes,
        "data_score": row.first.data_score,
        "best_policy_score": row.first.best_policy_score,
    }
    for variant in variants:
        mean, error = mean_and_standard_error([score.scores for score in row.variants[variant]])
        cells[f"{variant}_mean"] = mean
        cells[f"{variant}_standard_error"] = None if math.isnan(error) else error
    if number == 2:
        for variant in variants:
            rate, _ = mean_and_standard_error([score.success or () for score in row.variants[variant]])
            cells[f"{variant}_success_rate"] = rate
    if published is not None:
        for variant in variants:
            key = (number, row.task, _PUBLISHED_NAMES.get(variant, variant))
            mean_and_error = published.get(key, (None, None)) if row.first.data_source == "d4rl" else (None, None)
            cells[f"{variant}_published_mean"], cells[f"{variant}_published_plus_minus"] = mean_and_error
    return cells


def _average(lines: Sequence[Cells]) -> Cells:
    """Return the mean of each column of scores; it is empty if a row has no score, to avoid a misleading average.

    It has no standard error, as in the paper: tasks are not samples from one distribution.
    """
    average: Cells = dict.fromkeys(lines[0])
    for column in average:
        if column.endswith(("_mean", "_success_rate", "data_score", "best_policy_score")):
            values = [value for line in lines if isinstance(value := line[column], int | float)]
            average[column] = statistics.fmean(values) if len(values) == len(lines) else None
    return average | {"task": "Average"}


def _long(rows: Sequence[Row]) -> list[Cells]:
    """Return the mean score of every seed for each way to execute its plans."""
    lines: list[Cells] = []
    for row in rows:
        for score in (score for scores in row.variants.values() for score in scores):
            for execute, outcome in score.executed.items():
                line: Cells = {
                    "task": row.task,
                    "data": score.data_source,
                    "variant": score.variant,
                    "execute": execute,
                    "seed": score.seed,
                    "episodes": len(score.scores),
                    "checkpoint": score.checkpoint,
                }
                for key, values in (("score", outcome["scores"]), ("success_rate", outcome["success"])):
                    line[key] = statistics.fmean(values) if values else None
                lines.append(line)
    return lines


def _texts(line: Cells, variants: Sequence[str], best_policy: bool) -> dict[str, str]:
    """Map headings to cells; a cell has a mean and its error, and the highest mean is bold."""
    columns = ["task", "data", "seeds", "episodes", "data_score"]
    if best_policy:
        columns.append("best_policy_score")
    texts = {_HEADINGS[column]: _text(line[column]) for column in columns}
    means = {variant: _text(line[f"{variant}_mean"]) for variant in variants}
    best = max(means.values(), key=float)  # as printed, so that all means that look equal are bold
    for variant, mean in means.items():
        text = _with_error(mean, line, f"{variant}_standard_error")
        texts[_HEADINGS[variant]] = f"**{text}**" if mean == best else text
    for variant in variants:
        if f"{variant}_success_rate" in line:
            rate = line[f"{variant}_success_rate"]
            texts[f"{_HEADINGS[variant]}, success"] = f"{100 * rate:.0f} %" if isinstance(rate, float) else ""
    return texts


def _published_texts(line: Cells, variants: Sequence[str]) -> dict[str, str]:
    """Like `_texts`, for the published scores; empty if the line has none."""
    means = {variant: _text(line[f"{variant}_published_mean"]) for variant in variants}
    if not any(means.values()):
        return {}
    cells = {_HEADINGS[v]: _with_error(mean, line, f"{v}_published_plus_minus") for v, mean in means.items()}
    return {_HEADINGS["task"]: str(line["task"]), **cells}


def _text(value: Cell) -> str:
    return f"{value:z.1f}" if isinstance(value, float) else "" if value is None else str(value)


def _with_error(mean: str, line: Cells, column: str) -> str:
    if not mean or line["task"] == "Average":
        return mean
    return f"{mean} ± {_text(line[column]) or '–'}"


def _read_csv(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns, lines = reader.fieldnames or (), list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run the stage that makes it") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid CSV ({error}); restore it or make it again") from error
    missing = [column for column in required if column not in columns]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; restore the file or make it again")
    if any(None in line or None in line.values() for line in lines):
        raise UserError(f"{path}: a line has more or fewer cells than the header; restore the file or make it again")
    return lines


def _number(text: str, path: Path, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}: {column}: {text!r} is not a number; restore the file or make it again")
    return value
