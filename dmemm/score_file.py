"""The format of a score file: what happened in the episodes of one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.schema import read_record

Way = Literal["actions", "waypoints"]

_TEXT = {"type": "string", "minLength": 1}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_SCORES = {**_NUMBERS, "minItems": 1}
_SUCCESS = {"anyOf": [{"type": "null"}, {**_SCORES, "items": {"enum": [0, 1]}}]}
_OUTCOME = {"type": "object", "required": ["scores", "success"], "properties": {"scores": _SCORES, "success": _SUCCESS}}
PROPERTIES: dict[str, Any] = {
    "task": _TEXT,
    "variant": _TEXT,
    "seed": {"type": "integer", "minimum": 0},
    "data_source": {"enum": ["local", "d4rl", "minari", "own"]},
    "protocol": _TEXT,
    "execute": _TEXT,
    "checkpoint": _TEXT,
    "episodes": {"type": "integer", "minimum": 1},
    "returns": _NUMBERS,
    "scores": _SCORES,
    "success": _SUCCESS,
    "executed": {"type": "object", "additionalProperties": _OUTCOME},
    "lengths": _NUMBERS,
    "planning_seconds": {"type": "number"},
    "plans": {"type": "integer"},
    "data_warnings": {"type": "array", "items": {"type": "string"}},
    "data_score": {"type": ["number", "null"]},
    "best_policy_score": {"type": ["number", "null"]},
}


class Outcome(TypedDict):
    """The episodes of one way to execute plans; see `Score`."""

    scores: Sequence[float]
    success: Sequence[int] | None


@dataclass(frozen=True)
class Score:
    """One evaluation: a variant's network of one seed on one task. Every field but `path` is a key of the file.

    Attributes:
        path: the score file, JSON.
        task: name of the task.
        variant: name of the variant or method.
        seed: seed of the training and of the episodes.
        data_source: `local`, `d4rl`, `minari` or `own`.
        protocol: the task's protocol.
        execute: the way to execute plans that `scores` and `success` are of.
        checkpoint: the weights that were evaluated, e.g. `last`.
        episodes: number of episodes.
        returns: undiscounted return of each episode.
        scores: D4RL's normalised score of each episode (0 random play, 100 D4RL's reference).
        success: 1 or 0 for each episode; None if the task has no goal.
        executed: the outcome of each way in which plans were executed.
        lengths: steps of each episode.
        planning_seconds: time spent on planning in all episodes.
        plans: number of plans in all episodes.
        data_warnings: what is wrong with the data set.
        data_score: mean normalised score of the data set's own episodes; None if it does not apply to the task.
        best_policy_score: mean normalised score of the best policy that collected the data; None if unknown.
    """

    path: Path
    task: str
    variant: str
    seed: int
    data_source: str
    protocol: str
    execute: Way
    checkpoint: str
    episodes: int
    returns: Sequence[float]
    scores: Sequence[float]
    success: Sequence[int] | None
    executed: Mapping[Way, Outcome]
    lengths: Sequence[int]
    planning_seconds: float
    plans: int
    data_warnings: Sequence[str]
    data_score: float | None
    best_policy_score: float | None

    def write(self) -> None:
        """Write the file."""
        record = asdict(self)
        write_json(record.pop("path"), record)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file.

        Raises:
            UserError: the file lacks a key, a value is not a finite number, or a list is not of one value an episode.
        """
        record = read_record(path, PROPERTIES, "evaluate")
        for key in ("scores", "success", "returns", "lengths"):
            if record[key] is not None and len(record[key]) != record["episodes"]:
                values = f"{len(record[key])} values for {record['episodes']} episodes"
                raise UserError(f"{path}: {key}: {values}; delete it and run evaluate again")
        return cls(path, **{field.name: record[field.name] for field in fields(cls) if field.name != "path"})
