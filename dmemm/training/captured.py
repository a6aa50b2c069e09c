"""Gradient steps on a GPU, without Python between their kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UP = 3  # calls before the recording, in which lazy initialisation and compilation happen


class Captured:
    """A function without arguments; on a GPU its kernels are recorded as a CUDA graph, which further calls launch.

    Launching the kernels of a small network one by one takes several times as long as they do.

    Args:
        function: launches the same kernels on the same tensors at every call, and waits for none of them.
        generator: of the function's random numbers, on its device.
    """

    def __init__(self, function: Callable[[], None], generator: torch.Generator) -> None:
        """Record nothing yet."""
        self._function, self._generator = function, generator
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> None:
        """Do what the function does."""
        if self._generator.device.type != "cuda":
            return self._function()
        if self._graph is None:
            self._calls += 1
            if self._calls <= _WARM_UP:
                return self._on_another_stream()
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self._generator)
            with torch.cuda.graph(self._graph):  # records, and runs nothing
                self._function()
        self._graph.replay()

    def _on_another_stream(self) -> None:
        """Call the function on a side stream, as CUDA requires before a recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._function()
        torch.cuda.current_stream().wait_stream(stream)


def adam(parameters: Sequence[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Adam that `Captured` can record: on a GPU its rate is a tensor, which `set_learning_rate` changes in place."""
    cuda = parameters[0].is_cuda
    rate = torch.tensor(learning_rate, device=parameters[0].device) if cuda else learning_rate
    return torch.optim.Adam(parameters, lr=rate, fused=True, capturable=cuda)


def set_learning_rate(optimiser: torch.optim.Adam, learning_rate: float) -> None:
    """Set the rate of an optimiser made by `adam`."""
    (group,) = optimiser.param_groups
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(learning_rate)
    else:
        group["lr"] = learning_rate
