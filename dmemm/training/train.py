"""Train a diffusion model (algorithm 2)."""

import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dmemm.config import TrainConfig
from dmemm.data.raw import read_raw, same_data
from dmemm.data.segments import read_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.errors import UserError
from dmemm.files import write_csv, write_json
from dmemm.inputs import Inputs
from dmemm.methods import Method
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, load_mechanism
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.training.captured import Captured, adam, set_learning_rate
from dmemm.training.checkpoint import TrainingState, fingerprint

CHECKPOINT_SECONDS = 60.0  # between two checkpoints: what a killed training loses at most
_ROWS = 100  # of the loss curve
_AVERAGE_EVERY = 10  # steps between updates of the averaged weights; an update's decay covers all of these steps
_COLUMNS = ("step", "total", "wdiff", "tr", "rd")  # a term that a variant's loss lacks is empty


def train(
    method: Method,
    task: Task,
    config: TrainConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
    curve: Path,
    report: Path,
) -> None:
    """Run the stage: write the averaged weights, the curve of the losses, and what the training took.

    The same seed gives the same weights on the same machine with the same number of threads, also when the training
    was killed in between: the next run goes on from a checkpoint beside `output`.

    Raises:
        UserError: a file is missing or damaged, the files are not of the same raw data, or the loss is not finite.
    """
    objective, windows = load_objective(task, config, seed, inputs)
    model, device = objective.model, choose_device()
    generator = torch.Generator(device).manual_seed(seed)
    settings = {"task": task.name, "seed": seed, **asdict(config), "device": device.type}
    paths = [inputs.need("raw"), inputs.need("segments"), inputs.dynamics, inputs.reward]
    identity = fingerprint(settings, paths, __name__)
    # Beside the output, and no output itself: Snakemake deletes a failed job's outputs before it starts it again.
    checkpoint = output.with_suffix(".checkpoint.safetensors")
    rows, seconds = _run(objective, windows, generator, checkpoint, identity, f"train {task.name} seed {seed}")
    model.save(output)
    write_csv(curve, _COLUMNS, rows)
    record = {"task": task.name, "variant": method.name, "seed": seed, "steps": config.train_steps}
    write_json(report, {**record, "parameters": model.parameter_count, "seconds": round(seconds, 1)})
    checkpoint.unlink(missing_ok=True)
    figures = ", ".join(f"{name} {rows[-1][name]:.4f}" for name in _COLUMNS[1:] if name in rows[-1])
    print(f"train {task.name} seed {seed}: {config.train_steps} steps, {figures} → {output}")


def load_objective(task: Task, config: TrainConfig, seed: int, inputs: Inputs) -> tuple[Objective, Windows]:
    """Return eq. 12 of a new network, and the windows that it is trained on.

    Raises:
        UserError: a file is missing or damaged, or the files are not of the same raw data.
    """
    device = choose_device()
    raw_path, segments_path = inputs.need("raw"), inputs.need("segments")
    raw, segments = read_raw(raw_path), read_segments(segments_path)
    segments.require(segments_path, raw, raw_path)
    torch.manual_seed(seed)
    model = DiffusionModel(
        {
            "task": task.name,
            "data": raw.digest,
            "action_dim": raw.actions.shape[1],
            "observation_dim": raw.observations.shape[1],
            "horizon": segments.horizon,
            "end_dim": task.end_dim,
            **asdict(config),
        },
        device,
    )
    model.set_normaliser(segments.normaliser)
    windows = Windows(raw, segments, task, device)
    kinds = {"dynamics": DynamicsEnsemble, "reward": RewardModel}
    mechanisms: dict[str, Any] = dict.fromkeys(kinds)
    for name in config.models(task):
        mechanisms[name] = load_mechanism(kinds[name], path := inputs.need(name))
        same_data(path, mechanisms[name].header["data"], raw_path, raw.digest)
    return Objective(config, model, **mechanisms), windows


def _learning_rate(config: TrainConfig, step: int) -> float:
    """Of the given step, counted from 1: a cosine from `learning_rate` to zero."""
    return config.learning_rate * (1 + math.cos(math.pi * (step - 1) / config.train_steps)) / 2


def new_state(objective: Objective, windows: Windows, generator: torch.Generator) -> TrainingState:
    """The state before the first step; on a GPU the network is compiled, unless it is an MLP."""
    objective.model.compile_network()
    parameters: list[torch.Tensor] = list(objective.model.network.parameters())
    optimiser = adam(parameters, objective.config.learning_rate)

    def descend() -> None:
        terms = objective.terms(windows.draw(objective.plans_per_step, generator), generator)
        optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        optimiser.step()
        state.add(terms)

    average = [p.detach().clone() for p in parameters]
    state = TrainingState(parameters, average, optimiser, generator, Captured(descend, generator))
    return state


def gradient_step(config: TrainConfig, state: TrainingState) -> None:
    """One step of algorithm 2: draw plans, descend eq. 12, move the average. Nothing here waits for a GPU."""
    state.step += 1
    set_learning_rate(state.optimiser, _learning_rate(config, state.step))
    state.descend()
    with torch.no_grad():
        passed = state.step % _AVERAGE_EVERY or _AVERAGE_EVERY
        if passed == _AVERAGE_EVERY or state.step == config.train_steps:
            # The decay is small at first; otherwise, a short training's average would keep much of the random start.
            decay = min(config.ema_decay, state.step / (state.step + 10))
            torch._foreach_lerp_(state.average, state.parameters, 1 - decay**passed)


def _run(
    objective: Objective,
    windows: Windows,
    generator: torch.Generator,
    checkpoint: Path,
    identity: str,
    name: str,
) -> tuple[list[dict[str, float]], float]:
    """The training loop: leaves the averaged weights in the model, returns the loss curve's rows and the seconds."""
    config, state = objective.config, new_state(objective, windows, generator)
    if state.resume(checkpoint, identity):
        print(f"{name}: goes on from step {state.step} of {checkpoint}", file=sys.stderr)
    bar = progress(config.train_steps, name, state.step)
    interval = max(1, config.train_steps // _ROWS)
    saved = time.monotonic()
    start = saved - state.seconds
    for step in range(state.step + 1, config.train_steps + 1):
        gradient_step(config, state)
        if step % interval == 0 or step == config.train_steps:
            count = step - (state.rows[-1]["step"] if state.rows else 0)
            state.rows.append(
                {"step": step, **{term: float(value) / count for term, value in state.take_sums().items()}}
            )
            bar.set_postfix(loss=f"{state.rows[-1]['total']:.4f}", refresh=False)
            if not (math.isfinite(state.rows[-1]["total"]) and state.is_finite()):
                kept = f" ({checkpoint} keeps the last good state)" if checkpoint.exists() else ""
                raise UserError(
                    f"{name}: the loss is not finite at step {step}; lower learning_rate or lambda_tr{kept}"
                )
        if time.monotonic() - saved >= CHECKPOINT_SECONDS and state.is_finite():
            state.seconds = time.monotonic() - start
            state.save(checkpoint, identity)
            saved = time.monotonic()
        bar.update()
    bar.close()
    with torch.no_grad():
        torch._foreach_copy_(state.parameters, state.average)
    return state.rows, time.monotonic() - start
