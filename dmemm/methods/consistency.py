"""Are another method's plans possible?"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dmemm.evaluation.consistency import HeldOut, write_record
from dmemm.methods.base import load_policy
from dmemm.models.mechanisms import DynamicsEnsemble
from dmemm.models.regression import load_mechanism
from dmemm.tasks import Task

Array = NDArray[np.float32]


def method_consistency(
    task: Task,
    method: str,
    seed: int,
    *,
    model_path: Path,
    dynamics_path: Path,
    raw_path: Path,
    segments_path: Path,
    output: Path,
) -> None:
    """Run the stage: as `dmemm.evaluation.consistency`, from the very same states, against the very same ensemble."""
    policy = load_policy(task, method, seed, model_path)
    dynamics = load_mechanism(DynamicsEnsemble, dynamics_path).to(policy.center.device)

    def plan(observations: Array, goals: Array | None) -> Array:
        with torch.no_grad():
            plans = policy.plan(policy.normalise(observations), policy.normalise_goals(goals))
        values: Array = (plans * policy.scale + policy.center).cpu().numpy()
        return values

    held_out = HeldOut(task, dynamics, raw_path, segments_path, seed)
    for path, header in ((model_path, policy.header), (dynamics_path, dynamics.header)):
        held_out.require(path, header["data"])
    write_record(task, method, seed, held_out.compare(plan), output)
