"""The guide that the parameters ask for, made of the models that it needs."""

from dmemm.config import EvaluateConfig
from dmemm.diffusion.guidance import Guide
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.outcome import Outcome
from dmemm.errors import UserError
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.models.plan_value import PlanValue
from dmemm.tasks import Task
from dmemm.terminations import termination

_NEEDS = {
    "reward": ("reward",), "return": ("reward", "value"), "value": ("value",), "plan_value": ("plan-value",),
}  # fmt: skip


def needed(task: Task, config: EvaluateConfig) -> tuple[str, ...]:
    """The stages whose models the objective needs; none with a goal, which is in the plan."""
    return () if task.has_goal else _NEEDS[config.objective]


def make_guide(
    task: Task,
    config: EvaluateConfig,
    model: DiffusionModel,
    dynamics: DynamicsEnsemble | None,
    reward: RewardModel | None,
    value: ValueModel | None,
    plan_value: PlanValue | None,
) -> Guide:
    """Make the guide of `model`'s plans.

    Raises:
        UserError: a model is missing that the objective, transition guidance or the veto needs, or J is of other plans.
    """
    if (config.lambda_guide > 0 or config.veto > 0) and dynamics is None:
        raise UserError(
            "--dynamics: transition guidance and the veto need it; give the weights that `dmemm dynamics` wrote"
        )
    given = {"reward": reward, "value": value, "plan-value": plan_value}
    for name in needed(task, config):
        if given[name] is None:
            raise UserError(
                f"--{name}: objective {config.objective} needs it; give the weights that `dmemm {name}` wrote"
            )
    action_dim = model.action_dim
    if task.has_goal:  # the data's reward knows its own goals only
        return Guide(action_dim, None, dynamics, config.lambda_guide, config.veto)
    if config.objective == "plan_value":
        assert plan_value is not None
        theirs, ours = (
            {key: header[key] for key in ("horizon", "diffusion_steps")} for header in (plan_value.header, model.header)
        )
        if theirs != ours:
            raise UserError(f"--plan-value: trained on plans with {theirs}, not {ours}; run `dmemm plan-value` again")
        return Guide(action_dim, None, dynamics, config.lambda_guide, config.veto, plan_value)
    ended = termination(task, model.center[action_dim:], model.scale[action_dim:])
    outcome = Outcome(config.objective, reward, value, config.discount, config.termination_penalty, ended)
    return Guide(action_dim, outcome, dynamics, config.lambda_guide, config.veto)
