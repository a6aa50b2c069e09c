"""Windows, their padding and weights, against literal loops over episodes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmemm.config import SegmentConfig
from dmemm.data.normaliser import Normaliser
from dmemm.data.raw import RawData, write_raw
from dmemm.data.segments import make_segments, read_segments, segment
from dmemm.data.windows import Windows
from dmemm.errors import UserError
from dmemm.tasks import get_task

HOPPER, MAZE = get_task("hopper-medium"), get_task("maze2d-umaze")


def raw_data(lengths, state_dim=3, action_dim=2, seed=0, rewards=None):
    rng, count = np.random.default_rng(seed), sum(lengths)
    ends = np.zeros(count, dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    observations = rng.normal(size=(count, state_dim)).astype(np.float32)
    return RawData(
        observations,
        rng.uniform(-1, 1, (count, action_dim)).astype(np.float32),
        rng.normal(size=count).astype(np.float32) if rewards is None else np.asarray(rewards, dtype=np.float32),
        ends,
        np.zeros(count, dtype=bool),
        rng.normal(size=observations.shape).astype(np.float32),
        "local",
        "test",
    )


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), horizon=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_windows_are_those_of_a_loop_over_episodes(lengths, horizon, seed):
    raw = raw_data(lengths, seed=seed)
    segments = make_segments(raw, HOPPER, horizon, 0.05)
    low, high = float(raw.rewards.min()), float(raw.rewards.max())
    expected, start = [], 0
    for length in lengths:
        for t in range(start, start + length):
            valid = raw.rewards[t : min(t + horizon, start + length)].astype(np.float64)
            mapped = sum((r - low) / (high - low) if high > low else 1.0 for r in valid)
            weight = 1.0 if high == low else max(0.05, mapped / horizon)
            expected.append((t, len(valid), weight))
        start += length
    got = np.stack([segments.starts, segments.lengths, segments.weights], axis=1)
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-4, atol=1e-5)
    assert ((segments.weights > 0) & (segments.weights <= 1)).all()


@pytest.mark.parametrize("rewards", [[-3.0, -1.0, -2.0, -5.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
def test_weights_lie_in_0_1_for_negative_constant_and_sparse_rewards(rewards):
    weights = make_segments(raw_data([4], rewards=rewards), HOPPER, 3, 0.1).weights
    assert ((weights > 0) & (weights <= 1)).all()


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), horizon=st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_batches_hold_the_stored_steps_and_never_cross_an_episode(lengths, horizon):
    raw = raw_data(lengths, state_dim=4)
    for task in (HOPPER, MAZE):
        segments = make_segments(raw, task, horizon, 0.1)
        windows = Windows(raw, segments, task, torch.device("cpu"))
        batch = windows.batch(torch.arange(len(segments.starts)))
        tau = segments.normaliser.unnormalise(batch.tau.numpy())
        episode = np.repeat(np.arange(len(lengths)), lengths)
        for start in range(len(segments.starts)):
            for t in range(horizon):
                inside = start + t < len(episode) and episode[start + t] == episode[start]
                assert batch.mask[start, t] == inside
                if inside:
                    expected = np.concatenate([raw.actions[start + t], raw.observations[start + t]])
                    np.testing.assert_allclose(tau[start, t], expected, atol=1e-5)
                elif task is MAZE:  # rests at the last position
                    last = np.flatnonzero(episode == episode[start])[-1]
                    expected = np.concatenate([[0, 0], raw.next_observations[last, :2], [0, 0]])
                    np.testing.assert_allclose(tau[start, t], expected, atol=1e-5)
        assert torch.equal(batch.learned, batch.mask if task is HOPPER else torch.ones_like(batch.mask))


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30), share=st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_held_out_are_whole_episodes_that_training_never_draws(lengths, share):
    raw = raw_data(lengths)
    segments = make_segments(raw, HOPPER, 3, 0.1, share)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    held_out = {int(e) for e in episode[segments.held_out]}
    steps, wanted = segments.held_out.sum(), share * sum(lengths)
    assert steps <= 2 * wanted and steps < sum(lengths)
    if max(lengths) <= wanted and len(lengths) > 1:  # every episode fits
        assert steps >= min(wanted, sum(lengths) - max(lengths))
    if min(lengths) <= min(2 * wanted, sum(lengths) - 1):
        assert set(episode[~segments.held_out].tolist()).isdisjoint(held_out) and bool(held_out) == (share > 0)
    else:  # the end of the longest
        assert steps == min(int(wanted), max(lengths) - 1)
    windows = Windows(raw, segments, HOPPER, torch.device("cpu"))
    windows.batch = lambda index: index
    drawn = windows.draw(500, torch.Generator().manual_seed(0)).numpy()
    assert not segments.held_out[drawn].any()


def test_a_long_recording_is_not_lost_to_what_is_held_out(tmp_path):
    for lengths, held_out in (
        ([380, 20], slice(380, 400)),
        ([190, 20, 190], slice(190, 210)),
        ([150, 250], slice(380, 400)),
    ):
        chosen = make_segments(raw_data(lengths), HOPPER, 3, 0.1, 0.05).held_out
        assert chosen.sum() == 20 and chosen[held_out].all()
    with pytest.raises(UserError, match=r"raw\.hdf5: no episode is as long as the horizon, 8; set it to 7 or less"):
        write_raw(tmp_path / "raw.hdf5", [raw_data([6, 7, 2])])
        segment(HOPPER, SegmentConfig(8, 0.1, 0.0), tmp_path / "raw.hdf5", tmp_path / "a.h5")


def test_drawing_is_seeded():
    raw = raw_data([9, 5])
    windows = Windows(raw, make_segments(raw, HOPPER, 3, 0.1), HOPPER, torch.device("cpu"))
    first, again, other = (windows.draw(32, torch.Generator().manual_seed(s)).tau for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["gaussian", "limits"])
def test_normaliser_inverts_and_survives_constant_dimensions(kind):
    x = np.random.default_rng(0).normal(5, 3, (100, 3)).astype(np.float32)
    x[:, 1] = 7.25
    normaliser = Normaliser.fit(x, kind)
    z = normaliser.normalise(x)
    assert np.isfinite(z).all() and normaliser.scale[1] == 1  # and the constant one widens no other
    np.testing.assert_allclose(normaliser.unnormalise(z), x, atol=1e-4)
    if kind == "gaussian":
        np.testing.assert_allclose((z[:, 0].mean(), z[:, 0].std()), (0, 1), atol=1e-4)
    else:
        np.testing.assert_allclose((z[:, 0].min(), z[:, 0].max()), (-1, 1), atol=1e-5)


def test_file_holds_indices_and_reads_back(tmp_path):
    raw = raw_data([40, 60])
    write_raw(tmp_path / "raw.hdf5", [raw])
    segment(HOPPER, SegmentConfig(8, 0.1, 0.3), tmp_path / "raw.hdf5", tmp_path / "a.h5")
    segment(HOPPER, SegmentConfig(8, 0.1, 0.3), tmp_path / "raw.hdf5", tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    read, made = read_segments(tmp_path / "a.h5"), make_segments(raw, HOPPER, 8, 0.1, 0.3)
    assert read.horizon == 8
    for name in ("starts", "lengths", "weights", "held_out"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    assert np.array_equal(read.normaliser.scale, made.normaliser.scale)
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:500])
    with pytest.raises(
        UserError, match=r"a\.h5: damaged or not an HDF5 data set .*; delete it and run `segment` again"
    ):
        read_segments(tmp_path / "a.h5")
