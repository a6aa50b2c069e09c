"""Recording of a gradient step: each call takes effect once. Devices are made up where there is none."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from dmemm.config import SegmentConfig, TrainConfig, load_params
from dmemm.training import captured
from dmemm.training.captured import Captured, adam, set_learning_rate
from dmemm.training.train import gradient_step
from tests.checkout import ROOT

CUDA = SimpleNamespace(device=torch.device("cuda"))  # of a generator
CALLS = 8


class Device:
    """A made-up device: what is called while it records takes effect when the recording is replayed."""

    def __init__(self, monkeypatch):
        self.recording, self.recorded, self.recordings, self.stream, self.effects = False, [], 0, "default", []
        self.generators = []
        device = self

        class Graph:
            def register_generator_state(self, generator):
                device.generators.append(generator)

            def replay(self):
                assert not device.recording
                device.effects += device.recorded

        @contextlib.contextmanager
        def graph(_):
            device.recording, device.recordings = True, device.recordings + 1
            yield
            device.recording = False

        @contextlib.contextmanager
        def stream(_):
            device.stream = "another"
            yield
            device.stream = "default"

        waiting = SimpleNamespace(wait_stream=lambda _: None)
        for name, made_up in (
            ("CUDAGraph", Graph), ("graph", graph), ("stream", stream),
            ("Stream", lambda: waiting), ("current_stream", lambda: waiting),
        ):  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, made_up)

    def launch(self):
        assert self.recording or self.stream == "another"  # lazy initialisation spoils the default stream's recording
        (self.recorded if self.recording else self.effects).append("kernel")


def test_each_call_takes_effect_once_on_a_gpu(monkeypatch):
    device = Device(monkeypatch)
    step = Captured(device.launch, CUDA)
    for call in range(1, CALLS + 1):
        step()
        assert len(device.effects) == call
    assert (device.recordings, device.recorded, device.generators) == (1, ["kernel"], [CUDA])


def test_a_cpu_calls_the_function_itself():
    calls = []
    step = Captured(lambda: calls.append(len(calls)), torch.Generator())
    for _ in range(CALLS):
        step()
    assert calls == list(range(CALLS))


@pytest.mark.parametrize("rate", [0.25, torch.tensor(0.25)], ids=["number", "tensor"])
def test_a_learning_rate_is_changed_where_a_recording_reads_it(rate):
    group = {"lr": rate}
    set_learning_rate(SimpleNamespace(param_groups=[group]), 0.5)
    assert float(group["lr"]) == 0.5
    assert not isinstance(rate, torch.Tensor) or group["lr"] is rate


def test_adam_moves_by_the_rate_that_was_set():
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = adam([weight], 0.1)
    for rate, expected in ((0.1, 0.9), (0.0, 0.9), (0.3, 0.6)):
        weight.grad = torch.ones(3)
        set_learning_rate(optimiser, rate)
        optimiser.step()  # of a constant gradient: by the rate
        torch.testing.assert_close(weight.detach(), torch.full((3,), expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["diffuser", "dmemm"])
def test_a_recorded_training_has_the_weights_of_one_without(method, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from training import TASK, new_training, windows

    from dmemm.methods import get_method

    params, device = load_params(ROOT / "params.yaml"), torch.device("cuda")
    data = windows(device, SegmentConfig.resolve(params, TASK).horizon)
    config, found = TrainConfig.resolve(params, TASK, get_method(method)), []
    for recorded in (True, False):
        monkeypatch.setattr(captured, "_WARM_UP", 3 if recorded else 1000)
        state = new_training(config, data, device)
        for _ in range(20):
            gradient_step(config, state)
        found.append([parameter.detach().cpu() for parameter in state.parameters])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
