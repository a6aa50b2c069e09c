"""Stages 3 and 4: train a mechanism by regression, with bootstrap and hold-out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import DynamicsConfig, RewardConfig, ValueConfig
from dmemm.data.raw import RawData, episode_slices, read_raw
from dmemm.data.segments import fit_normalisers, hold_out
from dmemm.device import choose_device
from dmemm.errors import UserError
from dmemm.files import write_csv, write_json
from dmemm.models.mechanisms import DynamicsEnsemble, Mechanism, RewardModel, ValueModel
from dmemm.progress import progress
from dmemm.tasks import Task

_BATCH = 256
# Adam's, decayed to zero along a cosine. T̂ and R̂ learn the more in few epochs, the higher it is, until they diverge at
# four times this; V̂ overfits the noise of its returns.
_LEARNING_RATE = 2e-2
_VALUE_LEARNING_RATE = 1e-2
_HELD_OUT = 0.1  # share of the transitions that no member is trained on
_HELD_OUT_MAX = 10_000
_VISITED = 100_000  # places that T̂ keeps at most, spread evenly over the data
_EPISODES = 10  # from which V̂ holds out whole episodes, whose states share their returns
_ROUNDS = 3  # of V̂'s fit


def train_dynamics(
    task: Task, config: DynamicsConfig, seed: int, raw_path: Path, output: Path, report: Path, curve: Path
) -> None:
    """Run stage 3."""
    raw = read_raw(raw_path)
    model, figures = fit_dynamics(task, raw, config, seed)
    if task.has_goal:  # where plans are to keep to the places that T̂ knows
        some = raw.observations[:: math.ceil(len(raw.observations) / _VISITED)]
        _, normaliser = fit_normalisers(raw, task)
        model.remember(torch.as_tensor(normaliser.normalise(some)[:, : task.goal_dim]))
    _write(model, figures, task, output, report, curve)


def train_reward(
    task: Task, config: RewardConfig, seed: int, raw_path: Path, output: Path, report: Path, curve: Path
) -> None:
    """Run stage 4."""
    _write(*fit_reward(task, read_raw(raw_path), config, seed), task, output, report, curve)


def train_value(
    task: Task, config: ValueConfig, seed: int, raw_path: Path, output: Path, report: Path, curve: Path
) -> None:
    """Run stage 4 for V̂.

    Raises:
        UserError: the task has a goal, which the data's returns do not take into account.
    """
    if task.has_goal:
        raise UserError(f"{task.name}: has a goal, which is in its plans; `value` is for tasks without one")
    _write(*fit_value(task, read_raw(raw_path), config, seed), task, output, report, curve)


def fit_dynamics(
    task: Task, raw: RawData, config: DynamicsConfig, seed: int
) -> tuple[DynamicsEnsemble, dict[str, Any]]:
    """T̂ learns s' - s, by the likelihood of a Gaussian, where s' is known; returned with its report's figures."""
    known = torch.as_tensor(raw.has_successor)
    s, a, s_next = (x[known] for x in _normalised(raw, task)[:3])
    torch.manual_seed(seed)
    model = DynamicsEnsemble(s.shape[1], a.shape[1], config.ensemble_members, config.mechanism_width)
    model.header |= {"task": task.name, "data": raw.digest}
    return model, _fit(model, s, a, s_next - s, config, f"dynamics {task.name} seed {seed}", seed)


def fit_reward(task: Task, raw: RawData, config: RewardConfig, seed: int) -> tuple[RewardModel, dict[str, Any]]:
    """R̂ learns r by least squares; returned with its report's figures."""
    s, a, _, r = _normalised(raw, task)
    torch.manual_seed(seed)
    model = RewardModel(s.shape[1], a.shape[1], 1, config.mechanism_width)
    model.header |= {"task": task.name, "data": raw.digest}
    return model, _fit(model, s, a, r, config, f"reward {task.name} seed {seed}", seed)


def fit_value(task: Task, raw: RawData, config: ValueConfig, seed: int) -> tuple[ValueModel, dict[str, Any]]:
    """V̂ learns `returns_to_go` by least squares; returned with its report's figures.

    Where an episode is cut off, V̂ itself stands for the rest of the return (partial-episode bootstrapping, Pardo et
    al., 2018). For this, the fit is repeated: the first round assumes the mean reward for ever after a cut, and each
    later round uses the V̂ of the round before. Only the last round fits all members.
    """
    s, _, s_next, r = _normalised(raw, task)
    slices = episode_slices(raw.ended)
    held_out = hold_out(slices, _HELD_OUT) if len(slices) >= _EPISODES else None
    last = slices[:, 1] - 1
    beyond = np.full(len(last), float(r.mean()) / (1 - config.discount))
    for turn in range(_ROUNDS):
        torch.manual_seed(seed)
        members = config.ensemble_members if turn == _ROUNDS - 1 else 1
        model = ValueModel(s.shape[1], 0, members, config.mechanism_width)
        target = torch.as_tensor(returns_to_go(raw, config.discount, config.termination_penalty, beyond))
        name = f"value {task.name} seed {seed}, round {turn + 1} of {_ROUNDS}"
        figures = _fit(model, s, s[:, :0], target[:, None].float(), config, name, seed, held_out, _VALUE_LEARNING_RATE)
        beyond = value_beyond(model, s_next[last])
    model.header |= {"task": task.name, "data": raw.digest}
    model.between_episodes.fill_(between_episodes(target.numpy(), slices))
    share = round(float(model.between_episodes), 4)
    kind = "transitions" if held_out is None else "episodes"
    return model, {"held_out": kind, "rounds": _ROUNDS, "between_episodes": share, **figures}


def between_episodes(values: NDArray[np.float64], slices: NDArray[np.int64]) -> float:
    """The share of the values' variance that the episode explains, 1 - (variance within episodes) / variance.

    Args:
        values: shape (N,).
        slices: shape (episodes, 2), where each episode starts and ends.
    """
    within = sum(float(np.square(values[a:b] - values[a:b].mean()).sum()) for a, b in slices)
    total = float(np.square(values - values.mean()).sum())
    return 1 - within / total if total > 0 else 0.0


def value_beyond(model: ValueModel, s: Tensor) -> NDArray[np.float64]:
    """V̂ of normalised states (n, Ds) in the rewards' own units, shape (n,)."""
    with torch.no_grad():
        values = model.restore(model.expected(s.to(model.target_mean.device)))
    return values.double().cpu().numpy()


def returns_to_go(raw: RawData, discount: float, penalty: float, beyond: NDArray[np.float64]) -> NDArray[np.float64]:
    """The discounted return from each transition to its episode's end, G_t = Σ_{i≥t} γ^{i-t} r_i.

    Args:
        raw: the data.
        discount: γ.
        penalty: added to the last reward of an episode that terminates, as Diffuser does.
        beyond: shape (episodes,), the return after the last transition of each episode; used only if it is cut off.

    Returns:
        Shape (N,).
    """
    returns = raw.rewards.astype(np.float64)
    for (start, end), value in zip(episode_slices(raw.ended), beyond, strict=True):
        returns[end - 1] += penalty if raw.terminals[end - 1] else discount * value
        for t in range(end - 2, start - 1, -1):
            returns[t] += discount * returns[t + 1]
    return returns


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
    held_out: NDArray[np.bool_] | None = None,
    learning_rate: float = _LEARNING_RATE,
) -> dict[str, Any]:
    """Train all members at once; keep each one's weights of its best epoch; return the report's figures.

    Random transitions are held out, or those of `held_out` (N,).
    """
    device = choose_device()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(s), generator=generator)
    if held_out is None:
        count = min(_HELD_OUT_MAX, max(1, int(_HELD_OUT * len(s))))
        test, rest = order[:count], order[count:]
    else:
        chosen = torch.as_tensor(held_out)[order]
        test, rest = order[chosen][:_HELD_OUT_MAX], order[~chosen]
    if len(rest) < 1:
        raise UserError(f"{name}: {len(s)} transitions are too few to hold one out; use more data")
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

    batches = math.ceil(len(rest) / _BATCH)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.mechanism_epochs * batches)
    best = torch.full((model.members,), math.inf, device=device)
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    curve: list[float] = []
    for _ in progress(range(config.mechanism_epochs), name):
        shuffled = samples[:, torch.randperm(len(rest), generator=generator).to(device)]
        for batch in shuffled.tensor_split(batches, dim=1):
            loss = model.loss(s[batch], a[batch], target[batch]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            losses = model.held_out_loss(s[test], a[test], target[test])
            better = losses < best
            best = torch.where(better, losses, best)
            for copy, parameter in zip(kept, model.parameters(), strict=True):
                copy[better] = parameter[better]
        curve.append(round(float(losses.mean()), 6))
    if not torch.isfinite(best).all():
        raise UserError(f"{name}: the held-out loss is not finite; look for outliers in the data")
    with torch.no_grad():
        for copy, parameter in zip(kept, model.parameters(), strict=True):
            parameter.copy_(copy)
        mean = model.outputs(s[test], a[test])[..., : target.shape[-1]]
        errors = (mean - target[test]).square().mean(dim=(1, 2)).sqrt()
    return {
        "epochs": config.mechanism_epochs,
        "steps_an_epoch": batches,
        "training_transitions": len(rest),
        "held_out_transitions": test.shape[1],
        # Of each member, in units of the target's standard deviation.
        "held_out_loss": [round(float(x), 6) for x in best],
        "held_out_rmse": [round(float(x), 6) for x in errors],
        "curve": curve,  # the members' mean held-out loss after each epoch
    }


def _write(model: Mechanism, figures: dict[str, Any], task: Task, output: Path, report: Path, curve: Path) -> None:
    model.save(output)
    loss = "negative log-likelihood per dimension" if isinstance(model, DynamicsEnsemble) else "mean squared error"
    steps = figures["steps_an_epoch"]
    write_curve(curve, [(steps * epoch, value) for epoch, value in enumerate(figures.pop("curve"), start=1)])
    write_json(report, {"task": task.name, "loss": loss, **figures})
    rmse = sum(figures["held_out_rmse"]) / model.members
    share = ""
    if isinstance(model, ValueModel):
        share = f"; the episode explains {float(model.between_episodes):.1%} of its variance"
    print(f"{task.name}: held-out error {rmse:.4f} of the target's deviation{share} → {output}")


def write_curve(path: Path, rows: Sequence[tuple[int, float]]) -> None:
    """Write a learning curve, CSV: the gradient step and the held-out loss after it."""
    write_csv(path, ("step", "held_out_loss"), ({"step": step, "held_out_loss": round(loss, 6)} for step, loss in rows))
