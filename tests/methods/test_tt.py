"""Trajectory Transformer: its tokens, its search, and what it learns on problems whose answer is known."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from dmemm.config import MethodConfig
from dmemm.methods import tt
from tests.methods.problems import CPU, GOAL, POINT, point_data, raw_data


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(tt, "_WIDTH", 32)
    monkeypatch.setattr(tt, "_BINS", 20)


def frozen(policy):
    """A policy as loading makes it."""
    policy.requires_grad_(False).eval()
    policy.start(0)
    return policy


def test_a_bin_holds_as_many_data_as_another_and_a_token_stands_for_their_mean(monkeypatch):
    monkeypatch.setattr(tt, "_BINS", 4)
    policy = tt.Policy(POINT, {"action_dim": 1, "observation_dim": 1})
    data = torch.tensor([0.0, 1, 2, 4, 8, 9, 20, 22])
    policy.fit_bins(torch.stack([data + 100 * slot for slot in range(4)], dim=1)[torch.randperm(8)])
    tokens, means = [0, 0, 1, 1, 2, 2, 3, 3], [0.5, 3.0, 8.5, 21.0]
    for slot in range(4):
        assert policy.discretise(data[:, None] + 100 * slot, slot)[:, 0].tolist() == tokens
    outside = torch.tensor([[-3.0, 1e9]])
    assert policy.discretise(outside).tolist() == [[0, 3]]
    found = policy.discretise(torch.stack([data + 100, data + 200], dim=1), 1)
    expected = torch.tensor([means[token] for token in tokens])
    torch.testing.assert_close(policy.reconstruct(found, 1), torch.stack([expected + 100, expected + 200], dim=1))
    assert policy.reconstruct(torch.tensor([[4]]), 3).item() == 321  # the end of an episode
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.3, 0.1]]).log()
    mean = sum(p * m for p, m in zip((0.1, 0.2, 0.3, 0.3), means, strict=True))
    assert policy.expected(logits, 0).item() == pytest.approx(mean)


def test_equal_data_share_a_token_that_stands_for_them(monkeypatch):
    monkeypatch.setattr(tt, "_BINS", 10)
    policy = tt.Policy(POINT, {"action_dim": 1, "observation_dim": 1})
    values = torch.tensor([[-1.0, 5, 0, 0]] * 6 + [[2.0, 5, 0, 1]] * 3)
    policy.fit_bins(values)
    torch.testing.assert_close(policy.reconstruct(policy.discretise(values)), values)


def test_the_slots_of_a_transition_are_those_of_a_loop():
    raw = point_data(3, length=5)
    raw = dataclasses.replace(
        raw, terminals=raw.timeouts & (np.arange(15) < 5), timeouts=raw.timeouts & (np.arange(15) > 4)
    )
    policy = tt.Policy.of(POINT, raw)
    values = tt.transitions(policy, raw).numpy()
    rewards = [-100.0 if i == 4 else float(raw.rewards[i]) for i in range(15)]
    to_go = [sum(0.99 ** (j - i - 1) * rewards[j] for j in range(i + 1, 5 * (i // 5) + 5)) for i in range(15)]
    np.testing.assert_allclose(values[:, :2], policy.normalise(raw.observations), rtol=1e-6)
    np.testing.assert_allclose(
        values[:, 2:4] * policy.scale[:2].numpy() + policy.center[:2].numpy(), raw.actions, atol=1e-6
    )
    np.testing.assert_allclose(values[:, 4:], np.stack([rewards, to_go], axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", [POINT, GOAL], ids=["reward", "goal"])
def test_sequences_end_with_a_termination_know_nothing_beyond_a_timeout_and_begin_with_the_goal(task, monkeypatch):
    monkeypatch.setattr(tt, "_BATCH", 200)
    raw = point_data(4, length=6)
    raw = dataclasses.replace(
        raw, terminals=raw.timeouts & (np.arange(24) < 12), timeouts=raw.timeouts & (np.arange(24) > 11)
    )
    policy = tt.train(task, raw, MethodConfig(1), 0, CPU)
    values = tt.transitions(policy, raw)
    tokens = policy.discretise(values)
    drawn, weights = tt._Sequences(policy, raw, values).draw(torch.Generator().manual_seed(0))
    slots, prefix = values.shape[1], task.goal_dim
    slot_weights = [1, 1, 5, 5, 1, 1][:slots]
    starts = set()
    for sequence, weight in zip(drawn, weights.view(200, tt._LENGTH, slots), strict=True):
        steps = sequence[prefix:].view(tt._LENGTH, slots)
        start = next(i for i in range(24) if torch.equal(tokens[i], steps[0]))
        starts.add(start)
        end = 6 * (start // 6) + 6
        if task.has_goal:
            goal = policy.normalise(raw.next_observations[[end - 1]])
            assert torch.equal(sequence[:2], policy.discretise(goal)[0])
        for offset in range(tt._LENGTH):
            inside = start + offset < end
            assert steps[offset].tolist() == (tokens[start + offset].tolist() if inside else [20] * slots)
            assert weight[offset].tolist() == (slot_weights if inside or start < 12 else [0] * slots)
    assert len(starts) == 24


def test_the_beam_search_finds_what_an_exhaustive_search_finds(monkeypatch):
    for name, value in (("_BINS", 3), ("_LIKELY", 1.0), ("_BEAMS", 2048), ("_EXPANSION", 1), ("_HORIZON", 3)):
        monkeypatch.setattr(tt, name, value)
    torch.manual_seed(0)
    policy = frozen(tt.Policy(POINT, {"action_dim": 1, "observation_dim": 2}))
    policy.means.copy_(torch.randn(5, 3))
    for parameter in policy.gpt.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    sequences = torch.randint(3, (4, 2), generator=torch.Generator().manual_seed(1))
    found, values = policy.beam_search(sequences)

    def outcome(sequence, actions):
        """The tokens, without a cache, and the value of a sequence in which these actions are taken."""
        gains = 0.0
        for step, action in enumerate(actions):
            sequence = [*sequence, action]
            for slot in (3, 4):
                logits = policy.gpt(torch.tensor([sequence]))[:, -1]
                worth = float(policy.expected(logits, slot)) * 0.99 ** (step + slot - 3)
                sequence = [*sequence, int(logits.argmax())]
                if slot == 3:
                    gains += worth
            if step < 2:
                for _ in range(2):
                    sequence = [*sequence, int(policy.gpt(torch.tensor([sequence]))[0, -1].argmax())]
        return sequence, gains + worth

    for row, sequence in enumerate(sequences.tolist()):
        tried = [outcome(sequence, actions) for actions in itertools.product(range(4), repeat=3)]
        best, value = max(tried, key=lambda pair: pair[1])
        assert found[row].tolist() == best[2:] and float(values[row]) == pytest.approx(value, abs=1e-4)


def test_only_the_likeliest_actions_are_drawn(monkeypatch):
    monkeypatch.setattr(tt, "_LIKELY", 0.4)
    policy = frozen(tt.Policy(POINT, {"action_dim": 1, "observation_dim": 1}))
    logits = torch.tensor([0.3, 0.05, 0.15, 0.25, 0.25]).log().expand(500, 5)
    assert set(policy._draw(logits).tolist()) <= {0, 3, 4} and 0 in policy._draw(logits)
    assert set(policy._draw(torch.tensor([[0.7, 0.2, 0.1]]).log().expand(500, 3)).tolist()) == {0}


CORRIDOR = dataclasses.replace(POINT, episode_steps=12)


def corridor(episodes=120, length=12):
    """Seven places in a row, 0 to 6; a step goes one to the left, nowhere or one to the right, and earns s'."""
    rng = np.random.default_rng(0)
    s = np.zeros((episodes, length + 1))
    s[:, 0] = rng.integers(0, 7, episodes)
    a = rng.integers(-1, 2, (episodes, length))
    for t in range(length):
        s[:, t + 1] = np.clip(s[:, t] + a[:, t], 0, 6)
    s, a, s_next = s[:, :-1].reshape(-1, 1), a.reshape(-1, 1), s[:, 1:].reshape(-1, 1)
    return raw_data(s, a, s_next, s_next[:, 0], length)


def steps_along_it(policy, goals=None):
    """The places reached from each of the seven, nine steps on."""
    s = np.arange(7, dtype=np.float32)[:, None]
    policy.reset()
    for _ in range(9):
        s = np.clip(s + np.round(policy.act(s, goals)), 0, 6).astype(np.float32)
    return s[:, 0].tolist()


def test_it_goes_where_the_return_is_highest_and_knows_the_way(monkeypatch):
    monkeypatch.setattr(tt, "_LIKELY", 1.0)  # of three actions that are as likely, none is left out
    raw = corridor()
    policy = frozen(tt.train(CORRIDOR, raw, MethodConfig(300), 0, CPU))
    assert min(steps_along_it(policy)) >= 5
    plans = policy.plan_from(np.arange(7, dtype=np.float32)[:, None], None)
    assert plans.shape == (7, tt._HORIZON, 2)
    a, s = np.round(plans[..., 0]), plans[..., 1]
    np.testing.assert_allclose(s[:, 1:], np.clip(s[:, :-1] + a[:, :-1], 0, 6), atol=0.01)


def test_it_goes_to_its_goal():
    task = dataclasses.replace(CORRIDOR, goal_dim=1)
    policy = frozen(tt.train(task, corridor(), MethodConfig(400), 0, CPU))
    for goal in (1, 5):
        reached = np.array(steps_along_it(policy, np.full((7, 1), goal, np.float32)))
        assert np.abs(reached - goal).mean() < 1
