"""All that is worth measuring on a GPU, within ten minutes: a training step, a plan, and a row of Table 1.

    python benchmarks/gpu.py [--diffuser CLONE] [--raw FILE] [--minutes 9]

The sizes are those of `make paper`: the full U-Net, horizon 100, K = 100, batches of 64, 64 candidates. The row is
trained for the time that is left, on a million transitions: those of FILE, or new ones that all cores collect. Its
mechanisms are trained for two epochs, its episodes are planned with 16 candidates and 5 levels, and its networks get
far fewer steps than in the paper. So it shows that everything works at that size and how long a column would take, but
not which score the paper's training reaches. `--tiny` runs everything at small sizes, also on a CPU. CLONE is a clone
of github.com/jannerm/diffuser (it needs `pip install einops`).
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from column import planner, prepare, train
from planning import guided_peer, planning
from training import TASK, diffuser_step, measure, peak_memory, training_step, windows

from dmemm.config import EvaluateConfig, Params, SegmentConfig, TrainConfig, load_params, override
from dmemm.data.local import best_score, collect
from dmemm.data.raw import read_raw, write_raw
from dmemm.device import choose_device
from dmemm.files import read_yaml
from dmemm.methods import get_method
from dmemm.models import traced
from dmemm.planning.rollout import run_episodes

ROOT = Path(__file__).parents[1]
KINDS = {"plain": "diffuser", "modulated": "dmemm"}  # of a training step, by the method that takes it
ENVIRONMENTS = 20
TRANSITIONS = 1_000_000
# Of the row, what does not get its full length.
_SHORT = ("mechanism_epochs=2", "plan_value_steps=4000", "candidates=16", "sampling_steps=5")
_REST = 90.0  # seconds of a column that are kept for compiling and for its episodes
_TINY = (
    "horizon=8", "diffusion_steps=4", "batch_size=8", "candidates=2", "unet_mults=[1, 2]", "ensemble_members=2",
    "mechanism_width=8", "plan_value_steps=20", "episodes=2", "sampling_steps=2",
)  # fmt: skip


def settings(tiny: bool, assignments: Sequence[str] = ()) -> Params:
    """The paper's parameters, but for `assignments`."""
    params = load_params(ROOT / "params.yaml") | read_yaml(ROOT / "dmemm/presets/paper.yaml")
    return override(params, (*assignments, *_TINY) if tiny else assignments)


def make_data(path: Path, steps: int) -> None:
    """Collect local transitions, a share by each core."""
    cores = len(os.sched_getaffinity(0))
    alone = patch.dict(os.environ, OMP_NUM_THREADS="1")  # no threads of NumPy beside the processes
    with alone, ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        write_raw(path, pool.map(partial(collect, TASK, steps // cores), range(cores)))


def repeated(step: Callable[[], object], count: int) -> Callable[[], None]:
    """So many training steps."""

    def run() -> None:
        for _ in range(count):
            step()

    return run


def training_steps(params: Params, clone: Path | None, device: torch.device, rounds: int) -> dict[str, float]:
    """Print the milliseconds of a gradient step on a batch, of the MLP that params.yaml asks for and of the U-Net.

    Returns:
        The U-Net's seconds by method.
    """
    count = 20 if device.type == "cuda" else 1  # the first recording of a step needs four
    own = load_params(ROOT / "params.yaml")
    cases = {}
    for network, sizes, of_models in (("MLP", own, (5, 64)), ("U-Net", params, (7, 200))):
        data = windows(device, SegmentConfig.resolve(sizes, TASK).horizon)
        for kind, name in KINDS.items():
            config = TrainConfig.resolve(sizes, TASK, get_method(name))
            step = training_step(config, data, device, *of_models)
            cases[f"{network}, {config.batch_size} windows, {kind}"] = repeated(step, count)
    if clone:
        step, batches = diffuser_step(clone, device, **_sizes(params)), max(1, config.batch_size // 32)
        cases[f"Diffuser's own U-Net, {config.batch_size} windows"] = repeated(step, batches * count)
    seconds = {case: value / count for case, value in measure(cases, rounds, device).items()}
    print("\n| gradient step | ms |\n| --- | ---: |")
    for case, value in seconds.items():
        print(f"| {case} | {1000 * value:.2f} |")
    print(f"| peak memory | {peak_memory(device):.2f} GiB |", flush=True)
    return {name: seconds[f"U-Net, {config.batch_size} windows, {kind}"] for kind, name in KINDS.items()}


def _sizes(params: Params) -> dict[str, Any]:
    """The sizes of Diffuser's own network, whose horizon must be a multiple of 8."""
    config = TrainConfig.resolve(params, TASK)
    horizon = -(-SegmentConfig.resolve(params, TASK).horizon // 8) * 8
    return {"horizon": horizon, "n_diffusion_steps": config.diffusion_steps, "dim_mults": config.unet_mults}


def plans(params: Params, clone: Path | None, device: torch.device, rounds: int) -> None:
    """Print how many plans a second can be made."""
    torch.compiler.reset()  # each section compiles its own few shapes; too many are not compiled at all
    config, network = EvaluateConfig.resolve(params, TASK), TrainConfig.resolve(params, TASK)
    sizes = {
        "horizon": SegmentConfig.resolve(params, TASK).horizon,
        "steps": network.diffusion_steps,
        "mults": network.unet_mults,
    }
    many = config.candidates
    settings = {
        f"1 environment, {many} candidates": (config, 1),
        f"{ENVIRONMENTS} environments, {many} candidates": (config, ENVIRONMENTS),
        f"1 environment, {many} candidates, 2 levels of DDIM": (replace(config, sampling_steps=2), 1),
    }
    cases = {case: planning(changed, batch, device, **sizes) for case, (changed, batch) in settings.items()}
    if clone:
        cases[f"1 environment, {many} candidates, Diffuser's own"] = guided_peer(clone, many, device, **_sizes(params))
    print("\n| guided plans | ms | plans a second |\n| --- | ---: | ---: |")
    for case, value in measure(cases, rounds, device).items():
        batch = settings[case][1] if case in settings else 1
        print(f"| {case} | {1000 * value:.1f} | {batch / value:.2f} |", flush=True)


def row(params: Params, raw_path: Path, folder: Path, steps: dict[str, float], deadline: float, most: int) -> None:
    """Train both columns of a row of Table 1 until `deadline`, at most so many gradient steps, and print it."""
    torch.compiler.reset()
    start = time.monotonic()
    for _ in prepare("dmemm", TASK, params, raw_path, folder):  # what Diffuser's column needs is among it
        pass
    print(f"\n{len(read_raw(raw_path).rewards):,} transitions; segments, mechanisms: {time.monotonic() - start:.0f} s")
    print(f"\n| {TASK.name}, score ± standard error | gradient steps | s | ms a step | a million steps, h | score |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    names = tuple(KINDS.values())
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        seconds = max(1.0, (deadline - time.monotonic()) / left - _REST)
        count = max(10, min(most, int(seconds / steps[name])))
        start = time.monotonic()
        (checkpoint,) = train(name, TASK, {**params, "train_steps": count}, raw_path, folder, count)
        took = time.monotonic() - start
        episodes = EvaluateConfig.resolve(params, TASK).episodes
        returns = run_episodes(TASK, planner(name, TASK, params, checkpoint), episodes=episodes, seed=0).returns
        scores = [TASK.score(value) for value in returns]
        error = np.std(scores, ddof=1) / len(scores) ** 0.5
        print(
            f"| {get_method(name).label} | {count} | {took:.0f} | {1000 * took / count:.1f} | "
            f"{1e6 * took / count / 3600:.1f} | {np.mean(scores):.1f} ± {error:.1f} |",
            flush=True,
        )
    print(f"| the data's best policy | | | | | {best_score(TASK):.1f} |")


def main() -> None:
    """Measure, and print Markdown tables one by one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffuser", type=Path, help="a clone of github.com/jannerm/diffuser")
    parser.add_argument("--raw", type=Path, help=f"raw data of {TASK.name}, as `download` writes them")
    parser.add_argument("--minutes", type=float, default=9, help="that the whole may take")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    deadline, tiny = time.monotonic() + 60 * arguments.minutes, arguments.tiny
    traced._WORTH = 1  # at once, not after the hundred evaluations that go unmeasured in an episode
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw_path = arguments.raw or folder / "raw.hdf5"
        if arguments.raw is None:
            make_data(raw_path, 2000 if tiny else TRANSITIONS)
        device = choose_device()
        card = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{card}, torch {torch.__version__}{', tiny sizes' if tiny else ''}")
        params, rounds = settings(tiny), 1 if tiny else 5
        steps = training_steps(params, arguments.diffuser, device, rounds)
        plans(params, arguments.diffuser, device, rounds)
        row(settings(tiny, _SHORT), raw_path, folder, steps, deadline, 20 if tiny else TRANSITIONS)


if __name__ == "__main__":
    main()
