"""The stages of the pipeline: what each reads, the parameters that it reads them with, and what its result comes from.

A stage works for a task, some stages also for a method. Rules ask here for their inputs and parameters, so that a job
depends on just the files and values of its own task and method.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

from dmemm.config import (
    CalibrateConfig,
    DownloadConfig,
    DynamicsConfig,
    EvaluateConfig,
    Params,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    StageConfig,
    ValueConfig,
    acting_config,
    training_config,
)
from dmemm.inputs import PATHS
from dmemm.methods import Method, get_method
from dmemm.tasks import Task
from workflow.code import digest

MODULES = {
    "download": "dmemm.data.download",
    "segment": "dmemm.data.segments",
    "dynamics": "dmemm.training.mechanisms",
    "reward": "dmemm.training.mechanisms",
    "value": "dmemm.training.mechanisms",
    "plan_value": "dmemm.training.plan_value",
    "evaluate": "dmemm.evaluation.evaluate",
    "consistency": "dmemm.evaluation.consistency",
    "calibrate": "dmemm.evaluation.calibrate",
    "pictures": "dmemm.evaluation.pictures",
}
CONFIGS: dict[str, type[StageConfig]] = {
    "download": DownloadConfig,
    "segment": SegmentConfig,
    "dynamics": DynamicsConfig,
    "reward": RewardConfig,
    "value": ValueConfig,
    "plan_value": PlanValueConfig,
    "calibrate": CalibrateConfig,
    "pictures": EvaluateConfig,
}
READS = {
    "download": (),
    "segment": ("raw",),
    "dynamics": ("raw",),
    "reward": ("raw",),
    "value": ("raw",),
    "plan_value": ("raw", "segments", "value"),
    "train": ("raw",),
    "evaluate": ("model", "statistics"),
    "consistency": ("model", "raw", "segments", "dynamics"),
    "calibrate": ("model", "statistics"),
    "pictures": ("model",),
}
MADE_BY = {"raw": "download", "statistics": "download", "segments": "segment", "model": "train"}
# Parameters of acting that these stages do not read.
IDLE = {
    "consistency": ("episodes", "candidates", "replan_every", "warm_start", "execute"),
    "calibrate": ("episodes",),
    "pictures": ("episodes",),
}
# Stages that act in the environment, or ask where its episodes end.
ACTING = ("evaluate", "consistency", "calibrate", "pictures")


class Pipeline:
    """The stages under the parameters of params.yaml.

    Args:
        params: the parameters.
        tasks: all tasks, by name.
    """

    def __init__(self, params: Params, tasks: Mapping[str, Task]) -> None:
        """Compute nothing yet."""
        self.params, self.tasks = params, tasks
        self._origins: dict[tuple[str, str, str | None], str] = {}

    def config(self, stage: str, task: str, method: str | None = None) -> StageConfig:
        """Return the parameters of a job."""
        of_method = None if method is None else get_method(method)
        kind = CONFIGS.get(stage)
        if kind is None:
            assert of_method is not None
            kind = training_config(of_method) if stage == "train" else acting_config(of_method)
        return kind.resolve(self.params, self.tasks[task], of_method)

    def settings(self, stage: str, task: str, method: str | None = None) -> list[str]:
        """Return the parameters that a job reads as `--set` takes them: `key=value`, or `key.suite=value`."""
        of_task = self.tasks[task]
        read = self.config(stage, task, method).read_for(of_task).items()
        by_suite = {key for key, value in self.params.items() if isinstance(value, Mapping) and of_task.suite in value}
        return [
            assignment(f"{key}.{of_task.suite}" if key in by_suite else key, value)
            for key, value in read
            if key not in IDLE.get(stage, ())
        ]

    def reads(self, stage: str, task: str, method: str | None = None) -> list[str]:
        """Return the names of the files that a job reads, as in PATHS."""
        names = READS[stage]
        if method is not None and stage == "train" and get_method(method).is_planner:
            names = (*names, "segments")
        return list(dict.fromkeys((*names, *self.config(stage, task, method).models_read(self.tasks[task]))))

    def inputs(self, stage: str, task: str, method: str | None = None, seed: str = "") -> dict[str, str]:
        """Return the files that a job reads: name → path."""
        network = None if method is None else get_method(method).network
        values = {"task": self.tasks[task].data_task, "method": network, "seed": seed}
        return {name: PATHS[name].format(**values) for name in self.reads(stage, task, method)}

    def origin(self, stage: str, task: str, method: str | None = None) -> str:
        """Return a digest of all that a job's result comes from, but for the contents of the user's own files.

        It covers the job's parameters, the code that it runs, the task, and the origins of the files that it reads.
        Recorded with the job, it makes a change rerun what it affects even if a file in between is missing.
        """
        if (job := (stage, task, method)) not in self._origins:
            of_method = None if method is None else get_method(method)
            behind = []
            for name in self.reads(stage, task, method):
                maker = MADE_BY.get(name, name)
                network = of_method.network if of_method is not None and maker == "train" else None
                behind.append(self.origin(maker, self.tasks[task].data_task, network))
            identity = {key: value for key, value in vars(self.tasks[task]).items() if key != "parameters"}
            if of_method is not None:
                identity |= {key: self.tasks[task].parameters.get(key) for key in of_method.own}
            parts = [*self.settings(stage, task, method), code(stage, of_method), _text(identity), *behind]
            self._origins[job] = digest_of(parts)
        return self._origins[job]


def digest_of(parts: Iterable[str]) -> str:
    """Return a short digest of texts in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def code(stage: str, method: Method | None = None) -> str:
    """Return the digest of the code that a stage runs."""
    if method is None or stage in ("calibrate", "pictures"):
        return digest(MODULES[stage])
    implementation = (method.implementation,) if method.implementation else ()
    own = (method.trainer,) if stage == "train" else (MODULES[stage], method.actor)
    return digest(*own, *implementation)


def own_files(stage: str, task: Task, method: Method | None = None) -> list[str]:
    """Return the user's own files that a job depends on: the recording, and the modules that the task file names."""
    if stage == "download":
        return [str(Path(own).expanduser())] if (own := task.data.get("own")) else []
    if stage in ACTING or (stage == "train" and method is not None and method.simulates):
        named = (name.partition(":") for name in (task.env, task.terminal))
        modules = [module for module, colon, _ in named if colon and module.partition(".")[0] != "dmemm"]
        files = [f"{module.replace('.', '/')}.py" for module in modules]
        return [file for file in dict.fromkeys(files) if Path(file).is_file()]  # others are installed packages
    return []


@cache
def content(path: str) -> str:
    """Return a digest of a file's content, independent of its times; empty if it is missing."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def assignment(key: str, value: Any) -> str:
    """Return `key=value` as `--set` reads it. Mappings are sorted, so equal values give equal text."""
    return f"{key}={value if isinstance(value, str) else _text(value)}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=dict)


def gpus() -> int:
    """Return the number of devices that jobs on this machine may use; they queue for them. 0: all run on the CPU."""
    if device := os.environ.get("DMEMM_DEVICE"):
        return int(device != "cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(name.strip() not in ("", "-1") for name in visible.split(","))
    return len(glob("/dev/nvidia[0-9]*")) or len(glob("/dev/dxg"))  # which Windows' Linux has in their place
