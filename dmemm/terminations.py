"""The states in which episodes terminate, for the judgement of planned and learned states.

A task file names such a function, `module:function`. It takes states (..., Ds) in the environment's units, a NumPy
array, and returns bool (...). On a GPU, it is given a tensor first, and an array if it fails.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from dmemm.errors import UserError
from dmemm.tasks import FOLDER, Task, load_object


def hopper(states: Any) -> Any:
    """Hopper-v4 of Gymnasium: the height is at most 0.7, the angle beyond ±0.2, or any other entry beyond ±100."""
    healthy = (states[..., 0] > 0.7) & (abs(states[..., 1]) < 0.2) & (abs(states[..., 1:]) < 100).all(-1)
    return ~healthy


def walker2d(states: Any) -> Any:
    """Walker2d-v4 of Gymnasium: the height is outside (0.8, 2) or the angle outside (-1, 1)."""
    healthy = (states[..., 0] > 0.8) & (states[..., 0] < 2.0) & (abs(states[..., 1]) < 1.0)
    return ~healthy


def termination(task: Task, center: Any, scale: Any) -> Callable[[Any], Any] | None:
    """The task's termination function, for normalised states (..., Ds); None if its episodes never end early.

    Args:
        task: the task, which names the function.
        center: center of the states' normaliser, shape (Ds,).
        scale: scale of the states' normaliser, shape (Ds,).

    Raises:
        UserError: there is no such function. The returned function raises it if the result is not bool (...).
    """
    if not task.terminal:
        return None
    key = f"{FOLDER}/{task.name}.yaml: terminal"
    terminal = load_object(task.terminal, key)

    def ended(states: Any) -> Any:
        try:
            return _evaluate(terminal, states * scale + center)
        except Exception as error:  # a function of the user's may raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"{key}: {task.terminal}: {reason}; it takes states (..., Ds) and returns bool (...)"
            ) from error

    return ended


def _evaluate(terminal: Callable[[Any], Any], states: Any) -> Any:
    """Return `terminal(states)`, an array or tensor like `states`.

    The function may call NumPy, so only on a GPU is it given a tensor, if it takes one.
    """

    def result(states: Any) -> Any:
        ended = terminal(states)
        if ended.shape != states.shape[:-1] or not str(ended.dtype).endswith("bool"):
            raise ValueError(f"{ended.dtype} of shape {tuple(ended.shape)} for states {tuple(states.shape)}")
        return ended

    if isinstance(states, np.ndarray):
        return result(states)
    if states.is_cuda:
        with suppress(Exception):  # NumPy takes no tensor of a GPU
            return result(states)
    # `bool`, not torch's: a stage that imports torch is run again for each version of it.
    return states.new_tensor(result(states.numpy(force=True)), dtype=bool)
