"""Are the plans possible? Transition errors of generated plans, against T̂ and against the simulator.

All errors are ‖s_{t+1} - ŝ_{t+1}‖², squared and summed over the state as in eq. 9, in the units of the normalised data.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dmemm.config import EvaluateConfig, TrainConfig
from dmemm.data.raw import read_raw
from dmemm.data.segments import read_segments
from dmemm.data.windows import Batch, Windows
from dmemm.device import choose_device
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.envs import GOAL_RADIUS, MAZES, is_free, make_env, set_state_from_observation
from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.models.mechanisms import DynamicsEnsemble
from dmemm.planning.planner import load_planner
from dmemm.tasks import Task

Array = NDArray[np.float32]

_STARTS = 64  # held-out windows whose first state (in mazes also the last) is planned from
_PLANS = 4  # drawn from each
_LOSS_WINDOWS = 2048  # of the held-out diffusion loss


def consistency(
    task: Task,
    variant: str,
    config: EvaluateConfig,
    seed: int,
    *,
    model_path: Path,
    dynamics_path: Path,
    reward_path: Path,
    raw_path: Path,
    segments_path: Path,
    output: Path,
) -> None:
    """Run the stage: plan from held-out states as `evaluate` does, and compare what is planned with what happens."""
    device = choose_device()
    raw, segments = read_raw(raw_path), read_segments(segments_path)
    held_out = np.flatnonzero(segments.held_out & (task.has_goal | (segments.lengths == segments.horizon)))
    if len(held_out) == 0:
        raise UserError(f"{segments_path}: no held-out windows to plan from; raise held_out or use more data")
    config = replace(config, candidates=1)
    planner = load_planner(task, config, seed, model=model_path, reward=reward_path, dynamics=dynamics_path)
    model, dynamics = planner.model, planner.dynamics
    assert dynamics is not None
    windows = Windows(raw, segments, task, device)
    rng = np.random.default_rng(seed)

    def draw(count: int) -> Batch:
        return windows.batch(torch.as_tensor(rng.choice(held_out, count, replace=count > len(held_out)), device=device))

    data = draw(_STARTS)
    action_dim = model.action_dim
    tau = (data.tau * model.scale + model.center).cpu().numpy()
    first = np.repeat(tau[:, 0, action_dim:], _PLANS, axis=0)
    goals = np.repeat(tau[:, -1, action_dim : action_dim + task.goal_dim], _PLANS, axis=0) if task.has_goal else None
    plans = planner.plan(first, goals)
    planned = np.concatenate([plans.actions, plans.states], axis=-1)

    states = torch.as_tensor(plans.states, device=device) - model.center[action_dim:]
    states = (states / model.scale[action_dim:]).view(_STARTS, _PLANS, model.horizon, -1)[:, :, 1:]
    data_states = data.tau[:, 1:, action_dim:]
    result: dict[str, Any] = {
        "task": task.name,
        "variant": variant,
        "seed": seed,
        "data_source": raw.data_source,
        "plans": len(planned),
        "diffusion_loss": _diffusion_loss(model, draw(_LOSS_WINDOWS), seed),
        **_errors(task, model, dynamics, planned),
        # Deviation over all plans against that of the windows they start from: a collapse shows here.
        "spread": float((_deviation(states.flatten(0, 1)) / _deviation(data_states)).item()),
        # Deviation among the plans of one start.
        "diversity": float(states.var(dim=1).mean().sqrt().item()),
        "data": _errors(task, model, dynamics, tau),
    }
    write_json(output, result)
    against = ("model", "simulator") if result["simulator_error"] is not None else ("model",)
    errors = ", ".join(
        f"{result[f'{name}_error']:.5f} against the {name} (data {result['data'][f'{name}_error']:.5f})"
        for name in against
    )
    print(f"consistency {task.name} {variant} seed {seed}: transition error {errors} → {output}")


def _deviation(states: torch.Tensor) -> torch.Tensor:
    return states.var(dim=0).mean().sqrt()


def _diffusion_loss(model: DiffusionModel, batch: Batch, seed: int) -> float:
    """The plain loss of eq. 5, in the units of what the network predicts: compare networks that predict alike."""
    config = TrainConfig(**{field.name: model.header[field.name] for field in fields(TrainConfig)})
    objective = Objective(replace(config, weighting=False, first_action_weight=1.0), model, None, None)
    with torch.no_grad():
        return objective.terms(batch, torch.Generator(batch.tau.device).manual_seed(seed))["wdiff"].item()


def _errors(task: Task, model: DiffusionModel, dynamics: DynamicsEnsemble, tau: Array) -> dict[str, Any]:
    """Errors of plans (or of the data's own windows), shape (n, horizon, dim) in the environment's units."""
    action_dim = model.action_dim
    actions, states = tau[..., :action_dim], tau[..., action_dim:]
    scale = model.scale[action_dim:].cpu().numpy()
    with torch.no_grad():
        normalised = (torch.as_tensor(tau, device=model.center.device) - model.center) / model.scale
        s, a = normalised[..., action_dim:], normalised[..., :action_dim]
        by_model = (s[:, 1:] - dynamics(s[:, :-1], a[:, :-1])).square().sum(-1).cpu().numpy()
    counted = _en_route(states) if task.is_maze else np.ones(by_model.shape, dtype=bool)
    if not counted.any():
        raise UserError(f"{task.name}: every plan starts at its goal; there is no transition to measure")
    errors: dict[str, Any] = {
        "transitions": int(counted.sum()),
        "model_error": float(by_model[counted].mean()),
        "model_error_median": float(np.median(by_model[counted])),
        "simulator_error": None,
        "simulator_error_median": None,
        "open_loop_error": None,
        "outside": _outside(task, states) if task.is_maze else None,
    }
    if task.protocol == "own":  # how its simulator is put into an observed state is not known
        return errors
    one_step, open_loop = simulate(task, actions, states)
    by_simulator = (((states[:, 1:] - one_step) / scale) ** 2).sum(-1)[counted]
    drift = (((states[:, 1:] - open_loop[:, 1:]) / scale) ** 2).sum(-1)
    return errors | {
        "simulator_error": float(by_simulator.mean()),
        "simulator_error_median": float(np.median(by_simulator)),
        # Of the states that the planned actions lead to from the planned first state: the mean after each step.
        "open_loop_error": [
            float(drift[counted[:, t], t].mean()) for t in range(drift.shape[1]) if counted[:, t].any()
        ],
    }


def _en_route(states: Array) -> NDArray[np.bool_]:
    """The transitions of a maze plan before it is at its goal, shape (n, horizon - 1).

    The windows that the network learns from rest at their goal at once, which no ball can: those steps are no
    transitions, of the data or of a plan.
    """
    away = np.linalg.norm(states[..., :2] - states[:, -1:, :2], axis=-1) > GOAL_RADIUS
    return np.logical_and.accumulate(away, axis=1)[:, 1:]


def _outside(task: Task, states: Array) -> float:
    """Share of maze plans with a state inside a wall."""
    free = is_free(np.array(MAZES[task.body]), states[..., :2].reshape(-1, 2)).reshape(states.shape[:2])
    return float((~free).any(axis=1).mean())


def simulate(task: Task, actions: Array, states: Array) -> tuple[Array, Array]:
    """Execute plans in the simulator.

    Args:
        task: names the environment.
        actions: shape (n, horizon, action_dim).
        states: shape (n, horizon, observation_dim), all in the environment's units.

    Returns:
        The state after each planned action from the planned state before it, shape (n, horizon - 1, observation_dim),
        and the states that the planned actions lead to from the first, shape of `states`.
    """
    env = make_env(task)
    one_step, open_loop = np.empty_like(states[:, 1:]), states.copy()
    space = env.action_space
    assert isinstance(space, Box)
    actions = np.clip(actions, space.low, space.high)
    step = env.unwrapped.step  # plans are executed to their end, past a fall or the episode's limit
    try:
        env.reset(seed=0)
        for n in range(len(states)):
            for t in range(states.shape[1] - 1):
                set_state_from_observation(env, states[n, t])
                one_step[n, t] = step(actions[n, t])[0]
            set_state_from_observation(env, states[n, 0])
            for t in range(states.shape[1] - 1):
                open_loop[n, t + 1] = step(actions[n, t])[0]
    finally:
        env.close()
    return one_step, open_loop
