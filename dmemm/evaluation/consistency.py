"""Are the plans feasible? Transition errors of generated plans, against T̂ and against the simulator.

All errors are ‖s_{t+1} - ŝ_{t+1}‖², squared and summed over the state as in eq. 9, in the units of the normalised data.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from dmemm.config import EpisodesConfig, EvaluateConfig, TrainConfig
from dmemm.data.normaliser import Normaliser
from dmemm.data.raw import read_raw, same_data
from dmemm.data.segments import read_segments
from dmemm.data.windows import Batch, Windows
from dmemm.device import choose_device
from dmemm.diffusion.guidance import transition_errors
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.objective import Objective
from dmemm.envs import MAZES, at_goal, is_free, make_env, set_state_from_observation
from dmemm.errors import UserError
from dmemm.files import write_json
from dmemm.inputs import Inputs
from dmemm.methods import METHODS, Method, load_actor
from dmemm.models.mechanisms import DynamicsEnsemble, load_mechanism
from dmemm.models.storage import rebuilding
from dmemm.tasks import Task

Array = NDArray[np.float32]

_STARTS = 64  # number of held-out windows to plan from
_PLANS = 4  # plans drawn from each
_LOSS_WINDOWS = 2048  # windows for the held-out diffusion loss


def consistency(
    method: Method,
    task: Task,
    config: EvaluateConfig | EpisodesConfig,
    seed: int,
    inputs: Inputs,
    *,
    output: Path,
) -> None:
    """Run the stage: plan from held-out states, and compare the plans with T̂ and the simulator.

    Plans are drawn like the candidates of `evaluate`, with the same guide, but without selection and veto. Selection by
    T̂'s errors would lower these errors for any network, and the four plans of a start would not be independent.

    Raises:
        UserError: the method does not plan states, or a file is missing, damaged or of other data.
    """
    if not method.plans:
        planning = ", ".join(name for name, other in METHODS.items() if other.plans)
        raise UserError(f"{method.name}: does not plan states; choose one of {planning}")
    if isinstance(config, EvaluateConfig):
        config = replace(config, candidates=1)
    actor = load_actor(method, task, config, seed, inputs)
    dynamics = load_mechanism(DynamicsEnsemble, inputs.need("dynamics"))
    raw_path, segments_path = inputs.need("raw"), inputs.need("segments")
    raw, segments = read_raw(raw_path), read_segments(segments_path)
    segments.require(segments_path, raw, raw_path)
    header = actor.model.header if method.is_planner else actor.header
    for name, data in (("model", header["data"]), ("dynamics", dynamics.header["data"])):
        same_data(inputs.need(name), data, raw_path, raw.digest)
    held_out = np.flatnonzero(segments.held_out & (task.has_goal | (segments.lengths == segments.horizon)))
    if len(held_out) == 0:
        raise UserError(f"{segments_path}: no held-out windows to plan from; raise held_out or use more data")
    windows, rng = Windows(raw, segments, task, choose_device()), np.random.default_rng(seed)

    def draw(count: int) -> Batch:
        """Draw held-out windows, without replacement if there are enough."""
        chosen = rng.choice(held_out, count, replace=count > len(held_out))
        return windows.batch(torch.as_tensor(chosen, device=choose_device()))

    measured = compare(task, segments.normaliser, dynamics, draw(_STARTS).tau, actor.plan_from)
    measured = {"task": task.name, "variant": method.name, "seed": seed, "data_source": raw.data_source, **measured}
    if method.is_planner:
        with rebuilding(inputs.need("model")):
            trained = TrainConfig(**{field.name: header[field.name] for field in fields(TrainConfig)})
        measured["diffusion_loss"] = _diffusion_loss(actor.model, trained, draw(_LOSS_WINDOWS), seed)
    write_json(output, measured)
    against = ("model", "simulator") if measured["simulator_error"] is not None else ("model",)
    parts = ", ".join(
        f"{measured[f'{name}_error']:.5f} against the {name} (data {measured['data'][f'{name}_error']:.5f})"
        for name in against
    )
    print(f"consistency {task.name} {method.name} seed {seed}: transition error {parts} → {output}")


def compare(
    task: Task,
    normaliser: Normaliser,
    dynamics: DynamicsEnsemble,
    windows: Tensor,
    plan: Callable[[Array, Array | None], Array],
) -> dict[str, Any]:
    """Make plans from the first states (and to the last places) of windows, and measure plans and windows.

    Args:
        task: the task.
        normaliser: of the windows.
        dynamics: T̂.
        windows: normalised, shape (_STARTS, horizon, Da + Ds).
        plan: maps observations (n, Ds) and goals (n, goal_dim) to plans `[actions, states]`, shape
            (n, horizon, Da + Ds), all in the environment's units.
    """
    action_dim, tau = dynamics.action_dim, normaliser.unnormalise(windows.cpu().numpy())
    goals = tau[:, -1, action_dim : action_dim + task.goal_dim] if task.has_goal else None
    each = None if goals is None else np.repeat(goals, _PLANS, axis=0)
    planned = plan(np.repeat(tau[:, 0, action_dim:], _PLANS, axis=0), each)
    states = normaliser.normalise(planned)[:, 1:, action_dim:]
    return {
        "plans": len(planned),
        **errors(task, normaliser, dynamics, planned, each),
        # Standard deviation over all plans, relative to that of the windows they start from: it shows a collapse.
        "spread": _deviation(states) / _deviation(normaliser.normalise(tau)[:, 1:, action_dim:]),
        # Standard deviation among the plans of one start.
        "diversity": float(np.sqrt(states.reshape(_STARTS, _PLANS, -1).var(axis=1, ddof=1).mean())),
        "data": errors(task, normaliser, dynamics, tau, goals),
    }


def _deviation(states: Array) -> float:
    return float(np.sqrt(states.var(axis=0, ddof=1).mean()))


def _diffusion_loss(model: DiffusionModel, config: TrainConfig, batch: Batch, seed: int) -> float:
    """Compute eq. 5's loss in units of the network's output: compare it among networks that predict the same."""
    objective = Objective(replace(config, weighting=False, first_action_weight=1.0), model, None, None)
    with torch.no_grad():
        return objective.terms(batch, torch.Generator(batch.tau.device).manual_seed(seed))["wdiff"].item()


def errors(
    task: Task, normaliser: Normaliser, dynamics: DynamicsEnsemble, tau: Array, goals: Array | None
) -> dict[str, Any]:
    """Measure plans (or windows of the data), shape (n, horizon, Da + Ds), in the environment's units.

    Transitions at a goal (n, goal_dim) are not counted.

    Raises:
        UserError: every plan starts at its goal.
    """
    action_dim = dynamics.action_dim
    actions, states = tau[..., :action_dim], tau[..., action_dim:]
    scale = normaliser.scale[action_dim:]
    with torch.no_grad():
        normalised = torch.as_tensor(normaliser.normalise(tau), device=dynamics.target_scale.device)
        by_model = transition_errors(normalised, action_dim, dynamics).cpu().numpy()
    counted = np.ones(by_model.shape, dtype=bool)
    if task.has_goal and goals is not None:
        counted = _en_route(task, states, goals, scale)
    if not counted.any():
        raise UserError(f"{task.name}: every plan starts at its goal; there is no transition to measure")
    found: dict[str, Any] = {
        "transitions": int(counted.sum()),
        "model_error": float(by_model[counted].mean()),
        "model_error_median": float(np.median(by_model[counted])),
        "simulator_error": None,
        "simulator_error_median": None,
        "open_loop_error": None,
        "outside": _outside(task, states) if task.is_maze else None,
    }
    if task.protocol == "own":  # a user's simulator cannot be set to an observed state
        return found
    one_step, open_loop = simulate(task, actions, states)
    by_simulator = (((states[:, 1:] - one_step) / scale) ** 2).sum(-1)[counted]
    drift = (((states[:, 1:] - open_loop[:, 1:]) / scale) ** 2).sum(-1)
    return found | {
        "simulator_error": float(by_simulator.mean()),
        "simulator_error_median": float(np.median(by_simulator)),
        # Mean error after each step of executing the planned actions from the planned first state.
        "open_loop_error": [
            float(drift[counted[:, t], t].mean()) for t in range(drift.shape[1]) if counted[:, t].any()
        ],
    }


def _en_route(task: Task, states: Array, goals: Array, scale: Array) -> NDArray[np.bool_]:
    """Return which transitions come before the plans reach their goals (n, goal_dim): bool, (n, horizon - 1).

    In training windows the state rests once the goal is reached, which no environment does. These steps are padding,
    both in the data and in plans.
    """
    away = ~at_goal(task, states[..., : task.goal_dim], goals[:, None], scale[: task.goal_dim])
    return np.logical_and.accumulate(away, axis=1)[:, 1:]


def _outside(task: Task, states: Array) -> float:
    """Return the share of maze plans with a state inside a wall."""
    free = is_free(np.array(MAZES[task.body]), states[..., :2].reshape(-1, 2)).reshape(states.shape[:2])
    return float((~free).any(axis=1).mean())


def simulate(task: Task, actions: Array, states: Array) -> tuple[Array, Array]:
    """Execute plans in the simulator.

    Args:
        task: the task, which names the environment.
        actions: shape (n, horizon, action_dim).
        states: shape (n, horizon, observation_dim). Both are in the environment's units.

    Returns:
        The state after each planned action when executed in the planned state, (n, horizon - 1, observation_dim); and
        the states when all actions are executed from the first planned state, shape of `states`.
    """
    env = make_env(task)
    one_step, open_loop = np.empty_like(states[:, 1:]), states.copy()
    space = env.action_space
    assert isinstance(space, Box)
    actions = np.clip(actions, space.low, space.high)
    step = env.unwrapped.step  # execute plans to their end, past a fall or the episode's limit
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
