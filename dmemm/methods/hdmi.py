"""HDMI (Li et al., 2023): subgoals by a goal diffuser, states in between by a trajectory diffuser, inverse dynamics.

The levels are those of `hd`, with states only. The upper level is a transformer. With a goal, it learns shortest
routes through a graph of the data; without one, it is conditioned on a return, classifier-free (Ho and Salimans, 2022).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from torch import Tensor

from dmemm.config import MethodConfig
from dmemm.data.normaliser import Normaliser
from dmemm.data.raw import RawData, episode_slices
from dmemm.data.segments import fit_normalisers, make_segments
from dmemm.data.windows import Batch, Windows
from dmemm.diffusion.guidance import Guide, sample_plans
from dmemm.diffusion.model import DiffusionModel
from dmemm.methods import base, hd, levels
from dmemm.methods.behaviour import GaussianPolicy, imitate
from dmemm.models.dit import PlanDit
from dmemm.tasks import Task
from dmemm.training.mechanisms import returns_to_go

_TRAINING = levels.TRAINING
_ASKED = 0.99  # the target return, as a quantile of the data's returns to go
_DROPPED = 0.25  # share of the training plans whose return is dropped
_STRENGTH = 1.2  # of the classifier-free guidance
_WIDTH, _BLOCKS = 128, 3  # of the transformer
_INVERSE_WIDTH = 256
_GOALS, _STARTS = 64, 64  # routes of the graph: number of goals, and of starts for each
_NEIGHBOURS = 16  # edges of a state, in addition to the one to its successor
_KNOWN = 2  # entries appended to an upper state: the return to go, and whether there is one


class GoalDiffuser(DiffusionModel):
    """The upper level without a goal: plans of `[state, return to go, 0]`, or `[state, 0, -1]` without a return."""

    def estimate(self, tau: Tensor, k: Tensor, values: Tensor) -> Tensor:
        """See `DiffusionModel`; extrapolate from the estimate without the return to the one with it by `_STRENGTH`."""
        free = without_return(tau)
        both = (self._evaluate or self.network)(torch.cat([free, tau]), torch.cat([k, k]))
        plain, asked = both.chunk(2)
        sample = plain + _STRENGTH * (asked - plain)
        return self.conditioning.apply(sample.clamp(self.low, self.high), values)


def without_return(tau: Tensor) -> Tensor:
    """Drop the return from the first step of normalised plans (batch, horizon, Ds + 2).

    The returns of later steps, which are planned too, stay: docs/methods.md.
    """
    free = tau.clone()
    free[:, 0, -_KNOWN], free[:, 0, -1] = 0.0, -1.0
    return free


class Policy(hd.Policy):
    """Both levels, the inverse dynamics, and the target return."""

    asked: Tensor

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build all of them."""
        super().__init__(task, header)
        self.inverse = GaussianPolicy(2 * self.observation_dim, self.action_dim, _INVERSE_WIDTH)
        self.register_buffer("asked", torch.zeros(()))

    def build_levels(self) -> None:
        """See `hd.Policy`; no value model is needed."""
        kind, dim = DiffusionModel, self.observation_dim
        if not self.task.has_goal:
            kind, dim = GoalDiffuser, dim + _KNOWN
        steps = self.horizon // self.stride + 1
        upper = {"action_dim": 0, "observation_dim": dim, "horizon": steps, "end_dim": self.task.end_dim}
        self.upper = self.level(_TRAINING, PlanDit(dim, _WIDTH, _BLOCKS), kind, **upper)
        lower = {"action_dim": 0, "horizon": self.stride + 1, "end_dim": self.observation_dim}
        self.lower = self.level(_TRAINING, **lower)

    def subgoals(self, s: Tensor, goals: Tensor | None, candidates: int = 1) -> Tensor:
        """See `hd.Policy`; without a goal, draw one candidate, conditioned on the target return."""
        if goals is not None:
            return super().subgoals(s, goals)
        values = torch.zeros(len(s), self.upper.horizon, s.shape[1] + _KNOWN, device=s.device)
        values[:, 0, : s.shape[1]], values[:, 0, -_KNOWN] = s, self.asked
        return sample_plans(self.upper, Guide(0), values, self.planning, self.generator)[..., : s.shape[1]]

    def between(self, first: Tensor, last: Tensor) -> Tensor:
        """See `hd.Policy`; the inverse dynamics give the actions, with zeros after the last state."""
        states = super().between(first, last)
        actions = self.inverse(torch.cat([states[:, :-1], states[:, 1:]], dim=-1)).clamp(self.low, self.high)
        return torch.cat([torch.nn.functional.pad(actions, (0, 0, 0, 1)), states], dim=-1)


class _WithReturns(Windows):
    """Windows of states and returns, some with the return dropped."""

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        batch = super().draw(count, generator)
        dropped = torch.rand(count, generator=generator, device=batch.tau.device) < _DROPPED
        blank = batch.tau.clone()
        blank[..., -_KNOWN], blank[..., -1] = 0.0, -1.0  # a tensor from the host cannot be in a CUDA graph
        return dataclasses.replace(batch, tau=torch.where(dropped[:, None, None], blank, batch.tau))


def returns(raw: RawData, penalty: float) -> NDArray[np.float64]:
    """Return each step's discounted return to go (N,); after a cut, an episode continues with its mean reward."""
    means = [raw.rewards[start:end].mean() for start, end in episode_slices(raw.ended)]
    discount = levels.VALUE.discount
    return returns_to_go(raw, discount, penalty, np.array(means, np.float64) / (1 - discount))


def shortest_routes(raw: RawData, s: NDArray[np.float32], steps: int, seed: int) -> RawData:
    """Extract subgoals: return episodes along shortest routes between states of the data, without actions or rewards.

    The graph has an edge from each state to its successor, of cost 1, and to its nearest neighbours, of cost 1 plus
    their distance in mean steps of the data.

    Args:
        raw: the data.
        s: normalised observations, shape (N, Ds).
        steps: the largest cost of a route.
        seed: seed of the draw of starts and goals.
    """
    count, rng = len(s), np.random.default_rng(seed)
    step = np.flatnonzero(~raw.ended[:-1])
    stride = max(float(np.linalg.norm(s[step + 1] - s[step], axis=1).mean()), 1e-6)
    away, near = cKDTree(s).query(s, k=min(_NEIGHBOURS + 1, count))
    here = np.repeat(np.arange(count), near.shape[1])
    others = here != near.ravel()
    tails = np.concatenate([here[others], step])
    heads = np.concatenate([near.ravel()[others], step + 1])
    costs = np.concatenate([1 + away.ravel()[others] / stride, np.ones(len(step))])
    # Keep the cheaper of two edges between the same states; `coo_array` would add up their costs.
    order = np.lexsort((costs, heads, tails))
    first = np.unique(np.stack([tails[order], heads[order]]), axis=1, return_index=True)[1]
    chosen = order[first]
    backwards = coo_array((costs[chosen], (heads[chosen], tails[chosen])), shape=(count, count)).tocsr()
    routes = []
    for goal in rng.integers(count, size=_GOALS):
        distance, following = dijkstra(backwards, indices=goal, limit=steps, return_predecessors=True)
        starts = np.flatnonzero(np.isfinite(distance) & (distance > 0))
        for start in rng.choice(starts, _STARTS) if len(starts) else ():
            route = [int(start)]
            while route[-1] != goal:
                route.append(int(following[route[-1]]))
            routes.append(np.array(route))
    index = np.concatenate(routes)
    ends = np.cumsum([len(route) for route in routes]) - 1
    after = raw.observations[np.roll(index, -1)]
    after[ends] = raw.next_observations[index[ends]]
    over, zeros = np.isin(np.arange(len(index)), ends), np.zeros(len(index), bool)
    return dataclasses.replace(
        raw, observations=raw.observations[index], actions=raw.actions[index, :0],
        rewards=np.zeros(len(index), np.float32), terminals=zeros, timeouts=over, next_observations=after,
    )  # fmt: skip


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train both levels and the inverse dynamics, `method_steps` steps each."""
    policy = Policy.of(task, raw)
    generator = torch.Generator().manual_seed(seed)
    s, a = policy.normalise(raw.observations), policy.normalise_actions(raw.actions)
    pairs = torch.cat([s, policy.normalise(raw.next_observations)], dim=1)[torch.as_tensor(raw.has_successor)]
    imitate(policy.inverse, pairs, a[torch.as_tensor(raw.has_successor)], config.method_steps, generator)
    states = dataclasses.replace(raw, actions=raw.actions[:, :0])
    kind = Windows if task.has_goal else _WithReturns
    if task.has_goal:
        plans = shortest_routes(raw, s.numpy(), policy.horizon, seed)
    else:
        to_go = returns(raw, base.termination_penalty(task))
        known = np.stack([to_go, np.ones_like(to_go)], axis=1).astype(np.float32)
        plans = dataclasses.replace(states, observations=np.concatenate([raw.observations, known], axis=1))
    segments = make_segments(plans, task, policy.horizon + 1, weight_floor=1.0)
    if task.has_goal:
        segments = dataclasses.replace(segments, normaliser=Normaliser.join(*fit_normalisers(states, task)))
    else:
        asked = np.quantile(to_go, _ASKED) - segments.normaliser.center[-_KNOWN]
        policy.asked.fill_(float(asked / segments.normaliser.scale[-_KNOWN]))
    policy.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    windows = kind(plans, segments, task, device, policy.stride)
    upper = levels.fit(policy.upper, windows, _TRAINING, config, generator, "hdmi upper")
    windows = Windows(states, levels.whole_windows(states, task, policy.stride + 1, "hdmi"), task, device)
    lower = levels.fit(policy.lower, windows, _TRAINING, config, generator, "hdmi lower")
    policy.losses = levels.added(upper, lower)
    return policy
