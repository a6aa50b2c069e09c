"""Tasks: an environment, its data, reference scores and how it is evaluated; one file `tasks/NAME.yaml` each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from dmemm.errors import UserError
from dmemm.files import read_yaml
from dmemm.schema import check

Protocol = Literal["locomotion", "maze2d", "multi2d", "own"]

FOLDER = Path("tasks")
# A task's name stands in paths and commands.
NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")


@dataclass(frozen=True)
class Task:
    """One row of a table.

    Attributes:
        name: e.g. `hopper-medium-expert`, `maze2d-umaze`, `multi2d-umaze`.
        env: Gymnasium id, or `module:Class`.
        episode_steps: length of an evaluation episode.
        random_return, expert_return: returns of scores 0 and 100.
        data: where the data come from, for each source that has them: `local`, `d4rl`, `minari`, `own`.
        protocol: how it is evaluated; both maze protocols share their data and networks.
        body: the key of per-body parameters: `hopper`, `halfcheetah`, `walker2d`, `umaze`, `medium`, `large`; empty
            for your own tasks.
        env_arguments: of the environment's constructor.
        goal_dim: leading entries of the state for which an episode has a goal; 0 without goals.
        terminal: `module:function`, states (..., Ds) → whether the episode terminates in them; empty for none.
        parameters: instead of params.yaml's values.
    """

    name: str
    env: str
    episode_steps: int
    random_return: float
    expert_return: float
    data: Mapping[str, Any]
    protocol: Protocol = "own"
    body: str = ""
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    goal_dim: int = 0
    terminal: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_maze(self) -> bool:
        """Whether it is one of D4RL's mazes (both protocols)."""
        return self.protocol in ("maze2d", "multi2d")

    @property
    def has_goal(self) -> bool:
        """Whether plans end at a goal."""
        return self.goal_dim > 0

    @property
    def end_dim(self) -> int:
        """Leading entries of a plan's last state that are given: the goal and, in mazes, the velocity there, zero."""
        return 4 if self.is_maze else self.goal_dim

    @property
    def data_task(self) -> str:
        """The task whose data and networks it uses: Multi2D is Maze2D with random goals."""
        return f"maze2d-{self.body}" if self.protocol == "multi2d" else self.name

    @property
    def suite(self) -> str:
        """Key of parameters that differ between `locomotion` and `maze`: tasks without a goal and with one."""
        return "maze" if self.has_goal else "locomotion"

    def score(self, episode_return: float) -> float:
        """D4RL's normalised score: 0 for random play, 100 for its reference expert."""
        return 100 * (episode_return - self.random_return) / (self.expert_return - self.random_return)


def task_names() -> list[str]:
    """Return the names of all task files, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if NAME.fullmatch(path.stem))


def get_task(name: str) -> Task:
    """Read `tasks/NAME.yaml`.

    Raises:
        UserError: no such task, or the file breaks the schema.
    """
    path = FOLDER / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        if not FOLDER.is_dir():
            raise UserError(f"{name}: there is no folder {FOLDER}/ here; run in the project's folder")
        raise UserError(
            f"{name}: unknown task; choose one of {', '.join(task_names())}, or write {FOLDER}/NAME.yaml"
            " (a name in lower case)"
        )
    return read_task(path)


def read_task(path: Path) -> Task:
    """Read and check a task file.

    Raises:
        UserError: naming the file and the key at fault.
    """
    values = read_yaml(path)
    check(values, "task", str(path))
    if values["random_return"] == values["expert_return"]:
        raise UserError(f"{path}: expert_return: equal to random_return; scores need two different references")
    if "own" in values["data"] and len(values["data"]) > 1:  # data_source never names it
        raise UserError(f"{path}: data: `own` must be the only source; remove the others")
    return Task(name=path.stem, **values)


def load_object(path: str, key: str) -> Any:
    """Import the object that a task file names as `module:name`.

    Raises:
        UserError: naming the file and the `key`, if it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{key}: {path}: {reason}; correct it, or put its module into the project's folder") from error
