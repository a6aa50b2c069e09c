"""No step mixes devices: training and acting on a made-up GPU, whose tensors hold CPU data and refuse the CPU's.

The made-up GPU is PyTorch's backend for devices that are written in Python. Where there is a GPU, the tests that need
one are the better check. test_one_device.py runs this file.
"""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from dmemm import device
from dmemm.config import MethodConfig, PlanValueConfig, TrainConfig, load_params
from dmemm.data.segments import make_segments
from dmemm.methods import dv, get_method, hd, hdmi, levels, morel, mppi, rvs, tt
from dmemm.models.gpt import Decoding, Gpt
from dmemm.planning.planner import Planner
from dmemm.training.captured import Captured
from dmemm.training.plan_value import fit_plan_value
from dmemm.training.train import gradient_step
from tests.checkout import ROOT
from tests.methods.problems import GOAL, POINT, STARTS, point_data
from tests.planning.example import OWN, TASK, planner

CPU, GPU = torch.device("cpu"), torch.device("privateuseone", 0)
WAITING = ("_local_scalar_dense", "nonzero", "masked_select")  # operations whose result the CPU waits for
Drawing, drawn_on, recording = torch.Generator, {}, []


class OnGpu(torch.Tensor):
    """A tensor of the made-up GPU; `held` has its data."""

    is_cuda = True
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=GPU, **layout)
        made.held = held
        return made

    def numpy(self, *, force):
        return self.held.numpy(force=force)

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """Also check the operations that have no tensor of the GPU among their arguments."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def run(operation, args, kwargs):
    """Run an operation on the held data; refuse two devices, and in a recorded step to wait for the GPU."""
    name, leaves = operation._schema.name, tree_leaves((args, kwargs))
    there = any(isinstance(x, OnGpu) for x in leaves)
    here = any(isinstance(x, torch.Tensor) and not isinstance(x, OnGpu) and x.dim() for x in leaves)
    result = kwargs.get("device") or (GPU if there else CPU)
    generators = {drawn_on.get(x._cdata, CPU) for x in leaves if isinstance(x, Drawing)}
    if (there and here and "copy" not in name) or generators - {result}:
        raise RuntimeError(f"{name}: tensors or generators of two devices")
    crosses = "copy" in name and ((there and (here or result == CPU)) or (result == GPU and not there))
    if recording and (crosses or (there and name.removeprefix("aten::") in WAITING)):
        raise RuntimeError(f"{name}: waits for the GPU in a step that is recorded")
    held, options = tree_map_only(OnGpu, lambda x: x.held, (args, kwargs))
    made = operation(*held, **options | ({"device": CPU} if "device" in options else {}))
    if result == CPU:
        return made
    made = tree_map_only(torch.Tensor, OnGpu, made)
    return return_and_correct_aliasing(operation, args, kwargs, made) if there else made


class Generator(Drawing):
    """A generator of the CPU that remembers for which device it was made."""

    def __new__(cls, device=CPU):
        made = super().__new__(cls)
        drawn_on[made._cdata] = torch.device(device)
        return made


def call(self):
    """Stand in for `Captured.__call__`: from the fourth call on, the step is as if it were recorded as a CUDA graph."""
    self.calls = getattr(self, "calls", 0) + 1
    recording.extend([self] * (self.calls > 3))
    try:
        self._function()
    finally:
        recording.clear()


@pytest.fixture
def gpu(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    if not hasattr(torch, "privateuseone"):
        _setup_privateuseone_for_python_backend("privateuseone")
    monkeypatch.delenv("DMEMM_DEVICE", raising=False)
    monkeypatch.setattr(device, "_free_device", lambda: GPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    monkeypatch.setattr(Captured, "__call__", call)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(x, device=GPU): on the CPU, then a copy
    with Everywhere():
        yield
    torch._C._set_only_lift_cpu_tensors(False)


def far(states):
    return np.abs(states[..., 0]) > 1.0  # NumPy takes no tensors of a GPU


TASKS = {"free": replace(POINT, terminal="tests.one_device:far"), "goal": replace(GOAL, parameters={"horizon": 8})}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("method", [dv, hd, hdmi, morel, mppi, rvs, tt])
def test_a_method(method, task, gpu, monkeypatch):
    small = {"mlp_width": 8, "unet_width": 8, "unet_mults": (1,), "diffusion_steps": 2, "batch_size": 4}
    for levelled in (hd, hdmi):
        monkeypatch.setattr(levelled, "_TRAINING", replace(levelled._TRAINING, **small))
    monkeypatch.setattr(levels, "VALUE", replace(levels.VALUE, mechanism_epochs=1))
    monkeypatch.setattr(mppi, "_EPOCHS", 1)
    monkeypatch.setattr(mppi, "_IMITATION_STEPS", 2)
    monkeypatch.setattr(morel, "_IMITATION_STEPS", 2)
    policy = method.train(task, point_data(5), MethodConfig(4), 0, GPU)
    policy.requires_grad_(False).eval().start(0)
    goals = np.zeros((3, 2), np.float32) if task.has_goal else None
    assert policy.act(np.array(STARTS), goals, np.array([True, False, True])).shape == (3, 2)


def test_decoding_waits_for_no_token(gpu, monkeypatch):
    model = Gpt(4, 5, 3, 0, 16, 1, 2).requires_grad_(False).to(GPU)
    decoding = Decoding(model, torch.zeros(2, 4, dtype=torch.long, device=GPU))
    monkeypatch.setitem(globals(), "recording", [decoding])
    decoding.append_likeliest()


GUIDES = {
    "return": (OWN, {"objective": "return", "model_rollout": True, "warm_start": 2, "sampling_steps": 2}),
    "plan_value": (OWN, {"objective": "plan_value"}),
    "goal": (TASK, {"places": torch.zeros(3, 2), "veto": 1.0}),
}


@pytest.mark.parametrize("guide", GUIDES)
def test_a_planner(guide, tmp_path, request):
    task, changes = GUIDES[guide]
    planner(3, task=task, replan_every=1, **changes).save(tmp_path)
    request.getfixturevalue("gpu")
    made = Planner.load(tmp_path)
    for _ in range(2):
        assert made.act(np.zeros((2, 4), np.float32), np.ones((2, 2), np.float32)).shape == (2, 2)


@pytest.mark.parametrize("changes", [{}, {"denoise": "paper", "predict": "epsilon"}], ids=["tweedie", "paper"])
def test_a_training(changes, gpu, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from training import TASK, new_training, windows

    config = TrainConfig.resolve(load_params(ROOT / "params.yaml"), TASK, get_method("dmemm"))
    config = replace(config, batch_size=8, **changes)
    state = new_training(config, windows(GPU, 8), GPU, 2, 8)
    for _ in range(4):
        gradient_step(config, state)
    raw = point_data(5)
    segments, returns = make_segments(raw, POINT, 4, 0.1, held_out=0.1), torch.zeros(len(raw.rewards))
    fit_plan_value(POINT, raw, segments, returns, PlanValueConfig(0.9, 0.0, 5, 4), 0)
