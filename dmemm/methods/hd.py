"""Hierarchical Diffuser with dense actions (HD-DA; Chen et al., 2024): plans of every n-th state, filled in by others.

Both levels are Diffuser's U-Net. A step of the upper level is a state with the n actions that follow it; the lower
level makes the n steps between two of its states. Without a goal the upper level is guided by a value model, and of
several of its plans the best by it is taken.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import EvaluateConfig, MethodConfig, TrainConfig, ValueConfig
from dmemm.data.raw import RawData, episode_slices
from dmemm.data.segments import Segments, make_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.diffusion.outcome import Outcome
from dmemm.errors import UserError
from dmemm.methods import base
from dmemm.models.mechanisms import ValueModel
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.terminations import termination
from dmemm.training.mechanisms import fit_value
from dmemm.training.train import gradient_step, new_state

_HORIZONS = {"umaze": 128, "medium": 256, "large": 384}  # steps of a plan; DMEMM's and Diffuser's
_HORIZON = 32
_STRIDE, _STRIDE_IN_MAZES = 4, 16
_VALUE = ValueConfig(64, 20, 3, discount=0.997, termination_penalty=-100.0)  # width, epochs, patience
_TRAINING = TrainConfig(
    lambda_tr=0.0, lambda_rd=0.0, reward_loss=False, diffusion_steps=20, network="unet", mlp_width=0, mlp_blocks=0,
    unet_width=32, unet_mults=(1, 2, 4), train_steps=1, batch_size=32, learning_rate=1e-3, ema_decay=0.995,
    first_action_weight=1.0, predict="sample", denoise="tweedie", modulation_weight="uniform", weighting=False,
)  # fmt: skip
_CANDIDATES = 8  # plans of the upper level
PLANNING = EvaluateConfig(
    objective="value", discount=_VALUE.discount, termination_penalty=_VALUE.termination_penalty, veto=0.0, alpha=0.001,
    lambda_guide=0.0, episodes=1, candidates=1, replan_every=1, t_stopgrad=1, sampling_steps=0, warm_start=0,
    execute="actions",
)  # fmt: skip


class Policy(base.Policy):
    """Two diffusion models; a plan to a goal is followed to its end (in mazes its states), others are made anew."""

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build both levels."""
        super().__init__(task, header)
        self.stride = _STRIDE_IN_MAZES if task.is_maze else _STRIDE
        self.horizon = _HORIZONS.get(task.body, _HORIZON)
        self.value = ValueModel(self.observation_dim, 0, 1, _VALUE.mechanism_width)
        self.build(choose_device())
        self.reset()

    def build(self, device: torch.device) -> None:
        """Build both levels."""
        self.upper = DiffusionModel(self.upper_sizes(self.stride * self.action_dim), device)
        self.lower = DiffusionModel(self.lower_sizes(self.action_dim), device)
        self.generator = torch.Generator(device)

    def upper_sizes(self, action_dim: int) -> dict[str, Any]:
        """The header of the upper level, whose steps have so many actions."""
        horizon = self.horizon // self.stride + 1
        return self._sizes(action_dim=action_dim, horizon=horizon, end_dim=self.task.end_dim)

    def lower_sizes(self, action_dim: int) -> dict[str, Any]:
        """The header of the lower level, likewise; both ends of its plans are given."""
        return self._sizes(action_dim=action_dim, horizon=self.stride + 1, end_dim=self.observation_dim)

    def _sizes(self, **sizes: int) -> dict[str, Any]:
        names = ("diffusion_steps", "predict", "network", "unet_width", "unet_mults")
        config = {name: getattr(_TRAINING, name) for name in names}
        return {**sizes, **config, "observation_dim": self.observation_dim}

    def start(self, seed: int) -> None:
        """Seed the plans' noise, and make both levels fast."""
        self.generator.manual_seed(seed)
        for model in (self.upper, self.lower):
            model.make_fast()

    def reset(self) -> None:
        """Forget the plans."""
        self.plans, self.age = torch.zeros(0), 0

    def subgoals(self, s: Tensor, goals: Tensor | None, candidates: int = 1) -> Tensor:
        """The upper level's plans from states (batch, Ds): states, shape (batch, horizon / stride + 1, Ds).

        Without a goal the best of several candidates is taken.
        """
        model, outcome = self.upper, None
        values = torch.zeros(len(s), model.horizon, model.center.shape[0], device=s.device)
        values[:, 0, model.action_dim :] = s
        if goals is not None:
            goal = slice(model.action_dim, model.action_dim + self.task.goal_dim)
            # In mazes at rest: the other given entries of the end are velocities.
            values[:, -1] = -model.center / model.scale
            values[:, -1, goal] = goals
        else:
            ended = termination(self.task, self.center[self.action_dim :], self.scale[self.action_dim :])
            penalty = base.termination_penalty(self.task)
            outcome = Outcome("value", None, self.value, termination_penalty=penalty, ended=ended)
        guide = Guide(model.action_dim, outcome)
        repeated = values.repeat_interleave(candidates, dim=0)
        tau = sample_plans(model, guide, repeated, PLANNING, self.generator)
        best = guide.merit(tau).view(-1, candidates).argmax(dim=1)
        row = torch.arange(len(s), device=s.device)
        return tau.view(-1, candidates, *tau.shape[1:])[row, best][..., model.action_dim :]

    def between(self, first: Tensor, last: Tensor) -> Tensor:
        """The lower level's plans between states (n, Ds): shape (n, stride + 1, Da + Ds)."""
        dim = self.lower.action_dim
        values = torch.zeros(len(first), self.stride + 1, self.lower.center.shape[0], device=first.device)
        values[:, 0, dim:], values[:, -1, dim:] = first, last
        return sample_plans(self.lower, Guide(dim), values, PLANNING, self.generator)

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        if not self.task.has_goal:
            subgoals = self.subgoals(observations, goals, _CANDIDATES)
            return self.between(subgoals[:, 0], subgoals[:, 1])[:, 0, : self.action_dim]
        # A plan ends at the goal when it is over: replanned at every step, it would never get there.
        if len(self.plans) != len(observations) or self.age == self.horizon:
            self.plans, self.age = self.plan(observations, goals), 0
        self.age += 1
        if not self.task.is_maze:
            return self.plans[:, self.age - 1, : self.action_dim]
        away = (self.plans[:, self.age, self.action_dim :] - observations) * self.scale[self.action_dim :]
        scale, center = self.scale[: self.action_dim], self.center[: self.action_dim]
        return (away[:, :2] + away[:, 2:] - center) / scale  # a = Δposition + Δvelocity

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """A plan of the upper level, with all that the lower level puts between its states."""
        return self.whole(self.subgoals(observations, goals))

    def whole(self, subgoals: Tensor) -> Tensor:
        """Plans through subgoals (batch, horizon / stride + 1, Ds): shape (batch, horizon + 1, Da + Ds)."""
        pieces = self.between(subgoals[:, :-1].flatten(0, 1), subgoals[:, 1:].flatten(0, 1))
        steps = pieces[:, :-1].reshape(len(subgoals), self.horizon, -1)
        return torch.cat([steps, pieces.view(len(subgoals), -1, *pieces.shape[1:])[:, -1, -1:]], dim=1)


class Sparse(Windows):
    """Windows of every n-th step."""

    def __init__(self, raw: RawData, segments: Segments, task: Task, device: torch.device, stride: int) -> None:
        """See `Windows`; `stride` is n."""
        super().__init__(raw, segments, task, device)
        self._offsets = torch.arange(0, segments.horizon, stride, device=device)


def with_next_actions(raw: RawData, count: int) -> RawData:
    """The same steps, each with the actions of its next `count` steps; an episode's last action is repeated."""
    slices = episode_slices(raw.ended)
    ends = np.repeat(slices[:, 1], slices[:, 1] - slices[:, 0])[:, None]
    steps = np.arange(len(raw.rewards))[:, None] + np.arange(count)
    index = np.minimum(steps, ends - 1)
    return dataclasses.replace(raw, actions=raw.actions[index].reshape(len(raw.rewards), -1))


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Both levels by Diffuser's loss, `method_steps` each; the value by least squares."""
    policy = Policy.of(task, raw)
    blocks = with_next_actions(raw, policy.stride)
    if not task.has_goal:
        value = dataclasses.replace(_VALUE, termination_penalty=base.termination_penalty(task))
        policy.value.load_state_dict(fit_value(task, raw, value, seed)[0].state_dict())
    policy.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    segments = make_segments(blocks, task, policy.horizon + 1, weight_floor=1.0)
    windows = Sparse(blocks, segments, task, device, policy.stride)
    upper = fit_level(policy.upper, windows, segments, config, generator, "hd upper")
    segments = lower_segments(raw, task, policy.stride, "hd")
    lower = fit_level(policy.lower, Windows(raw, segments, task, device), segments, config, generator, "hd lower")
    policy.losses = joined(upper, lower)
    return policy


def lower_segments(raw: RawData, task: Task, stride: int, name: str) -> Segments:
    """The windows of the lower level of the method `name`.

    Raises:
        UserError: no episode is as long as one.
    """
    segments = make_segments(raw, task, stride + 1, weight_floor=1.0)
    if not task.has_goal:  # the end of a window is given to the network, so it must have happened
        segments = dataclasses.replace(segments, held_out=segments.lengths <= stride)
    if segments.held_out.all():
        raise UserError(f"{task.name}: no episode lasts {stride + 1} steps; {name} needs longer ones")
    return segments


def joined(upper: list[dict[str, float]], lower: list[dict[str, float]]) -> list[dict[str, float]]:
    """The loss curve of both levels together."""
    return [{**a, "total": a["total"] + b["total"]} for a, b in zip(upper, lower, strict=True)]


def fit_level(
    model: DiffusionModel,
    windows: Windows,
    segments: Segments,
    config: MethodConfig,
    generator: torch.Generator,
    name: str,
) -> list[dict[str, float]]:
    """Train a level; return the rows of its loss curve."""
    model.set_normaliser(segments.normaliser)
    objective = Objective(dataclasses.replace(_TRAINING, train_steps=config.method_steps), model, None, None)
    state = new_state(objective, generator)
    curve = base.LossCurve(config.method_steps)
    for _ in progress(range(config.method_steps), name):
        gradient_step(objective, windows, state)
        curve.add(state.sums.pop("total"))
    if not state.is_finite():
        raise UserError(f"{name}: the weights are not finite; look for outliers in the data")
    with torch.no_grad():
        torch._foreach_copy_(state.parameters, state.average)
    return curve.rows
