"""Stage 4: train the value of noisy plans, as Diffuser trains the model that guides it."""

import math
from pathlib import Path

import torch
from torch import Tensor

from dmemm.config import PlanValueConfig
from dmemm.data.raw import RawData, episode_slices, read_raw, same_data
from dmemm.data.segments import Segments, fit_normalisers, read_segments
from dmemm.data.windows import Windows
from dmemm.device import choose_device
from dmemm.diffusion.conditioning import Conditioning
from dmemm.diffusion.process import Process
from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.models.mechanisms import ValueModel, load_mechanism
from dmemm.models.plan_value import PlanValue
from dmemm.progress import progress
from dmemm.tasks import Task
from dmemm.training.captured import Captured, adam
from dmemm.training.mechanisms import returns_to_go, value_beyond, write_curve

_BATCH = 256
_LEARNING_RATE = 1e-3  # Adam, decayed to zero along a cosine
_HELD_OUT_MAX = 2048  # windows
_ROWS = 20  # of the curve


def train_plan_value(
    task: Task,
    config: PlanValueConfig,
    seed: int,
    *,
    raw_path: Path,
    segments_path: Path,
    value_path: Path,
    output: Path,
    report: Path,
    curve: Path,
) -> None:
    """Run the stage: write the weights, a report of the held-out errors and their curve.

    Raises:
        UserError: the task has a goal, or the files do not belong together.
    """
    if task.has_goal:
        raise UserError(f"{task.name}: has a goal, which is in its plans; `plan-value` is for tasks without one")
    raw, segments = read_raw(raw_path), read_segments(segments_path)
    value = load_mechanism(ValueModel, value_path)
    segments.require(segments_path, raw, raw_path)
    same_data(value_path, value.header["data"], raw_path, raw.digest)
    targets = window_returns(task, raw, config, value)
    model, rows = fit_plan_value(task, raw, segments, targets, config, seed)
    model.save(output)
    write_curve(curve, [(step, noisy) for step, _, noisy in rows])
    steps, clean, noisy = rows[-1]
    figures = {"steps": steps, "held_out_rmse_clean": round(clean**0.5, 6), "held_out_rmse": round(noisy**0.5, 6)}
    held_out = {"held_out_windows": int(segments.held_out.sum())}
    write_json(report, {"task": task.name, "loss": "mean squared error", **held_out, **figures})
    print(
        f"plan-value {task.name} seed {seed}: held-out error {clean**0.5:.4f} of the return's deviation at clean "
        f"plans, {noisy**0.5:.4f} over all levels of noise → {output}"
    )


def window_returns(task: Task, raw: RawData, config: PlanValueConfig, value: ValueModel) -> Tensor:
    """What a window starting at each transition is worth, shape (N,): V̂'s own target, with V̂ at the cuts."""
    last = episode_slices(raw.ended)[:, 1] - 1
    _, observations = fit_normalisers(raw, task)
    beyond = value_beyond(value, torch.as_tensor(observations.normalise(raw.next_observations[last])))
    returns = returns_to_go(raw, config.discount, config.termination_penalty, beyond)
    return torch.as_tensor(returns, dtype=torch.float32)


def fit_plan_value(
    task: Task, raw: RawData, segments: Segments, returns: Tensor, config: PlanValueConfig, seed: int
) -> tuple[PlanValue, list[tuple[int, float, float]]]:
    """Learn the returns (N,) of the windows by least squares, each noised to a random level.

    Returns:
        The network and, along training, (step, held-out squared error of clean windows, the same over all levels).
    """
    device = choose_device()
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    windows = Windows(raw, segments, task, device)
    action_dim, dim = raw.actions.shape[1], raw.actions.shape[1] + raw.observations.shape[1]
    sizes = {"horizon": segments.horizon, "transition_dim": dim, "diffusion_steps": config.diffusion_steps}
    model = PlanValue({"task": task.name, "data": raw.digest, **sizes}).to(device)
    trained = torch.as_tensor(~segments.held_out, device=device)
    returns = returns.to(device)[torch.as_tensor(segments.starts, device=device)]
    model.target_mean.copy_(returns[trained].mean())
    model.target_scale.copy_(returns[trained].std(correction=0).clamp(min=1e-8))
    targets = (returns - model.target_mean) / model.target_scale
    process = Process(config.diffusion_steps, device)
    conditioning = Conditioning.of(segments.horizon, action_dim, dim, 0, device)

    def loss(index: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
        tau = windows.batch(index).tau
        noise = torch.randn(tau.shape, generator=generator, device=device)
        noisy = conditioning.apply(process.q_sample(tau, k, noise), tau)
        return (model(noisy, k) - targets[index]).square().mean()

    def held_out_loss() -> tuple[float, float]:
        """Of clean plans and over all levels; the same windows and the same noise every time."""
        fixed = torch.Generator(device).manual_seed(seed)
        index = torch.nonzero(~trained if segments.held_out.any() else trained)[:, 0]
        index = index[torch.randperm(len(index), generator=fixed, device=device)[:_HELD_OUT_MAX]]
        k = torch.randint(config.diffusion_steps, (len(index),), generator=fixed, device=device)
        with torch.no_grad():
            clean = (model(windows.batch(index).tau, torch.zeros_like(k)) - targets[index]).square().mean()
            return clean.item(), loss(index, k, fixed).item()

    drawn_from = torch.nonzero(trained)[:, 0]
    optimiser = adam(list(model.parameters()), _LEARNING_RATE)
    steps = config.plan_value_steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def descend() -> None:
        drawn = torch.randint(len(drawn_from), (_BATCH,), generator=generator, device=device)
        k = torch.randint(config.diffusion_steps, (_BATCH,), generator=generator, device=device)
        optimiser.zero_grad(set_to_none=True)
        loss(drawn_from[drawn], k, generator).backward()
        optimiser.step()

    gradient_step = Captured(descend, generator)
    rows: list[tuple[int, float, float]] = []
    for step in progress(range(1, steps + 1), f"plan-value {task.name} seed {seed}"):
        gradient_step()
        schedule.step()
        if step % max(1, steps // _ROWS) == 0 or step == steps:
            rows.append((step, *held_out_loss()))
    if not all(math.isfinite(error) for row in rows for error in row):
        raise UserError(f"plan-value {task.name}: the held-out loss is not finite; look for outliers in the data")
    return model.requires_grad_(False).eval(), rows
