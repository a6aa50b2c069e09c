"""The registry of methods: for every column of a table, what trains it, what it reads and what acts.

DMEMM, its ablations and Diffuser are one planner with some parameters fixed. Every other method is a module of this
package with a function `train` and a class `Policy` (see `dmemm.methods.base`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dmemm.errors import UserError
from dmemm.inputs import Inputs
from dmemm.tasks import Task

if TYPE_CHECKING:
    from dmemm.config import StageConfig

Fixed = Mapping[str, float | str | bool]


@dataclass(frozen=True)
class Method:
    """A method of the tables.

    Attributes:
        name: name in paths and in params.yaml.
        label: name in the tables.
        trainer: module whose `train` runs the training.
        actor: module whose `load` returns what acts in the environment.
        fixed: parameter → value. Replaces the value in params.yaml, on which the method then does not depend.
        network: method whose trained weights this one uses; by default its own.
        implementation: module of the policy; empty for variants of the planner.
        plans: whether the method plans states, which `consistency` compares with what happens.
        by_d3rlpy: whether training needs the environment of `make methods`.
        simulates: whether training calls the task's termination function.
        own: parameters of the task's own file that the method reads.
    """

    name: str
    label: str
    trainer: str
    actor: str
    fixed: Fixed = field(default_factory=dict)
    network: str = ""
    implementation: str = ""
    plans: bool = False
    by_d3rlpy: bool = False
    simulates: bool = False
    own: tuple[str, ...] = ()

    @property
    def is_planner(self) -> bool:
        """Whether the method is a variant of the diffusion planner."""
        return not self.implementation

    @property
    def trained(self) -> bool:
        """Whether the method has its own weights."""
        return self.network == self.name


def _planner(name: str, label: str, fixed: Fixed, network: str = "") -> Method:
    return Method(
        name, label, "dmemm.training.train", "dmemm.planning.planner", fixed, network=network or name, plans=True
    )


def _policy(name: str, label: str, own: tuple[str, ...] = (), **kind: bool) -> Method:
    base = "dmemm.methods.base"
    return Method(name, label, base, base, {}, name, f"dmemm.methods.{name}", own=own, **kind)


# Without the losses of eqs. 9 and 10.
_UNMODULATED: Fixed = {
    "lambda_tr": 0.0,
    "lambda_rd": 0.0,
    "reward_loss": False,
    "denoise": "tweedie",
    "modulation_weight": "uniform",
}
# The ensemble neither guides plans nor selects among them.
_UNGUIDED: Fixed = {"lambda_guide": 0.0, "veto": 0.0, "model_rollout": False}
_DIFFUSER: Fixed = {**_UNMODULATED, **_UNGUIDED, "weighting": False, "objective": "plan_value"}

# What the methods of two levels read: the horizon if the task has a goal.
_LEVELS = ("termination_penalty", "horizon")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _planner("diffuser", "Diffuser", _DIFFUSER),
        _planner("dmemm", "DMEMM", {}),
        _planner("wo_weighting", "w/o weighting", {"weighting": False}),
        _planner("wo_lambda_tr", "w/o λ_tr", {"lambda_tr": 0.0}),
        _planner("wo_lambda_rd", "w/o λ_rd", {"lambda_rd": 0.0, "reward_loss": False}),
        _planner("wo_tr_guide", "w/o transition guide", _UNGUIDED, network="dmemm"),
        _planner("wo_modulation", "w/o modulation", {}, network="diffuser"),
        _planner("only_weighting", "weighting only", {**_UNMODULATED, **_UNGUIDED}),
        _policy("bc", "BC", by_d3rlpy=True),
        _policy("bcq", "BCQ", by_d3rlpy=True),
        _policy("bear", "BEAR", by_d3rlpy=True),
        _policy("cql", "CQL", by_d3rlpy=True),
        _policy("dt", "DT", by_d3rlpy=True),
        _policy("dv", "DV", _LEVELS),
        _policy("hd", "HD-DA", _LEVELS, plans=True),
        _policy("hdmi", "HDMI", _LEVELS, plans=True),
        _policy("iql", "IQL", by_d3rlpy=True),
        _policy("morel", "MOReL", simulates=True),
        _policy("mppi", "MPPI", ("termination_penalty",), plans=True),
        _policy("rebrac", "ReBRAC", by_d3rlpy=True),
        _policy("rvs", "RvS"),
        _policy("td3bc", "TD3+BC", by_d3rlpy=True),
        _policy("tt", "TT", ("termination_penalty",), plans=True),
    )
}
# The columns of Table 3 beside DMEMM, and those that `methods` of params.yaml may add to Tables 1 and 2.
ABLATIONS = tuple(name for name, method in METHODS.items() if method.is_planner and name not in ("diffuser", "dmemm"))
POLICIES = tuple(name for name, method in METHODS.items() if not method.is_planner)

# Names of Figure 1's points, which fix one weight, and of the study's settings: Diffuser that predicts the sample or
# the noise, trained plainly or with L_tr added to its loss.
POINT = r"lambda_(?:tr|rd)=[0-9.eE+-]+"
STUDY = r"(?:sample|epsilon)-(?:plain|(?:paper|ddim|tweedie)-(?:uniform|snr)-[0-9.eE+-]+)"


def get_method(name: str) -> Method:
    """Look up a method by its name; `lambda_tr=VALUE` and `lambda_rd=VALUE` are the points of Figure 1.

    Raises:
        UserError: there is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    try:
        if re.fullmatch(POINT, name):
            key, _, value = name.partition("=")
            return _planner(name, name, {key: _weight(value)})
        if re.fullmatch(STUDY, name):
            # Not guided, so that only the training differs.
            return _planner(name, name, {**_DIFFUSER, "alpha": 0.0, **_studied(*name.split("-", 1))})
    except ValueError:
        pass
    raise UserError(f"{name}: unknown method; choose one of {', '.join(METHODS)}, lambda_tr=VALUE or lambda_rd=VALUE")


def load_actor(method: Method, task: Task, config: "StageConfig", seed: int, inputs: Inputs) -> Any:
    """Load what acts in the environment: a `dmemm.planning.rollout.Actor`.

    Raises:
        UserError: a file is missing, damaged or belongs to another method.
    """
    return import_module(method.actor).load(method, task, config, seed, inputs)


def _studied(predict: str, rest: str) -> dict[str, float | str | bool]:
    if rest == "plain":
        return {"predict": predict}
    denoise, modulation_weight, value = rest.split("-", 2)
    return {"predict": predict, "denoise": denoise, "modulation_weight": modulation_weight, "lambda_tr": _weight(value)}


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value
