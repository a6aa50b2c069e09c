"""Code that all methods of this package share: training, saving and loading."""

import json
import math
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dmemm.config import EpisodesConfig, MethodConfig
from dmemm.data.normaliser import Normaliser
from dmemm.data.raw import RawData, read_raw
from dmemm.data.segments import fit_normalisers
from dmemm.device import choose_device
from dmemm.errors import UserError
from dmemm.files import write_csv, write_json
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.models.storage import load_artifact, rebuilding, save_weights
from dmemm.tasks import Task

Array = NDArray[np.float32]


CURVE_ROWS = 100  # the most rows of a loss curve


class LossCurve:
    """The mean loss of each interval of a training. Sums stay on the device until an interval ends.

    Args:
        steps: number of training steps.

    Attributes:
        rows: one row an interval: its last `step`, and `total`, its mean loss.
    """

    def __init__(self, steps: int) -> None:
        """Start before the first step."""
        self.rows: list[dict[str, float]] = []
        self._steps, self._interval = steps, math.ceil(steps / CURVE_ROWS)
        self._step, self._losses = 0, torch.zeros(())

    def add(self, loss: Tensor) -> None:
        """Add the loss of the next step."""
        self._step += 1
        self._losses = self._losses.to(loss.device) + loss.detach()
        if self._step % self._interval == 0 or self._step == self._steps:
            count = self._step - (self.rows[-1]["step"] if self.rows else 0)
            self.rows.append({"step": self._step, "total": float(self._losses) / count})
            self._losses = torch.zeros_like(self._losses)


class Policy(nn.Module):
    """Base class of the methods' policies: the weights, and how they act on a batch of environments.

    Args:
        task: the task to act in.
        header: JSON values that `__init__` needs to rebuild the module.

    Attributes:
        plans_made: number of actions decided so far, in all environments together.
        losses: loss curve of the training, rows of `step` and `total`; empty if the method has no single loss.
        center, scale: shape (Da + Ds,), the normaliser of transitions `[action, observation]`, as in the diffusion
            model.
        low, high: shape (Da,), the smallest and largest normalised action in the data.
    """

    takes_steps = True  # whether training takes `method_steps` steps
    center: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Create the normalisers; `of` or loading fills in their values."""
        super().__init__()
        self.task, self.header = task, dict(header)
        self.action_dim, self.observation_dim = header["action_dim"], header["observation_dim"]
        self.plans_made = 0
        self.losses: list[dict[str, float]] = []
        self.register_buffer("center", torch.zeros(self.action_dim + self.observation_dim))
        self.register_buffer("scale", torch.ones(self.action_dim + self.observation_dim))
        self.register_buffer("low", torch.zeros(self.action_dim))
        self.register_buffer("high", torch.zeros(self.action_dim))

    @classmethod
    def of(cls, task: Task, raw: RawData, **header: Any) -> Self:
        """Create a policy and fit its normalisers to the data."""
        dims = {"action_dim": raw.actions.shape[1], "observation_dim": raw.observations.shape[1]}
        policy = cls(task, {"task": task.name, "data": raw.digest, **dims, **header})
        actions, observations = fit_normalisers(raw, task)
        both = Normaliser.join(actions, observations)
        policy.center.copy_(torch.as_tensor(both.center))
        policy.scale.copy_(torch.as_tensor(both.scale))
        policy.low.copy_(torch.as_tensor(actions.low))
        policy.high.copy_(torch.as_tensor(actions.high))
        return policy

    @property
    def size(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def start(self, seed: int) -> None:
        """Seed the random draws and prepare to act; called once after loading."""

    def reset(self) -> None:
        """Forget the state of the environments, before new episodes."""

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """Return actions for a batch of environments, everything normalised.

        Args:
            observations: shape (batch, Ds).
            goals: shape (batch, goal_dim), or None.
            running: shape (batch,); the actions of the other environments are ignored.

        Returns:
            Shape (batch, Da).
        """
        raise NotImplementedError

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """Return new plans `[actions, states]`, shape (batch, horizon, Da + Ds), with inputs as for `decide`.

        Only methods that plan states define it.
        """
        raise NotImplementedError

    def plan_from(self, observations: Array, goals: Array | None) -> Array:
        """Return plans (batch, horizon, Da + Ds) from observations (batch, Ds), in the environment's units."""
        with torch.no_grad():
            plans = self.plan(self.normalise(observations), self.normalise_goals(goals))
        values: Array = (plans * self.scale + self.center).cpu().numpy()
        return values

    def act(self, observations: Array, goals: Array | None = None, running: NDArray[np.bool_] | None = None) -> Array:
        """Return the next action in each environment, like `dmemm.planning.planner.Planner.act`.

        Raises:
            UserError: an observation or an action is not finite, or the observations do not fit the policy's task.
        """
        if observations.shape[1:] != (self.observation_dim,):
            raise UserError(
                f"observations have shape {observations.shape}, not (batch, {self.observation_dim}) as in "
                f"{self.header['task']}, on which the method was trained; use that task"
            )
        running = np.ones(len(observations), dtype=bool) if running is None else running
        with torch.no_grad():
            decided = self.decide(self.normalise(observations), self.normalise_goals(goals), running)
        actions = decided * self.scale[: self.action_dim] + self.center[: self.action_dim]
        chosen = np.where(running[:, None], actions.cpu().numpy(), 0).astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(chosen).all(axis=1))
        if len(wrong):
            raise UserError(f"the action for observation {wrong[0]} is not finite; train the method again")
        self.plans_made += int(running.sum())
        return chosen

    def normalise(self, observations: Array) -> Tensor:
        """Normalise observations (..., Ds) of the environment; the result is on the policy's device."""
        values = torch.as_tensor(np.asarray(observations, np.float32), device=self.center.device)
        return (values - self.center[self.action_dim :]) / self.scale[self.action_dim :]

    def normalise_actions(self, actions: Array) -> Tensor:
        """Normalise actions (..., Da) of the environment; the result is on the policy's device."""
        values = torch.as_tensor(actions, device=self.center.device)
        return (values - self.center[: self.action_dim]) / self.scale[: self.action_dim]

    def normalise_goals(self, goals: Array | None) -> Tensor | None:
        """Normalise goals (n, goal_dim) of the environment; return None if the task has no goal."""
        if not self.task.has_goal:
            return None
        assert goals is not None
        first = slice(self.action_dim, self.action_dim + self.task.goal_dim)
        return (torch.as_tensor(goals, device=self.center.device) - self.center[first]) / self.scale[first]


def termination_penalty(task: Task) -> float:
    """Return the reward of a termination in a model: the task's own `termination_penalty`, else Diffuser's."""
    return float(task.parameters.get("termination_penalty", -100.0))


def train(
    method: Method,
    task: Task,
    config: MethodConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
    curve: Path,
    report: Path,
) -> None:
    """Run the stage: train a policy on the raw data; write its weights, loss curve, steps and training time.

    Raises:
        UserError: the raw data cannot be read, or the weights are not finite.
    """
    torch.manual_seed(seed)
    start = time.perf_counter()
    raw = read_raw(inputs.need("raw"))
    policy: Policy = import_module(method.implementation).train(task, raw, config, seed, choose_device())
    if not all(bool(parameter.isfinite().all()) for parameter in policy.parameters()):
        raise UserError(f"{task.name}: the weights of {method.name} are not finite; look for outliers in the data")
    seconds = time.perf_counter() - start
    save_weights(output, policy.state_dict(), {"kind": method.name, **policy.header})
    write_csv(curve, ("step", "total", "wdiff", "tr", "rd"), policy.losses)  # `dvc plots` asks every curve for these
    steps = config.method_steps if policy.takes_steps else None
    figures = {"steps": steps, "parameters": policy.size, "seconds": round(seconds, 1)}
    write_json(report, {"task": task.name, "variant": method.name, "seed": seed, **figures})
    print(f"train {task.name} {method.name} seed {seed}: {json.dumps(figures)} → {output}")


def load(method: Method, task: Task, config: EpisodesConfig, seed: int, inputs: Inputs) -> Policy:
    """Return a trained policy, ready to act.

    Raises:
        UserError: the file is missing or damaged, or belongs to another method or an earlier version.
    """
    path = inputs.need("model")
    tensors, header = load_artifact(path, method.name)
    with rebuilding(path):
        policy: Policy = import_module(method.implementation).Policy(task, header)
        policy.load_state_dict(tensors)
        policy.requires_grad_(False).eval().to(choose_device())
        policy.start(seed)
    return policy
