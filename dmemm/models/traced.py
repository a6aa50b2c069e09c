"""A trained network's evaluation on a CPU, without Python between its operations."""

import warnings
from collections import Counter

import torch
from torch import Tensor, nn

_MANY = 32  # plans from which products in bfloat16 repay the conversions; a power of 2, as no graph serves both
_WORTH = 100  # evaluations from which tracing, half a second to a second, is soon repaid


class Traced:
    """Evaluate a frozen network by TorchScript: with the same results, and in half the time for one plan.

    `torch.compile` gains less on a CPU, takes a minute, and needs a C++ compiler.

    Args:
        network: (plans, ...), (plans,) → (plans, ...), for any number of plans; frozen, in `eval` mode.
        many: what evaluates `_MANY` plans or more; the same network by default.
    """

    def __init__(self, network: nn.Module, many: nn.Module | None = None) -> None:
        """Start without any graph."""
        self._network, self._many = network, many or network
        self._graphs: dict[int, torch.jit.ScriptModule] = {}
        self._calls: Counter[int] = Counter()

    def __call__(self, tau: Tensor, k: Tensor) -> Tensor:
        """Evaluate the network; its shapes."""
        # A graph serves any number of plans; its products are those that are fast for about as many as were traced.
        size = len(tau).bit_length()
        if (graph := self._graphs.get(size)) is not None:
            return graph(tau, k)
        network = self._many if len(tau) >= _MANY else self._network
        self._calls[size] += 1
        if self._calls[size] == _WORTH:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its deprecation, and of branches that depend on the size
                self._graphs[size] = torch.jit.freeze(torch.jit.trace(network, (tau, k), check_trace=False))
        return network(tau, k)
