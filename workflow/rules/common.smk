# Parameters, wildcards and helpers of every rule.
import os
import re
import sys
from pathlib import Path

from dmemm.config import DownloadConfig, DynamicsConfig, EvaluateConfig, RewardConfig, SegmentConfig, TrainConfig
from dmemm.errors import UserError
from dmemm.tasks import get_task, task_names
from dmemm.variants import VARIANTS, Variant
from workflow import run_lock
from workflow.imports import sources
from workflow.stages import assignments, gpus, load

# Not `configfile:`, whose YAML takes 3e-05 (as DVC writes it) for a string and reports errors with a traceback.
try:
    if workflow.config_settings.overwrite_config:
        raise UserError("--config and --configfile are not taken: params.yaml is the only source; edit it")
    config.update(load(Path("params.yaml")))
    if workflow.is_main_process:
        run_lock.begin(workflow.output_settings.dryrun)
except UserError as error:
    sys.exit(f"snakemake: {error}")

# Jobs call `python`: the one that runs Snakemake, whether or not its environment is activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

GPU = gpus()

TASKS = {name: get_task(name) for name in task_names()}
TASK = "tasks/{task}.yaml"
RAW = "data/raw/{task}.hdf5"
STATISTICS = "results/data/{task}.json"
SEGMENTS = "data/segments/{task}.h5"
DYNAMICS = "results/models/{task}/dynamics.safetensors"
REWARD = "results/models/{task}/reward.safetensors"


wildcard_constraints:
    task="|".join(re.escape(name) for name, task in TASKS.items() if task.protocol != "multi2d"),
    maze="|".join(task.body for task in TASKS.values() if task.protocol == "multi2d"),
    seed=r"0|[1-9]\d*",
    value=r"[0-9.eE+-]+",


def argument(text):
    """A path's pattern as it stands in a command."""
    return text.replace("{", "{wildcards.")
