"""Offline RL by d3rlpy: its algorithms are trained on the same raw data and their policies stored as ONNX graphs.

d3rlpy is installed in an environment of its own (`make methods`). `dmemm train` switches to it by itself.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_slices
from dmemm.envs import at_goal
from dmemm.errors import UserError
from dmemm.methods import base
from dmemm.progress import progress
from dmemm.tasks import Task


class Policy(base.Policy):
    """An ONNX graph from observations, with the goal appended if there is one, to actions.

    The graph's actions are scaled from the data's range to [-1, 1]. Its observations are in the environment's units,
    or normalised if the method's authors do so.

    Attributes:
        graph: uint8, the bytes of the ONNX file.
    """

    inputs: tuple[str, ...] = ("observations",)  # of the graph
    normalised = False  # whether the graph takes normalised observations
    graph: Tensor

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Allocate the graph; `start` reads it."""
        super().__init__(task, header)
        self.register_buffer("graph", torch.zeros(header["graph_bytes"], dtype=torch.uint8))

    @property
    def size(self) -> int:
        """Number of trained parameters."""
        return self.header["parameters"]

    def start(self, seed: int) -> None:
        """Read the graph and seed its random operators (BCQ and BEAR draw actions and take the best)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # the exception says what is wrong with a damaged graph
        onnxruntime.set_seed(seed)
        content = self.graph.cpu().numpy().tobytes()
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own types
            raise ValueError(f"its graph: {' '.join(str(error).split())}") from error
        names = tuple(node.name for node in self.session.get_inputs())
        if names != self.inputs:
            raise ValueError(f"its graph takes {', '.join(names)}, not {', '.join(self.inputs)}")

    def run(self, **inputs: NDArray[Any]) -> Tensor:
        """Run the graph; return its actions, normalised like the policy's, shape (batch, Da).

        Raises:
            UserError: the graph does not take the inputs, or gives no actions for them.
        """
        batch = len(next(iter(inputs.values())))
        try:
            (actions,) = self.session.run(None, inputs)
            if actions.shape != (batch, self.action_dim):
                raise ValueError(f"actions of shape {actions.shape}, not {(batch, self.action_dim)}")
        except Exception as error:  # onnxruntime raises its own types
            reason = " ".join(str(error).split())
            raise UserError(f"the policy's graph gives no actions ({reason}); train the method again") from error
        share = (torch.as_tensor(actions, device=self.low.device) + 1) / 2
        return self.low + share * (self.high - self.low)

    def environment(self, observations: Tensor, goals: Tensor | None) -> NDArray[np.float32]:
        """Return the graph's input for normalised observations (batch, Ds) and goals: (batch, Ds or Ds + goal_dim)."""
        parts = observations if goals is None else torch.cat([observations, goals], dim=-1)
        if not self.normalised:
            columns = observed_columns(self)
            parts = parts * self.scale[columns] + self.center[columns]
        return parts.float().cpu().numpy()

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        return self.run(observations=self.environment(observations, goals))


def observed_columns(policy: base.Policy) -> list[int]:
    """Return the normaliser's columns for an observation, with the goal appended if there is one."""
    first, goal_dim = policy.action_dim, policy.task.goal_dim
    return [*range(first, first + policy.observation_dim), *range(first, first + goal_dim)]


def relabelled(raw: RawData, task: Task, scale: NDArray[np.float32], seed: int) -> dict[str, NDArray[Any]]:
    """Convert episodes to d3rlpy's format. With a goal, take each twice: towards its own end and a random place.

    d3rlpy needs every episode to end, so the data's last transition always counts as an end.

    Args:
        raw: the data.
        task: says whether there are goals.
        scale: the normaliser's scale of places, shape (goal_dim,).
        seed: seed of the draw of places.

    Returns:
        `observations` (n, Ds or Ds + goal_dim), `actions`, `rewards`, `terminals`, `timeouts`; n is N, or 2 N with
        goals. With goals, the reward is 1 where the next observation is at the goal (hindsight, Andrychowicz et al.,
        2017).
    """
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    values = {key: getattr(raw, key) for key in keys}
    values["timeouts"] = raw.timeouts & ~raw.terminals
    values["timeouts"][-1] = not raw.terminals[-1]
    if not task.has_goal:
        return values
    places = raw.next_observations[:, : task.goal_dim]
    slices = episode_slices(raw.ended)
    lengths = slices[:, 1] - slices[:, 0]
    drawn = np.random.default_rng(seed).integers(len(places), size=len(slices))
    copies = []
    for chosen in (slices[:, 1] - 1, drawn):
        goals = np.repeat(places[chosen], lengths, axis=0)
        near = at_goal(task, places, goals, scale)
        observations = np.concatenate([raw.observations, goals], axis=1)
        copies.append({**values, "observations": observations, "rewards": near.astype(np.float32)})
    return {key: np.concatenate([copy[key] for copy in copies]) for key in keys}


def library(seed: int) -> ModuleType:
    """Import d3rlpy, seed it, silence its logs and return it.

    Raises:
        UserError: it is not installed in this environment.
    """
    if find_spec("d3rlpy") is None:
        raise UserError("this method is trained by d3rlpy, which has its own environment; run `make methods`")
    warnings.filterwarnings("ignore", module="gym|torch.jit|torch.onnx")
    import d3rlpy
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    d3rlpy.seed(seed)
    return d3rlpy


def taken_over(
    trained: Any,
    network: Callable[[Any], tuple[nn.Module, dict[str, Tensor]]],
    policy_class: type[Policy],
    task: Task,
    raw: RawData,
    **header: Any,
) -> Policy:
    """Export the policy of a trained d3rlpy algorithm; see `fit`. `header`: additional entries of the policy's."""
    module, examples = network(trained)
    module = module.to(trained.impl.device).eval()
    parameters = list(module.parameters())
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise UserError(f"{task.name}: the weights are not finite; look for outliers in the data")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        # Use the tracing exporter: the other one fails at the distributions' argument checks.
        torch.onnx.export(
            module, tuple(x.to(trained.impl.device) for x in examples.values()), path, dynamo=False,
            input_names=list(examples), dynamic_axes={name: {0: "batch"} for name in examples},
        )  # fmt: skip
        content = path.read_bytes()
    size = sum(p.numel() for p in parameters)
    policy = policy_class.of(task, raw, graph_bytes=len(content), parameters=size, **header)
    policy.graph.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    return policy


def fit(
    algorithm: Callable[[Task, int, NDArray[np.float64]], Any],
    network: Callable[[Any], tuple[nn.Module, dict[str, Tensor]]],
    policy_class: type[Policy],
    task: Task,
    raw: RawData,
    config: MethodConfig,
    seed: int,
    device: torch.device,
) -> Policy:
    """Train an algorithm of d3rlpy and return its policy.

    Args:
        algorithm: (task, steps, the episodes' returns) → d3rlpy's configuration.
        network: the trained algorithm → the module to export, which returns actions, and examples of its inputs.
        policy_class: class of the returned policy.
        task: the task.
        raw: the task's data.
        config: has `method_steps`.
        seed: seed of all random draws.
        device: device to train on.

    Raises:
        UserError: d3rlpy is not installed here, or training has diverged.
    """
    d3rlpy = library(seed)
    bare = base.Policy.of(task, raw)
    low, high = bare.low.numpy(), bare.high.numpy()
    scale, center = bare.scale.numpy(), bare.center.numpy()
    data = relabelled(raw, task, scale[bare.action_dim : bare.action_dim + task.goal_dim], seed)
    normalised = (data["actions"] - center[: bare.action_dim]) / scale[: bare.action_dim]
    if policy_class.normalised:
        columns = observed_columns(bare)
        data["observations"] = (data["observations"] - center[columns]) / scale[columns]
    data["actions"] = (2 * (normalised - low) / np.maximum(high - low, 1e-6) - 1).clip(-1, 1).astype(np.float32)
    ends = np.flatnonzero(data["terminals"] | data["timeouts"])
    returns = np.diff(np.cumsum(data["rewards"], dtype=np.float64)[ends], prepend=0)
    trained = algorithm(task, config.method_steps, returns).create(str(device))
    bar = progress(config.method_steps, f"{type(trained).__name__} {task.name} seed {seed}")
    losses: list[dict[str, float]] = []

    def log(epoch: int, step: int, name: str, value: float) -> None:
        if name == "loss":  # of imitation; actor-critics have several losses and no total
            losses.append({"step": step, "total": value})

    logger = d3rlpy.logging.NoopAdapter()
    logger.write_metric = log
    epochs = next(n for n in range(base.CURVE_ROWS, 0, -1) if config.method_steps % n == 0)
    trained.fit(
        d3rlpy.dataset.MDPDataset(**data), n_steps=config.method_steps,
        n_steps_per_epoch=config.method_steps // epochs, show_progress=False,
        logger_adapter=SimpleNamespace(create=lambda *_: logger), callback=lambda *_: bar.update(),
    )  # fmt: skip
    bar.close()
    policy = taken_over(trained, network, policy_class, task, raw, best_return=float(returns.max()))
    policy.losses = losses
    return policy


class _Best(nn.Module):
    """The best action according to one of d3rlpy's actor-critics."""

    def __init__(self, trained: Any) -> None:
        super().__init__()
        self.impl = trained.impl
        modules = (getattr(self.impl.modules, name) for name in self.impl.modules.__dataclass_fields__)
        self.parts = nn.ModuleList(module for module in modules if isinstance(module, nn.Module))

    def forward(self, observations: Tensor) -> Tensor:
        return self.impl.predict_best_action(observations)


def best_actions(trained: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return what to export of an actor-critic: the argument `network` of `fit`."""
    return _Best(trained), {"observations": torch.zeros(2, *trained.impl.observation_shape)}


def actor_critic(
    algorithm: Callable[[Task, int, NDArray[np.float64]], Any], policy_class: type[Policy] = Policy
) -> Callable[[Task, RawData, MethodConfig, int, torch.device], Policy]:
    """Return the function `train` of a method; the arguments are those of `fit`."""
    return partial(fit, algorithm, best_actions, policy_class)
