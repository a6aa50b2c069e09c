"""The value model: returns to go as by a loop, falls, cuts, and a known value learned."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dmemm.config import ValueConfig, override
from dmemm.data.raw import RawData, write_raw
from dmemm.data.segments import fit_normalisers
from dmemm.errors import UserError
from dmemm.models.mechanisms import ValueModel, load_mechanism
from dmemm.tasks import Task, get_task
from dmemm.training.mechanisms import between_episodes, fit_value, returns_to_go, train_value, value_beyond
from tests.checkout import staged_params

TASK = Task("chain", "Chain-v0", 20, 0.0, 1.0, {})


def raw_data(states, rewards, terminals, timeouts):
    states = np.asarray(states, np.float32)
    actions = np.zeros((len(rewards), 1), np.float32)
    rewards = np.asarray(rewards, np.float32)
    return RawData(
        states[:-1], actions, rewards, np.asarray(terminals), np.asarray(timeouts), states[1:], "own", "chain"
    )


def test_returns_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    count = 60
    ends = rng.random(count) < 0.15
    terminals = ends & (rng.random(count) < 0.5)
    raw = raw_data(rng.normal(size=(count + 1, 2)), rng.normal(size=count), terminals, ends & ~terminals)
    closing = np.flatnonzero(ends | (np.arange(count) == count - 1))
    beyond = rng.normal(size=len(closing))
    found = returns_to_go(raw, 0.9, -7.0, beyond)
    for t in range(count):
        total, power = 0.0, 1.0
        for i in range(t, count):
            total += power * raw.rewards[i]
            if i in closing:
                after = -7.0 / 0.9 if terminals[i] else beyond[list(closing).index(i)]
                total += power * 0.9 * after
                break
            power *= 0.9
        assert found[t] == pytest.approx(total, rel=1e-6), t


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=5), min_size=1, max_size=6))
def test_the_episodes_share_of_the_variance_is_that_of_their_means(episodes):
    values = np.concatenate([np.asarray(each, float) for each in episodes])
    ends = np.cumsum([len(each) for each in episodes])
    found = between_episodes(values, np.stack([ends - [len(each) for each in episodes], ends], axis=1))
    means = np.concatenate([np.full(len(each), np.mean(each)) for each in episodes])
    expected = means.var() / values.var() if values.var() > 0 else 0.0
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("apart", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_share_is_that_of_the_returns_to_go(apart, share):
    """Two policies whose reward never changes, or one whose reward changes within each episode alike."""
    rng, t = np.random.default_rng(0), np.arange(600)
    rewards = np.where(t // 20 % 2 == 0, 1.0, 3.0) if apart else np.where(t % 20 < 10, 1.0, 3.0)
    states = np.append(rng.normal(size=(601, 1)), np.append(rewards, 1.0)[:, None], axis=1)
    raw = raw_data(states, rewards, np.zeros(600, bool), t % 20 == 19)
    raw.next_observations[:, 1] = raw.observations[:, 1]  # where an episode is cut, its policy would go on
    model, figures = fit_value(TASK, raw, ValueConfig(1, 32, 20, discount=0.5, termination_penalty=0), 0)
    assert float(model.between_episodes) == pytest.approx(share, abs=0.02)
    assert figures["between_episodes"] == pytest.approx(float(model.between_episodes), abs=1e-4)


def states_of(raw):
    _, observations = fit_normalisers(raw, TASK)
    return torch.as_tensor(observations.normalise(raw.observations))


def test_what_never_ends_is_worth_the_same_at_every_cut():
    """Reward 1 for ever: 1 / (1 - γ), though no episode is longer than 20 steps, a tenth of 1 / (1 - γ)."""
    rng = np.random.default_rng(0)
    raw = raw_data(rng.normal(size=(601, 2)), np.ones(600), np.zeros(600, bool), np.arange(600) % 20 == 19)
    model, figures = fit_value(TASK, raw, ValueConfig(1, 16, 10, discount=0.995, termination_penalty=-100), 0)
    np.testing.assert_allclose(value_beyond(model, states_of(raw)), 200, rtol=1e-3)
    assert figures["held_out"] == "episodes"


def test_the_way_to_a_fall_and_what_follows_a_cut_are_learned():
    """A walker at place x of 0 … 9 that falls at 10; every other episode is cut off at 5."""
    places, rewards, terminals, timeouts, states = 10, [], [], [], []
    for episode in range(300):
        last = places - 1 if episode % 2 else 4
        for x in range(last + 1):
            states.append([x])
            rewards.append(1.0)
            terminals.append(x == places - 1)
            timeouts.append(x == last and last != places - 1)
    raw = raw_data([*states, [0]], rewards, terminals, timeouts)
    following = np.where(np.asarray(terminals), places, np.asarray(states)[:, 0] + 1)[:, None].astype(np.float32)
    raw = RawData(raw.observations, raw.actions, raw.rewards, raw.terminals, raw.timeouts, following, "own", "chain")
    model, _ = fit_value(TASK, raw, ValueConfig(3, 32, 60, discount=0.9, termination_penalty=-20), 0)
    _, observations = fit_normalisers(raw, TASK)
    x = np.arange(places, dtype=np.float32)[:, None]
    expected = [sum(0.9**i for i in range(places - p)) - 20 * 0.9 ** (places - 1 - p) for p in range(places)]
    np.testing.assert_allclose(value_beyond(model, torch.as_tensor(observations.normalise(x))), expected, atol=0.5)


@pytest.mark.parametrize("members", [1, 4])
def test_a_state_is_worth_less_where_members_disagree(members):
    torch.manual_seed(0)
    model, s = ValueModel(3, 0, members, 8).double(), torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    hidden = [s.detach().numpy()] * members
    for layer in range(3):
        for member in range(members):
            weight, bias = model.network.weights[layer][member], model.network.biases[layer][member]
            x = hidden[member] @ weight.detach().numpy() + bias.detach().numpy()
            hidden[member] = x if layer == 2 else x / (1 + np.exp(-x))
    each = np.stack(hidden)[..., 0]
    np.testing.assert_allclose(model(s).detach(), each.mean(axis=0) - each.std(axis=0))
    np.testing.assert_allclose(model.expected(s).detach(), each.mean(axis=0))
    model(s).sum().backward()  # a standard deviation of one member would have no slope
    assert torch.isfinite(s.grad).all() and (s.grad != 0).all()


def test_the_stage_writes_a_model_that_knows_no_action_and_is_for_tasks_without_a_goal(tmp_path):
    rng = np.random.default_rng(0)
    raw = raw_data(rng.normal(size=(201, 3)), rng.normal(size=200), np.zeros(200, bool), np.arange(200) % 50 == 49)
    write_raw(tmp_path / "raw.hdf5", [raw])
    files = [tmp_path / name for name in ("value.safetensors", "value.json", "value.csv")]
    config = ValueConfig(2, 8, 2, discount=0.9, termination_penalty=0)
    train_value(TASK, config, 0, tmp_path / "raw.hdf5", *files)
    model = load_mechanism(ValueModel, files[0])
    assert model(torch.zeros(2, 5, 3)).shape == (2, 5)
    report = json.loads(files[1].read_text())
    assert 0 < model.between_episodes == pytest.approx(report["between_episodes"], abs=1e-4)
    assert (report["held_out"], report["loss"]) == ("transitions", "mean squared error")  # of four episodes
    with pytest.raises(UserError, match="maze2d-umaze: has a goal"):
        train_value(get_task("maze2d-umaze"), config, 0, tmp_path / "raw.hdf5", *files)


@pytest.mark.parametrize("value", ["discount=1", "discount=-0.1", "termination_penalty=1", "objective=q", "veto=-1"])
def test_out_of_range_is_refused_in_one_line(value):
    with pytest.raises(UserError, match=f"command line: {value.partition('=')[0]}: [^\n]*$"):
        override(staged_params(), [value])
