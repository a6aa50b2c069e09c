"""The table of training costs: steps, parameters and time of each method, beside its score."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmemm.errors import UserError
from dmemm.reporting.formats import Table, write
from dmemm.reporting.rows import NAMES, describe, load_rows, mean_and_standard_error
from dmemm.schema import read_record

_PROPERTIES = {
    "task": {"type": "string"},
    "variant": {"type": "string"},
    "seed": {"type": "integer"},
    "steps": {"type": ["integer", "null"]},
    "parameters": {"type": "integer"},
    "seconds": {"type": "number"},
}
_CAPTION = (
    "Training of each method's own network. The transition ensemble and the reward model, which DMEMM's variants share,"
    " are not included. Minutes: wall time on the training machine, mean over seeds; a killed run counts up to its last"
    " checkpoint."
)


def write_training(records: Sequence[Path], scores: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Write gradient steps, parameters and time of each method's training on each task, with its score.

    Args:
        records: the training reports that `train` wrote.
        scores: score files of the same tasks and variants.
        outputs: one file per format, chosen by suffix; see `formats.write`.

    Raises:
        UserError: a record lacks a key, its score is not given, or a file cannot be read or written.
    """
    rows = load_rows(scores)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in records:
        record = read_record(path, _PROPERTIES, "train")
        runs.setdefault((record["task"], record["variant"]), []).append(record)
    lines = []
    for row in rows:
        for variant, evaluations in row.variants.items():
            found = runs.get((row.task, variant), [])
            if sorted(run["seed"] for run in found) != [score.seed for score in evaluations]:
                raise UserError(
                    f"{row.task}: {variant}: reports and scores have different seeds; give both of each seed"
                )
            lines.append(
                {
                    "task": row.task,
                    "method": variant,
                    "seeds": len(found),
                    "steps": found[0]["steps"],
                    "parameters": found[0]["parameters"],
                    "minutes": statistics.fmean(run["seconds"] for run in found) / 60,
                    "score": mean_and_standard_error([score.scores for score in evaluations])[0],
                }
            )
    texts = [
        {
            "Task": line["task"],
            "Method": NAMES.get(line["method"], line["method"]),
            "Gradient steps": "–" if line["steps"] is None else str(line["steps"]),
            "Parameters": str(line["parameters"]),
            "Minutes": f"{line['minutes']:.1f}",
            "Score": f"{line['score']:z.1f}",
        }
        for line in lines
    ]
    write(outputs, Table("Training", f"{_CAPTION} {describe(rows)}", lines, {"": texts}))
