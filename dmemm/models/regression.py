"""Stages 3 and 4: train a mechanism by regression, with bootstrap, hold-out and early stopping."""

import csv
import math
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dmemm.config import DynamicsConfig, RewardConfig
from dmemm.data.raw import RawData, read_raw
from dmemm.data.segments import fit_normalisers
from dmemm.device import choose_device
from dmemm.errors import UserError
from dmemm.files import replacing, write_json
from dmemm.models.mechanisms import DynamicsEnsemble, Mechanism, RewardModel, mechanism_state
from dmemm.models.storage import load_weights, save_weights
from dmemm.progress import progress
from dmemm.tasks import Task

_BATCH = 256
_LEARNING_RATE = 5e-3
_HELD_OUT = 0.1  # share of the transitions that no member is trained on
_HELD_OUT_MAX = 10_000

AnyMechanism = TypeVar("AnyMechanism", bound=Mechanism)


def train_dynamics(task: Task, config: DynamicsConfig, raw_path: Path, output: Path, report: Path, curve: Path) -> None:
    """Run stage 3."""
    _write(*fit_dynamics(task, read_raw(raw_path), config), task, output, report, curve)


def train_reward(task: Task, config: RewardConfig, raw_path: Path, output: Path, report: Path, curve: Path) -> None:
    """Run stage 4."""
    _write(*fit_reward(task, read_raw(raw_path), config), task, output, report, curve)


def fit_dynamics(
    task: Task, raw: RawData, config: DynamicsConfig, seed: int = 0
) -> tuple[DynamicsEnsemble, dict[str, Any]]:
    """T̂ learns s' - s, by the likelihood of a Gaussian; returned with its report's figures."""
    s, a, s_next, _ = _normalised(raw, task)
    torch.manual_seed(seed)
    model = DynamicsEnsemble(s.shape[1], a.shape[1], config.ensemble_members, config.mechanism_width)
    return model, _fit(model, s, a, s_next - s, config, f"dynamics {task.name}", seed)


def fit_reward(task: Task, raw: RawData, config: RewardConfig, seed: int = 0) -> tuple[RewardModel, dict[str, Any]]:
    """R̂ learns r by least squares; returned with its report's figures."""
    s, a, _, r = _normalised(raw, task)
    torch.manual_seed(seed)
    model = RewardModel(s.shape[1], a.shape[1], 1, config.mechanism_width)
    return model, _fit(model, s, a, r, config, f"reward {task.name}", seed)


def _normalised(raw: RawData, task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    actions, observations = fit_normalisers(raw, task)
    return (
        torch.as_tensor(observations.normalise(raw.observations)),
        torch.as_tensor(actions.normalise(raw.actions)),
        torch.as_tensor(observations.normalise(raw.next_observations)),
        torch.as_tensor(raw.rewards)[:, None],
    )


def _fit(
    model: Mechanism,
    s: Tensor,
    a: Tensor,
    target: Tensor,
    config: DynamicsConfig | RewardConfig,
    name: str,
    seed: int,
) -> dict[str, Any]:
    """Train all members at once; keep each one's weights of its best epoch; return the report's figures."""
    device = choose_device()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(s), generator=generator)
    held_out = min(_HELD_OUT_MAX, max(1, int(_HELD_OUT * len(s))))
    if len(s) - held_out < 1:
        raise UserError(f"{name}: {len(s)} transitions are too few to hold one out; use more data")
    test, rest = order[:held_out], order[held_out:]
    # Each member sees its own resample of the training transitions.
    draws = torch.randint(len(rest), (model.members, len(rest)), generator=generator)
    samples = (rest[draws] if model.members > 1 else rest[None]).to(device)

    model.target_mean.copy_(target[rest].mean(dim=0))
    deviation = target[rest].std(dim=0, correction=0)
    model.target_scale.copy_(torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation)))
    model.to(device)
    s, a = s.to(device), a.to(device)
    target = (target.to(device) - model.target_mean) / model.target_scale
    test = test.to(device)[None].expand(model.members, -1)

    optimiser = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE, fused=True)
    best = torch.full((model.members,), math.inf, device=device)
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    batches = math.ceil(len(rest) / _BATCH)
    stale = epochs = 0
    curve: list[float] = []
    for _ in progress(range(config.mechanism_epochs), name):
        shuffled = samples[:, torch.randperm(len(rest), generator=generator).to(device)]
        for batch in shuffled.tensor_split(batches, dim=1):
            loss = model.loss(s[batch], a[batch], target[batch]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            losses = model.held_out_loss(s[test], a[test], target[test])
            better = losses < best
            best = torch.where(better, losses, best)
            for copy, parameter in zip(kept, model.parameters(), strict=True):
                copy[better] = parameter[better]
        epochs += 1
        curve.append(round(float(losses.mean()), 6))
        stale = 0 if better.any() else stale + 1
        if stale >= config.mechanism_patience:
            break
    if not torch.isfinite(best).all():
        raise UserError(f"{name}: the held-out loss is not finite; look for outliers in the data")
    with torch.no_grad():
        for copy, parameter in zip(kept, model.parameters(), strict=True):
            parameter.copy_(copy)
        mean = model.outputs(s[test], a[test])[..., : target.shape[-1]]
        errors = (mean - target[test]).square().mean(dim=(1, 2)).sqrt()
    return {
        "epochs": epochs,
        "steps_an_epoch": batches,
        "training_transitions": len(rest),
        "held_out_transitions": held_out,
        # Of each member, in units of the target's standard deviation.
        "held_out_loss": [round(float(x), 6) for x in best],
        "held_out_rmse": [round(float(x), 6) for x in errors],
        "curve": curve,  # the members' mean held-out loss after each epoch
    }


def _write(model: Mechanism, figures: dict[str, Any], task: Task, output: Path, report: Path, curve: Path) -> None:
    save_weights(output, *mechanism_state(model))
    loss = "negative log-likelihood per dimension" if isinstance(model, DynamicsEnsemble) else "mean squared error"
    with replacing(curve) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "held_out_loss"])
        steps = figures["steps_an_epoch"]
        writer.writerows((steps * epoch, value) for epoch, value in enumerate(figures.pop("curve"), start=1))
    write_json(report, {"task": task.name, "loss": loss, **figures})
    rmse = sum(figures["held_out_rmse"]) / model.members
    print(f"{task.name}: held-out error {rmse:.4f} of the target's deviation, {figures['epochs']} epochs → {output}")


def load_mechanism(kind: type[AnyMechanism], path: Path) -> AnyMechanism:
    """Load a trained mechanism, frozen, on the chosen device."""
    tensors, header = load_weights(path, kind.__name__)
    sizes = {name: header[name] for name in ("observation_dim", "action_dim", "members", "width")}
    model = kind(**sizes)
    model.load_state_dict(tensors)
    return model.requires_grad_(False).eval().to(choose_device())
