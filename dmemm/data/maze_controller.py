"""D4RL's recipe for maze data: breadth-first search over the free cells and a PD controller along the path."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

GAIN = 10.0
DAMPING = -1.0
REACHED = 0.1

Cell = tuple[int, int]
Floats = NDArray[np.float32]


def shortest_path(maze_map: NDArray[np.int64], start: Cell, end: Cell) -> list[Cell]:
    """Cells from `start` to `end`, both included, over neighbouring free cells (0) of `maze_map`.

    Raises:
        ValueError: there is no path.
    """
    previous: dict[Cell, Cell] = {start: start}
    queue = deque([start])
    while queue and end not in previous:
        row, col = cell = queue.popleft()
        for neighbour in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
            if neighbour not in previous and maze_map[neighbour] == 0:
                previous[neighbour] = cell
                queue.append(neighbour)
    if end not in previous:
        raise ValueError(f"no path from {start} to {end}")
    path = [end]
    while path[-1] != start:
        path.append(previous[path[-1]])
    return path[::-1]


def cell_of(position: Floats) -> Cell:
    """The cell whose middle is nearest to `position` (row, col)."""
    row, col = np.rint(position)
    return int(row), int(col)


class Navigator:
    """Steers to one goal: past the middles of the cells on the way, then to the goal itself."""

    def __init__(self, maze_map: NDArray[np.int64], start: Floats, goal: Floats) -> None:
        """Plan from position `start` to position `goal`, both (row, col)."""
        path = shortest_path(maze_map, cell_of(start), cell_of(goal))
        self._waypoints: deque[Floats] = deque([*np.array(path[:-1], np.float32).reshape(-1, 2), goal])
        if len(path) > 1:
            self._waypoints.popleft()  # the cell that it is in

    def action(self, observation: Floats) -> tuple[Floats, bool]:
        """Force (2,), not yet clipped, for `observation` (4,), and whether the goal is within 0.1."""
        position, velocity = observation[:2], observation[2:]
        near = bool(np.linalg.norm(self._waypoints[0] - position) < REACHED)
        if near and len(self._waypoints) > 1:
            self._waypoints.popleft()
            near = False
        return GAIN * (self._waypoints[0] - position) + DAMPING * velocity, near
