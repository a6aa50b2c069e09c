"""Stage 5: train a variant's diffusion model (algorithm 2)."""

import csv
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch

from dmemm.config import TrainConfig
from dmemm.data.raw import read_raw
from dmemm.data.segments import read_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel
from dmemm.models.regression import AnyMechanism, load_mechanism
from dmemm.progress import progress
from dmemm.tasks import Task

_ROWS = 100  # of the loss curve


def train(
    task: Task,
    config: TrainConfig,
    seed: int,
    *,
    raw_path: Path,
    segments_path: Path,
    dynamics_path: Path | None,
    reward_path: Path | None,
    output: Path,
    curve: Path,
) -> None:
    """Run the stage: write the averaged weights and the curve of the losses.

    The same seed gives the same weights on the same machine with the same number of threads.
    """
    device = choose_device()
    raw, segments = read_raw(raw_path), read_segments(segments_path)
    if len(segments.starts) != len(raw.rewards):
        raise UserError(f"{segments_path}: was not made from {raw_path}; run `segment` again")
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = DiffusionModel(
        {
            "task": task.name,
            "action_dim": raw.actions.shape[1],
            "observation_dim": raw.observations.shape[1],
            "horizon": segments.horizon,
            "goal": task.is_maze,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()},
        },
        device,
    )
    model.set_normaliser(segments.normaliser)
    windows = Windows(raw, segments, task, device)
    objective = Objective(
        config,
        model,
        dynamics=_mechanism(DynamicsEnsemble, dynamics_path, "dynamics") if config.lambda_tr > 0 else None,
        reward=_mechanism(RewardModel, reward_path, "reward") if config.lambda_rd > 0 and config.reward_loss else None,
    )
    rows = _run(objective, windows, config, generator, f"train {task.name} seed {seed}")
    model.save(output)
    with replacing(curve) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[-1].keys())
        writer.writeheader()
        writer.writerows(rows)
    figures = ", ".join(f"{name} {rows[-1][name]:.4f}" for name in list(rows[-1])[1:])
    print(f"train {task.name} seed {seed}: {config.train_steps} steps, {figures} → {output}")


def _mechanism(kind: type[AnyMechanism], path: Path | None, name: str) -> AnyMechanism:
    if path is None:
        raise UserError(f"--{name}: this variant's loss needs it; give the weights that `dmemm {name}` wrote")
    return load_mechanism(kind, path)


def _run(
    objective: Objective, windows: Windows, config: TrainConfig, generator: torch.Generator, name: str
) -> list[dict[str, float]]:
    """The training loop; leaves the averaged weights in the model and returns the rows of the loss curve."""
    network = objective.model.network
    if next(network.parameters()).is_cuda:
        network.compile()
    parameters: list[torch.Tensor] = list(network.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.train_steps)
    interval = max(1, config.train_steps // _ROWS)
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), device=parameters[0].device))
    rows: list[dict[str, float]] = []
    for step in progress(range(1, config.train_steps + 1), name):
        terms = objective.terms(windows.draw(objective.plans_per_step, generator), generator)
        optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            # The average follows quickly at first: it would otherwise remember the random start of a short training.
            decay = min(config.ema_decay, step / (step + 10))
            torch._foreach_lerp_(average, parameters, 1 - decay)
            for term, value in terms.items():
                sums[term] += value.detach()
        if step % interval == 0 or step == config.train_steps:
            count = step - (rows[-1]["step"] if rows else 0)
            rows.append({"step": step, **{term: float(value) / count for term, value in sums.items()}})
            sums.clear()
            if not math.isfinite(rows[-1]["total"]):
                raise UserError(f"{name}: the loss is not finite at step {step}; lower learning_rate or lambda_tr")
    with torch.no_grad():
        torch._foreach_copy_(parameters, average)
    return rows
