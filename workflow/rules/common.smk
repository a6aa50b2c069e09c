# Parameters, wildcards and helpers of every rule.
import os
import re
import sys
from pathlib import Path

from dmemm.config import CalibrateConfig, DownloadConfig, DynamicsConfig, EpisodesConfig, EvaluateConfig, MethodConfig
from dmemm.config import PlanValueConfig, RewardConfig, SegmentConfig, TrainConfig, ValueConfig
from dmemm.errors import UserError
from dmemm.methods import METHODS, PLANNING
from dmemm.tasks import get_task, task_names
from dmemm.variants import VARIANTS, Variant
from workflow import run_lock
from workflow.stages import SUITES, assignments, fixed_assignments, gpus, growing, load, named_files

# Not `configfile:`, whose YAML takes 3e-05 (as DVC writes it) for a string and reports errors with a traceback.
try:
    if workflow.config_settings.overwrite_config:
        raise UserError("--config and --configfile are not taken: params.yaml is the only source; edit it")
    config.update(load(Path("params.yaml")))
    TASKS = {name: get_task(name) for name in task_names()}
    if workflow.is_main_process:
        run_lock.begin(workflow.output_settings.dryrun)
except UserError as error:
    sys.exit(f"snakemake: {error}")

# Jobs call `python`: the one that runs Snakemake, whether or not its environment is activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# What a stage with a network asks for. The machine's own devices are counted; a cluster's profile says how many at once.
GPU = int(os.environ.get("DMEMM_DEVICE") != "cpu")
if gpus() and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", gpus())

TASK = "tasks/{task}.yaml"
RAW = "data/raw/{task}.hdf5"
STATISTICS = "results/data/{task}.json"
SEGMENTS = "data/segments/{task}.h5"
DYNAMICS = "results/models/{task}/dynamics.safetensors"
REWARD = "results/models/{task}/reward.safetensors"
# What guides plans without a goal: all of it is an input, whatever `objective` takes.
VALUES = {
    "value": "results/models/{task}/value.safetensors",
    "plan_value": "results/models/{task}/plan_value.safetensors",
}
GUIDED_BY = {
    "locomotion": (VALUES, " --value {input.value} --plan-value {input.plan_value}"),
    "maze": ({}, ""),
}


# What each suite's rules take for a task: those with data of their own.
OF_SUITE = {
    suite: "|".join(
        re.escape(name) for name, task in TASKS.items() if task.suite == suite and task.protocol != "multi2d"
    )
    for suite in SUITES
}
ROWS = [name for suite in SUITES for name in config["tasks"][suite]]


wildcard_constraints:
    task="|".join(OF_SUITE.values()),
    maze="|".join(task.body for task in TASKS.values() if task.protocol == "multi2d"),
    seed=r"0|[1-9]\d*",
    value=r"[0-9.eE+-]+",


def argument(text):
    """A path's pattern as it stands in a command."""
    return text.replace("{", "{wildcards.")


def caption(stem):
    return f"../report/{stem.partition('/')[0]}.rst"


def table_outputs(stem, label):
    """A table in its formats, of which the report shows the page."""
    page = report(
        f"results/{stem}.html", caption=caption(stem), category="Tables", labels={"table": label}
    )
    return {"csv": f"results/{stem}.csv", "markdown": f"results/{stem}.md", "html": page, "latex": f"results/{stem}.tex"}


def figure_outputs(stem, label):
    """A figure in its formats, of which the report shows the PNG."""
    png = report(
        f"results/{stem}.png", caption=caption(stem), category="Figures", labels={"figure": label}
    )
    return {"png": png, "pdf": f"results/{stem}.pdf"}
