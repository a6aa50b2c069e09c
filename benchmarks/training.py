"""Speed of training, as ratios of medians measured side by side in one run.

    python benchmarks/training.py [--diffuser FOLDER]

First the network for hopper that params.yaml asks for, then the full-size U-Net of hopper (3.96 million parameters),
horizon 100, K = 100. FOLDER is a clone of github.com/jannerm/diffuser (it needs `pip install einops`): its own model,
loss, optimiser and averaging, on batches that are in memory already.
"""

import argparse
import copy
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer import diffusion
from torch.utils.flop_counter import FlopCounterMode

from dmemm.config import TrainConfig, load_params
from dmemm.data.raw import RawData
from dmemm.data.segments import make_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.denoise import denoise_chain
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.methods import get_method
from dmemm.methods.levels import TRAINING
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.tasks import get_task
from dmemm.training.checkpoint import TrainingState
from dmemm.training.train import gradient_step, new_state

OBSERVATION, ACTION, HORIZON, STEPS = 11, 3, 100, 100
TASK = get_task("hopper-medium")
PLAIN = replace(
    TRAINING, reward_loss=True, diffusion_steps=STEPS, mlp_width=256, mlp_blocks=3, unet_mults=(1, 2, 4, 8),
    train_steps=1_000_000, learning_rate=2e-4, first_action_weight=10.0,
)  # fmt: skip
MODULATED = replace(PLAIN, lambda_tr=0.1, lambda_rd=0.05, weighting=True)


def windows(device: torch.device, horizon: int = HORIZON) -> Windows:
    """Windows of random transitions in episodes of 500 steps."""
    rng, count = np.random.default_rng(0), 20_000
    ends = np.arange(1, count + 1) % 500 == 0
    arrays = [rng.normal(size=(count, n)).astype(np.float32) for n in (OBSERVATION, ACTION, OBSERVATION)]
    reward = rng.normal(size=count).astype(np.float32)
    raw = RawData(arrays[0], arrays[1], reward, ends, np.zeros(count, dtype=bool), arrays[2], "local", TASK.name)
    return Windows(raw, make_segments(raw, TASK, horizon, 0.1), TASK, device)


def new_training(
    config: TrainConfig, data: Windows, device: torch.device, members: int = 7, width: int = 200
) -> TrainingState:
    """The state before the first step; `members` and `width` are of T̂ and R̂."""
    torch.manual_seed(0)
    header = {"action_dim": ACTION, "observation_dim": OBSERVATION, "horizon": data.horizon, "end_dim": 0}
    model = DiffusionModel({**vars(config), **header}, device)
    dynamics = DynamicsEnsemble(OBSERVATION, ACTION, members, width).to(device).requires_grad_(False)
    reward = RewardModel(OBSERVATION, ACTION, 1, width).to(device).requires_grad_(False)
    objective = Objective(config, model, dynamics if config.lambda_tr else None, reward if config.lambda_rd else None)
    return new_state(objective, data, torch.Generator(device).manual_seed(0))


def training_step(config: TrainConfig, data: Windows, device: torch.device, *sizes: int) -> Callable[[], object]:
    """A gradient step of this project, as the training loop takes it; `sizes` are `new_training`'s."""
    state = new_training(config, data, device, *sizes)
    return lambda: gradient_step(config, state)


def diffuser_step(folder: Path, device: torch.device, **changes: Any) -> Callable[[], object]:
    """A batch of 32 by Diffuser's own model: half of its gradient step, which accumulates two.

    Args:
        folder: a clone of its repository.
        device: where it trains.
        changes: of its settings, beside the horizon and K.
    """
    torch.manual_seed(0)
    sizes = {"horizon": -(-HORIZON // 8) * 8, "n_diffusion_steps": STEPS} | changes  # it fails on other horizons
    model = diffusion(folder, OBSERVATION, ACTION, device, **sizes)
    average = copy.deepcopy(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)
    batches = torch.randn(16, 32, sizes["horizon"], OBSERVATION + ACTION, device=device)
    count = 0

    def step() -> None:
        nonlocal count
        batch = batches[count % len(batches)]
        loss, _ = model.loss(batch, {0: batch[:, 0, ACTION:]})
        (loss / 2).backward()
        count += 1
        if count % 2 == 0:
            optimiser.step()
            optimiser.zero_grad()
        if count % 20 == 0:
            for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                ours.data = ours.data * 0.995 + 0.005 * theirs.data

    return step


def eq8(device: torch.device) -> tuple[Callable[[], object], Callable[[], object]]:
    """Eq. 8 for one trajectory: by the literal loop for one k (half of K), and by one batched call for every k."""
    torch.manual_seed(0)
    header = {"action_dim": ACTION, "observation_dim": OBSERVATION, "horizon": HORIZON, "end_dim": 0}
    model = DiffusionModel({**vars(PLAIN), **header, "predict": "epsilon"}, device).requires_grad_(False)
    tau0, noise = torch.randn(2, 1, HORIZON, OBSERVATION + ACTION, device=device)
    process, levels = model.process, torch.arange(STEPS, device=device)
    coefficients = process.betas / ((1 - process.alphas_cumprod) * process.alphas_cumprod).sqrt()

    def literal() -> None:
        estimate = tau0 + process.noise_ratio[STEPS // 2 - 1] * noise
        for i in range(STEPS // 2):
            k = levels[i : i + 1]
            estimate = estimate - coefficients[i] * model.network(process.q_sample(tau0, k, noise), k)

    def batched() -> None:
        tau = process.q_sample(tau0[:, None], levels[None], noise[:, None])
        denoise_chain(process, tau0, noise, model.network(tau[0], levels)[None], "paper")

    return literal, batched


def measure(cases: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, taken in turns so that what disturbs the machine disturbs all."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 2):
        for name, run in cases.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first turns compile and warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP a second of a square product."""
    a = torch.randn(2048, 2048, device=device).to(dtype)
    seconds = measure({"product": lambda: a @ a}, 7, device)["product"]
    return float(2 * 2048**3 / seconds)


def flops(config: TrainConfig, horizon: int = HORIZON) -> float:
    """FLOP of a plain training step, forward and backward."""
    cpu = torch.device("cpu")
    run = training_step(config, windows(cpu, horizon), cpu)
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def peak_memory(device: torch.device) -> float:
    """GiB: of the tensors on a GPU, otherwise of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def of_params(rounds: int, device: torch.device) -> None:
    """Print the time of a gradient step under params.yaml, by what is in its loss."""
    params = load_params(Path("params.yaml"))
    plain, modulated = (TrainConfig.resolve(params, TASK, get_method(name)) for name in ("diffuser", "dmemm"))
    horizon, sizes = params["horizon"]["locomotion"]["hopper"], (params["ensemble_members"], params["mechanism_width"])
    data = windows(device, horizon)
    cases = {
        "plain": training_step(plain, data, device),
        "with the transition loss": training_step(replace(plain, lambda_tr=modulated.lambda_tr), data, device, *sizes),
        "DMEMM": training_step(modulated, data, device, *sizes),
    }
    seconds = measure(cases, rounds, device)
    seconds["products of the plain step, float32"] = flops(plain, horizon) / matrix_rate(torch.float32, device)
    print(
        f"| {plain.network}, horizon {horizon}, batches of {plain.batch_size} | ms | / plain |\n| --- | ---: | ---: |"
    )
    for case, value in seconds.items():
        print(f"| {case} | {1000 * value:.2f} | {value / seconds['plain']:.2f} |")
    print()


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffuser", type=Path, help="a clone of github.com/jannerm/diffuser")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    device = choose_device()
    data = windows(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}\n")
    of_params(20 * arguments.rounds, device)
    chained_config = replace(MODULATED, denoise="ddim")
    training_step(chained_config, data, device)()  # before all else, so that the process' peak is this step's
    print(f"peak memory of a modulated step (ddim, K = {STEPS}, batch size 32): {peak_memory(device):.2f} GiB\n")
    cases = {
        "plain": training_step(PLAIN, data, device),
        "plain, 100 evaluations": training_step(replace(PLAIN, batch_size=100), data, device),
        "modulated, tweedie": training_step(replace(MODULATED, batch_size=100), data, device),
        "modulated, ddim (one plan, 100 levels)": training_step(replace(chained_config, batch_size=100), data, device),
    }
    cases["eq. 8, literal loop, one k"], cases["eq. 8, batched, every k"] = eq8(device)
    peer = "Diffuser's own, eager"
    if arguments.diffuser:
        cases[peer] = diffuser_step(arguments.diffuser, device)
    seconds = measure(cases, arguments.rounds, device)
    print("| case | ms |\n| --- | ---: |")
    for case, value in seconds.items():
        print(f"| {case} | {1000 * value:.1f} |")
    plain, equal = seconds["plain"], seconds["plain, 100 evaluations"]
    print("\n| ratio | |\n| --- | ---: |")
    print(f"| modulated (tweedie) / plain, equal evaluations | {seconds['modulated, tweedie'] / equal:.2f} |")
    chained = seconds["modulated, ddim (one plan, 100 levels)"]
    print(f"| modulated (ddim) / plain, equal evaluations | {chained / equal:.2f} |")
    speedup = STEPS * seconds["eq. 8, literal loop, one k"] / seconds["eq. 8, batched, every k"]
    print(f"| literal eq. 8 for every k / batched | {speedup:.0f} |")
    if arguments.diffuser:
        print(f"| Diffuser's own / plain, batch 32 | {seconds[peer] / plain:.2f} |")
    work = flops(PLAIN)
    for dtype in (torch.float32, torch.bfloat16):
        floor = work / matrix_rate(dtype, device)
        print(f"| plain / floor in {str(dtype)[6:]} ({1000 * floor:.1f} ms) | {plain / floor:.2f} |")


if __name__ == "__main__":
    main()
