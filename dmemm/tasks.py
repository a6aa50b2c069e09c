"""The task table: environment, kind of data, reference scores, goal or not."""

from dataclasses import dataclass
from typing import Literal, get_args

from dmemm.errors import UserError

Protocol = Literal["locomotion", "maze2d", "multi2d"]


@dataclass(frozen=True)
class Task:
    """One row of Tables 1 and 2.

    Attributes:
        name: e.g. `hopper-medium-expert`, `maze2d-umaze`, `multi2d-umaze`.
        protocol: how it is evaluated; both maze protocols share their data and networks.
        body: the key of per-body parameters: `hopper`, `halfcheetah`, `walker2d`, `umaze`, `medium`, `large`.
        level: quality of locomotion data (`medium`, `medium-replay`, `medium-expert`); empty for mazes.
        env_id: Gymnasium id (locomotion); empty for mazes, which `dmemm.envs` builds from their map.
        episode_steps: length of an evaluation episode.
        random_return, expert_return: D4RL's references, scores 0 and 100.
    """

    name: str
    protocol: Protocol
    body: str
    level: str
    env_id: str
    episode_steps: int
    random_return: float
    expert_return: float

    @property
    def is_maze(self) -> bool:
        """Whether plans end at a goal (both maze protocols)."""
        return self.protocol != "locomotion"

    @property
    def suite(self) -> str:
        """Key of parameters that differ between `locomotion` and `maze`."""
        return "maze" if self.is_maze else "locomotion"

    def score(self, episode_return: float) -> float:
        """D4RL's normalised score: 0 for random play, 100 for its reference expert."""
        return 100 * (episode_return - self.random_return) / (self.expert_return - self.random_return)


# D4RL's reference returns (its infos.py); v4 of the environments, as v5 changed Walker2d's friction.
_ROBOTS = {
    "hopper": ("Hopper-v4", -20.272305, 3234.3),
    "halfcheetah": ("HalfCheetah-v4", -280.178953, 12135.0),
    "walker2d": ("Walker2d-v4", 1.629008, 4592.3),
}
_MAZES = {
    "umaze": (300, 23.85, 161.86),
    "medium": (600, 13.13, 277.39),
    "large": (800, 6.7, 273.99),
}
_LEVELS = ("medium-expert", "medium", "medium-replay")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(
            Task(f"{robot}-{level}", "locomotion", robot, level, env_id, 1000, low, high)
            for level in _LEVELS
            for robot, (env_id, low, high) in _ROBOTS.items()
        ),
        *(
            Task(f"{protocol}-{maze}", protocol, maze, "", "", steps, low, high)
            for protocol in get_args(Protocol)[1:]
            for maze, (steps, low, high) in _MAZES.items()
        ),
    )
}


def get_task(name: str) -> Task:
    """Look a task up.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise UserError(f"{name}: unknown task; choose one of {', '.join(TASKS)}")
    return TASKS[name]
