"""Tables 1 to 3 of the paper as CSV and Markdown, and the few numbers that `dvc metrics` shows."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from dmemm.errors import UserError
from dmemm.files import replacing, write_json
from dmemm.reporting.scores import Row, describe, group_rows, load_scores, mean_and_standard_error
from dmemm.tasks import get_task

Cell = str | int | float | None
Cells = dict[str, Cell]

_TITLES = {1: "Locomotion", 2: "Mazes with a fixed goal (Maze2D) and with random goals (Multi2D)", 3: "Ablations"}
_ABLATIONS = ("dmemm", "wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "wo_tr_guide")
_VARIANTS = {1: ("diffuser", "dmemm"), 2: ("diffuser", "dmemm"), 3: _ABLATIONS}
_HEADINGS = {
    "task": "Task",
    "data": "Data",
    "seeds": "Seeds",
    "episodes": "Episodes a seed",
    "data_score": "Data set's own",
    "diffuser": "Diffuser",
    "dmemm": "DMEMM",
    "wo_weighting": "w/o weighting",
    "wo_lambda_tr": "w/o λ_tr",
    "wo_lambda_rd": "w/o λ_rd",
    "wo_tr_guide": "w/o transition guide",
}
# Variant → method in the published tables.
_METHODS = {
    "diffuser": "Diffuser",
    "dmemm": "DMEMM",
    "wo_weighting": "DMEMM-w/o-weighting",
    "wo_lambda_tr": "DMEMM-w/o-lambda_tr",
    "wo_lambda_rd": "DMEMM-w/o-lambda_rd",
    "wo_tr_guide": "DMEMM-w/o-tr-guide",
}

Published = Mapping[tuple[int, str, str], tuple[float, float | None]]


def write_table(
    number: int, scores: Sequence[Path], published: Path, csv: Path, markdown: Path, long: Path | None = None
) -> None:
    """Write Table 1 (locomotion), 2 (mazes) or 3 (ablations): rows in the order of the score files, then their average.

    Published scores get columns only if a row's data source is d4rl, and cells only in such rows.

    Args:
        number: which table.
        scores: score files of all the table's tasks, variants and seeds.
        published: the paper's own scores, see `read_published`.
        csv: output for programs.
        markdown: output for people.
        long: output, optional: a line a task, variant, seed and way to execute the plans.

    Raises:
        UserError: the score files do not make up the table, or a file cannot be read or written.
    """
    rows = group_rows(load_scores(scores))
    for row in rows:
        _check(number, row)
    references = read_published(published)
    with_published = any(row.data_source == "d4rl" for row in rows)
    lines = [_cells(number, row, references if with_published else None) for row in rows]
    lines.append(_average(lines))
    caption = f"**Table {number}.** {_TITLES[number]}. {describe(rows)}"
    if with_published:
        caption += " Published: as the paper prints it, over 5 seeds; it does not say what its ± is."
    csv_text, markdown_text = _csv(lines), f"{caption}\n\n{_markdown(lines)}"
    with replacing(csv) as csv_file, replacing(markdown) as markdown_file:
        csv_file.write_text(csv_text, encoding="utf-8")
        markdown_file.write_text(markdown_text, encoding="utf-8")
    if long is not None:
        with replacing(long) as long_file:
            long_file.write_text(_csv(_long(rows)), encoding="utf-8")


def write_metrics(tables: Sequence[Path], output: Path) -> None:
    """Write the averages of the tables as JSON: table → column → score (one decimal) or success rate (three).

    Args:
        tables: CSV files of `write_table`; the file's stem names the table. One without rows gives an empty entry.
        output: JSON.

    Raises:
        UserError: a file is no such table, or cannot be read or written.
    """
    metrics: dict[str, dict[str, float]] = {}
    for path in tables:
        averages: dict[str, float] = {}
        lines = _read_csv(path, ("task",))
        if lines and lines[-1]["task"] != "Average":
            raise UserError(f"{path}: the last row is not the average; run the table stage again")
        for column, text in lines[-1].items() if lines else ():
            name = "data" if column == "data_score" else column.removesuffix("_mean")
            if text and name != "task" and not column.endswith(("_published_mean", "_standard_error")):
                value = _number(text, path, column)
                averages[name] = round(value, 3 if column.endswith("_success_rate") else 1)
        metrics[path.stem] = averages
    write_json(output, metrics)


def read_published(path: Path) -> Published:
    """Read published scores: (table, task, method) → mean and what the paper prints after ±.

    Raises:
        UserError: unreadable, a column missing, or a value that is no number.
    """
    published = {}
    for line in _read_csv(path, ("table", "task", "method", "mean", "plus_minus")):
        key = (int(_number(line["table"], path, "table")), line["task"], line["method"])
        error = _number(line["plus_minus"], path, "plus_minus") if line["plus_minus"] else None
        published[key] = (_number(line["mean"], path, "mean"), error)
    return published


def _check(number: int, row: Row) -> None:
    task = get_task(row.task)
    if (number == 1 and task.has_goal) or (number == 2 and not task.has_goal):
        raise UserError(
            f"{row.first.path}: {row.task} is no row of table {number}; use table {2 if task.has_goal else 1}"
        )
    for variant in _VARIANTS[number]:
        if variant not in row.variants:
            raise UserError(f"{row.task}: no scores of {variant}, which table {number} compares; evaluate it")
    for variant, scores in row.variants.items():
        if variant not in _VARIANTS[number]:
            raise UserError(f"{scores[0].path}: table {number} has no column {variant}; leave the file out")
        for score in scores:
            if number == 2 and score.success is None:
                raise UserError(f"{score.path}: success: missing, though mazes have a goal; run evaluate again")


def _cells(number: int, row: Row, published: Published | None) -> Cells:
    """One row; None is an empty cell."""
    cells: Cells = {
        "task": row.task,
        "data": row.data_source,
        "seeds": row.seeds,
        "episodes": row.episodes,
        "data_score": row.data_score,
    }
    for variant in _VARIANTS[number]:
        mean, error = mean_and_standard_error([score.scores for score in row.variants[variant]])
        cells[f"{variant}_mean"] = mean
        cells[f"{variant}_standard_error"] = None if math.isnan(error) else error
    if number == 2:
        for variant in _VARIANTS[number]:
            rate, _ = mean_and_standard_error([score.success or () for score in row.variants[variant]])
            cells[f"{variant}_success_rate"] = rate
    if published is not None:
        for variant in _VARIANTS[number]:
            key = (number, row.task, _METHODS[variant])
            mean_and_error = published.get(key, (None, None)) if row.data_source == "d4rl" else (None, None)
            cells[f"{variant}_published_mean"], cells[f"{variant}_published_plus_minus"] = mean_and_error
    return cells


def _average(lines: Sequence[Cells]) -> Cells:
    """The mean of each column of scores, blank where a row has none: an average over other rows would mislead.

    It has no standard error, as the paper's has none: tasks are not draws from one distribution.
    """
    average: Cells = dict.fromkeys(lines[0])
    for column in average:
        if column.endswith(("_mean", "_success_rate", "data_score")):
            values = [value for line in lines if isinstance(value := line[column], int | float)]
            average[column] = statistics.fmean(values) if len(values) == len(lines) else None
    return average | {"task": "Average"}


def _long(rows: Sequence[Row]) -> list[Cells]:
    """Every seed's mean score under each way to execute its plans."""
    lines: list[Cells] = []
    for row in rows:
        for score in (score for scores in row.variants.values() for score in scores):
            for execute, outcome in score.executed.items():
                line: Cells = {"task": row.task, "data": row.data_source, "variant": score.variant, "execute": execute}
                line |= {"seed": score.seed, "episodes": len(score.scores), "checkpoint": score.checkpoint}
                for key, values in (("score", outcome["scores"]), ("success_rate", outcome["success"])):
                    line[key] = statistics.fmean(values) if values else None
                lines.append(line)
    return lines


def _csv(lines: Sequence[Cells]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(lines[0])
    for line in lines:
        writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in line.values()])
    return text.getvalue()


def _markdown(lines: Sequence[Cells]) -> str:
    """The table with aligned columns, as it is printed in a terminal too."""
    table = [_texts(line) for line in lines]
    widths = {heading: max(len(heading), *(len(row[heading]) for row in table)) for heading in table[0]}
    left = {_HEADINGS["task"], _HEADINGS["data"]}
    head = " | ".join(h.ljust(w) if h in left else h.rjust(w) for h, w in widths.items())
    rule = " | ".join("-" * w if h in left else "-" * (w - 1) + ":" for h, w in widths.items())
    body = [" | ".join(row[h].ljust(w) if h in left else row[h].rjust(w) for h, w in widths.items()) for row in table]
    return "".join(f"| {line} |\n" for line in (head, rule, *body))


def _texts(line: Cells) -> dict[str, str]:
    """Heading → cell, with a mean and its error in one."""
    texts = {}
    is_average = line["task"] == "Average"
    for column, value in line.items():
        variant = column.partition("_published")[0].removesuffix("_mean").removesuffix("_success_rate")
        heading = _HEADINGS.get(variant, "")
        if column.endswith(("_standard_error", "_plus_minus")):
            continue
        if column.endswith("_mean"):
            is_published = column.endswith("_published_mean")
            error = line[column.replace("_mean", "_plus_minus" if is_published else "_standard_error")]
            text = "" if value is None else f"{value:.1f}"
            if value is not None and not is_average:
                text += " ± –" if error is None else f" ± {error:.1f}"
            texts[f"{heading} (published)" if is_published else heading] = text
        elif column.endswith("_success_rate"):
            texts[f"{heading}, success"] = "" if value is None else f"{100 * float(value):.0f} %"
        else:
            texts[heading] = f"{value:.1f}" if isinstance(value, float) else "" if value is None else str(value)
    return texts


def _read_csv(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            lines = list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror or error}; run the stage that makes it") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid CSV ({error}); restore it or make it again") from error
    missing = [column for column in required if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; restore the file or make it again")
    if any(None in line or None in line.values() for line in lines):
        raise UserError(f"{path}: a line has more or fewer cells than the head; restore the file or make it again")
    return lines


def _number(text: str, path: Path, column: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}: {column}: {text!r} is no number; restore the file or make it again") from None
