"""Trajectory Transformer (Janner et al., 2021): a GPT over discretised trajectories that plans by beam search.

A transition consists of state, action, reward and return to go; each dimension is a token. The value of a beam is the
sum of its expected rewards and the return to go after them. With a goal, which the data's reward ignores, the sequence
begins with the goal and the value of a beam is its likelihood, as in the authors' goal-reaching experiments.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dmemm.config import MethodConfig
from dmemm.data.raw import RawData, episode_bounds, episode_slices
from dmemm.device import mixed_precision
from dmemm.methods import base
from dmemm.models.gpt import Decoding, Gpt
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.training.mechanisms import returns_to_go

# Published values are at the end of each comment; those of planning are for hopper and walker2d.
_BINS = 100  # quantile bins of a dimension: 100
_LENGTH = 4  # transitions of a sequence: 10
_WIDTH, _BLOCKS, _HEADS = 64, 2, 4  # 128, 4, 4
_BATCH = 64  # 256
_LEARNING_RATE = 2e-3  # 6e-4
_WARM_UP = 0.05  # share of the steps; then a cosine to a tenth
_ACTION_WEIGHT = 5.0  # of the actions' loss: 5
_DISCOUNT = 0.99  # 0.99
_HORIZON = 3  # transitions of a plan, fewer than _LENGTH: 15
_BEAMS, _EXPANSION = 8, 2  # beams kept, and continuations tried for each: 128, 2
_LIKELY = 0.9  # actions are drawn from the most likely tokens, which together have this probability: 0.4


class Policy(base.Policy):
    """The model. It plans from the current state alone; the published one also from the last 4 transitions.

    A slot is one dimension of a transition.

    Attributes:
        edges: shape (slots, bins - 1), edges between the bins of each slot, in the units of `transitions`.
        means: shape (slots, bins), means of the data in each bin.
    """

    edges: Tensor
    means: Tensor

    def __init__(self, task: Task, header: Mapping[str, Any]) -> None:
        """Build the layers."""
        super().__init__(task, header)
        self.slots = self.observation_dim + self.action_dim + (0 if task.has_goal else 2)
        self.gpt = Gpt(
            self.slots, _BINS + 1, _LENGTH, task.goal_dim, _WIDTH, _BLOCKS, _HEADS,
            hidden=() if task.has_goal else (self.slots - 1,),
        )  # fmt: skip
        self.register_buffer("edges", torch.zeros(self.slots, _BINS - 1))
        self.register_buffer("means", torch.zeros(self.slots, _BINS))
        self.generator = torch.Generator()

    def start(self, seed: int) -> None:
        """Seed the draws of actions."""
        self.generator = torch.Generator(self.center.device).manual_seed(seed)

    def fit_bins(self, values: Tensor) -> None:
        """Divide the values of each slot (N, slots) into bins of equal counts."""
        known = values.double().cpu().numpy()
        self.edges.copy_(torch.as_tensor(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1], axis=0).T))
        for slot, (tokens, data) in enumerate(zip(self.discretise(values).T.cpu().numpy(), known.T, strict=True)):
            count, total = np.bincount(tokens, minlength=_BINS), np.bincount(tokens, data, _BINS)
            # Equal values leave bins empty; their tokens never occur.
            self.means[slot] = torch.as_tensor(total / np.maximum(count, 1))

    def discretise(self, x: Tensor, first: int = 0) -> Tensor:
        """Return the tokens, int64, of values (n, count) of the slots from `first` on."""
        edges = self.edges[first : first + x.shape[1]].contiguous()
        return torch.searchsorted(edges, x.T.contiguous(), right=True).T

    def reconstruct(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Return the values of tokens (..., count) of the slots from `first` on; an episode's end is the last bin."""
        slots = torch.arange(first, first + tokens.shape[-1], device=tokens.device)
        return self.means[slots, tokens.clamp(max=_BINS - 1)]

    def expected(self, logits: Tensor, slot: int) -> Tensor:
        """Return the mean of a slot under logits (n, bins + 1), shape (n,); an episode's end counts as 0."""
        return logits.softmax(dim=-1)[:, :-1] @ self.means[slot]

    def beam_search(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Continue sequences by beam search and return the best beams.

        Args:
            sequences: tokens, shape (n, count); the last ones are those of a state.

        Returns:
            The tokens that follow the state, shape (n, horizon · slots - Ds), and the beams' values, (n,).
        """
        n, device = len(sequences), sequences.device
        decoding = Decoding(self.gpt, sequences)
        gains = torch.zeros(n, device=device)  # Σ γ^i r_i, or with a goal the log-likelihood
        beams = 1
        for step in range(_HORIZON):
            more = _BEAMS * _EXPANSION // beams
            rows = torch.arange(len(gains), device=device).repeat_interleave(more)
            decoding.select(rows)
            gains = gains[rows]
            for _ in range(self.action_dim):
                token = self._draw(decoding.logits)
                gains = gains + self._likelihood(decoding.logits, token)
                decoding.append(token)
            values = gains
            if not self.task.has_goal:
                reward, value = self.slots - 2, self.slots - 1
                gains = gains + _DISCOUNT**step * self.expected(decoding.logits, reward)
                decoding.append_likeliest()
                values = gains + _DISCOUNT ** (step + 1) * self.expected(decoding.logits, value)
                decoding.append_likeliest()
            kept = values.view(n, -1).topk(_BEAMS, dim=1)
            beams = _BEAMS
            rows = (kept.indices + _BEAMS * _EXPANSION * torch.arange(n, device=device)[:, None]).flatten()
            gains = gains[rows]
            if step == _HORIZON - 1:
                break
            decoding.select(rows)
            for _ in range(self.observation_dim):
                logits = decoding.logits
                gains = gains + self._likelihood(logits, decoding.append_likeliest())
        return decoding.sequences[rows].view(n, _BEAMS, -1)[:, 0, sequences.shape[1] :], kept.values[:, 0]

    def _draw(self, logits: Tensor) -> Tensor:
        """Draw tokens (n,) from the most likely of each row, which together have probability `_LIKELY`."""
        probabilities, order = logits.softmax(dim=-1).sort(dim=-1)
        likely = probabilities * (probabilities.cumsum(dim=-1) >= 1 - _LIKELY)
        drawn = torch.multinomial(likely, 1, generator=self.generator)
        return order.gather(1, drawn)[:, 0]

    def _likelihood(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-likelihood of tokens (n,), shape (n,), or zeros if the task has no goal."""
        if not self.task.has_goal:
            return torch.zeros(len(tokens), device=tokens.device)
        return logits.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]

    def _search(self, observations: Tensor, goals: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the states' tokens (n, Ds) and those of the best beams after them."""
        s = self.discretise(observations)
        prefix = s[:, :0] if goals is None else self.discretise(goals)
        return s, self.beam_search(torch.cat([prefix, s], dim=1))[0]

    def decide(self, observations: Tensor, goals: Tensor | None, running: NDArray[np.bool_]) -> Tensor:
        """See `base.Policy`."""
        index = torch.as_tensor(np.flatnonzero(running), device=observations.device)
        _, found = self._search(observations[index], None if goals is None else goals[index])
        actions = torch.zeros(len(observations), self.action_dim, device=observations.device)
        a = found[:, : self.action_dim]
        # Values that are not finite fall into a bin as well; the added term makes the action not finite too.
        actions[index] = self.reconstruct(a, self.observation_dim) + 0 * observations[index].sum(dim=1, keepdim=True)
        return actions

    def plan(self, observations: Tensor, goals: Tensor | None) -> Tensor:
        """Return the best beams."""
        s, found = self._search(observations, goals)
        tokens = torch.cat([s, found], dim=1).view(len(s), _HORIZON, self.slots)
        values = self.reconstruct(tokens)
        values[:, 0, : self.observation_dim] = observations
        states, actions, _ = values.split([self.observation_dim, self.action_dim, 2 * (not self.task.has_goal)], dim=2)
        return torch.cat([actions, states], dim=2)


def transitions(policy: Policy, raw: RawData) -> Tensor:
    """Return each transition's slots, shape (N, slots): state, action and, without a goal, reward and return to go.

    The reward of a termination is the penalty. The return to go starts at the next step.
    """
    known = [policy.normalise(raw.observations), policy.normalise_actions(raw.actions)]
    if not policy.task.has_goal:
        rewards = np.where(raw.terminals, base.termination_penalty(policy.task), raw.rewards).astype(np.float32)
        beyond = np.zeros(len(episode_slices(raw.ended)))
        penalised = dataclasses.replace(raw, rewards=rewards)
        returns = (returns_to_go(penalised, _DISCOUNT, 0.0, beyond) - rewards) / _DISCOUNT
        known.append(
            torch.as_tensor(np.stack([rewards, returns], axis=1), dtype=torch.float32, device=policy.edges.device)
        )
    return torch.cat(known, dim=1)


class _Sequences:
    """Batches of training sequences, with the weights of their tokens' losses."""

    def __init__(self, policy: Policy, raw: RawData, values: Tensor) -> None:
        device, (_, ends) = values.device, episode_bounds(raw.ended)
        over = values.new_full((1, policy.slots), _BINS, dtype=torch.long)  # marks steps after an episode's end
        self._tokens = torch.cat([policy.discretise(values), over])
        self._ends = torch.as_tensor(ends, device=device)
        # Train on the tokens after a termination, to learn where episodes terminate; after a timeout they are unknown.
        self._terminates = torch.as_tensor(raw.terminals[ends - 1], device=device)
        goals = (
            values.new_zeros(len(values), 0) if not policy.task.has_goal else policy.normalise(raw.next_observations)
        )
        self._goals = policy.discretise(goals[self._ends - 1][:, : policy.task.goal_dim])
        weights = torch.ones(policy.slots, device=device)
        weights[policy.observation_dim : policy.observation_dim + policy.action_dim] = _ACTION_WEIGHT
        self._weights = weights.repeat(_LENGTH)
        self._offsets = torch.arange(_LENGTH, device=device)

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw tokens (batch, prefix + length · slots), and the loss weights of all but the prefix."""
        device = self._tokens.device
        start = torch.randint(len(self._ends), (_BATCH,), generator=generator, device=device)
        index = start[:, None] + self._offsets
        over = index >= self._ends[start, None]
        tokens = self._tokens[torch.where(over, len(self._ends), index)].flatten(1)
        known = (~over | self._terminates[start, None]).repeat_interleave(self._tokens.shape[1], dim=1)
        return torch.cat([self._goals[start], tokens], dim=1), self._weights * known


def _learning_rate(step: int, steps: int) -> float:
    """Return the learning rate relative to its maximum: linear warm-up, then a cosine to a tenth; step 1 is first."""
    start = max(1, round(_WARM_UP * steps))
    return min(step / start, max(0.1, (1 + math.cos(math.pi * (step - start) / max(1, steps - start))) / 2))


def train(task: Task, raw: RawData, config: MethodConfig, seed: int, device: torch.device) -> Policy:
    """Train by maximum likelihood of the data's tokens."""
    policy = Policy.of(task, raw).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    values = transitions(policy, raw)
    policy.fit_bins(values)
    sequences = _Sequences(policy, raw, values)
    gpt = policy.gpt.train()
    decayed = [policy.gpt.head, *(m.weight for m in gpt.modules() if isinstance(m, nn.Linear))]
    others = [p for p in gpt.parameters() if not any(p is x for x in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    curve = base.LossCurve(config.method_steps)
    for step in progress(range(1, config.method_steps + 1), f"tt {task.name} seed {seed}"):
        tokens, weights = sequences.draw(generator)
        with mixed_precision(device, policy.size):
            logits = gpt(tokens[:, :-1])
        wanted = tokens[:, gpt.prefix or 1 :]
        logits = logits[:, -wanted.shape[1] :].float()
        each = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        loss = (each * weights[:, -wanted.shape[1] :].flatten()).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * _learning_rate(step, config.method_steps)
        optimiser.step()
        curve.add(loss)
    policy.losses = curve.rows
    policy.eval()
    return policy
