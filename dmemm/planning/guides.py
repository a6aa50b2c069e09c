"""The guide that the parameters ask for, made of the models that it needs."""

from dmemm.config import EvaluateConfig
from dmemm.diffusion.guidance import Guide
from dmemm.diffusion.model import DiffusionModel
from dmemm.diffusion.outcome import Familiarity, Outcome
from dmemm.errors import UserError
from dmemm.models.mechanisms import DynamicsEnsemble, RewardModel, ValueModel
from dmemm.models.plan_value import PlanValue
from dmemm.tasks import Task
from dmemm.terminations import termination


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
    given = {"dynamics": dynamics, "reward": reward, "value": value, "plan_value": plan_value}
    for name in config.models(task):
        if given[name] is None:
            stage = name.replace("_", "-")
            needs = f"objective {config.objective} needs"
            if name == "dynamics":
                needs = "transition guidance, the veto and model_rollout need"
            raise UserError(f"--{stage}: {needs} it; give the weights that `dmemm {stage}` wrote")
    action_dim = model.action_dim
    if task.has_goal:  # the data's reward knows its own goals only
        familiarity = None
        if config.veto > 0:
            assert dynamics is not None
            if dynamics.visited.shape[1] != task.goal_dim:
                raise UserError(f"--dynamics: has no places of {task.name}'s data; run `dmemm dynamics` again")
            familiarity = Familiarity(dynamics.visited, config.veto)
        return Guide(action_dim, familiarity, dynamics, config.lambda_guide, config.veto)
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
    return Guide(action_dim, outcome, dynamics, config.lambda_guide, config.veto, rollout=config.model_rollout)
