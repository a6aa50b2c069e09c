"""Get a task's raw data from one of the sources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmemm.data.local import collect
from dmemm.data.raw import RawData, check_raw, statistics, write_raw
from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.tasks import Task

# (task, steps, seed) -> data. None: the source is known but not built yet.
SOURCES: dict[str, Callable[[Task, int, int], RawData] | None] = {"local": collect, "d4rl": None, "minari": None}


def download(
    task: Task, data_source: str, steps: int, seed: int, output: Path, statistics_output: Path
) -> dict[str, Any]:
    """Write a task's raw data (HDF5) and its statistics (JSON), and return the statistics.

    Args:
        task: the task.
        data_source: a key of `SOURCES`.
        steps: transitions to collect (local data only).
        seed: of the collection (local data only).
        output: the HDF5 file.
        statistics_output: the JSON file.

    Raises:
        UserError: the source is unknown or not built, `steps` is not positive, or a file cannot be written.
    """
    if data_source not in SOURCES:
        raise UserError(f"data_source={data_source}: unknown; choose one of {', '.join(SOURCES)}")
    source = SOURCES[data_source]
    if source is None:
        raise UserError(f"data_source={data_source}: this source is not built yet; use data_source=local")
    if steps < 1:
        raise UserError(f"local_steps={steps}: must be at least 1")
    raw = source(task, steps, seed)
    check_raw(raw, f"{task.name} from {data_source}")
    result = statistics(raw, task)
    write_raw(output, raw)
    write_json(statistics_output, result)
    return result
