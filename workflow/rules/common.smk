# Parameters, wildcards and helpers of every rule.
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from dmemm import run_lock
from dmemm.errors import UserError
from dmemm.inputs import PATHS
from dmemm.methods import ABLATIONS, METHODS, POINT, STUDY, get_method
from dmemm.tasks import get_task, task_names
from workflow import parameters, record
from workflow.code import digest
from workflow.pipeline import Pipeline, assignment, content, digest_of, gpus, own_files

# Not `configfile:`, whose YAML takes 3e-05 (as DVC writes it) for a string and reports errors with a traceback.
try:
    if workflow.config_settings.overwrite_config:
        raise UserError("--config and --configfile are not taken: params.yaml is the only source; edit it")
    config.update(parameters.load(Path("params.yaml")))
    TASKS = {name: get_task(name) for name in task_names()}
    if workflow.is_main_process:
        if not workflow.output_settings.dryrun:
            run_lock.begin()
        record.prepare(workflow.output_settings.dryrun)
except UserError as error:
    sys.exit(f"snakemake: {error}")

# Jobs call `python`: the one that runs Snakemake, whether or not its environment is activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

# GPUs that a job with a network requests. Locally, the devices are counted; on a cluster, the profile limits them.
GPU = int(os.environ.get("DMEMM_DEVICE") != "cpu")
if gpus() and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", gpus())

PIPELINE = Pipeline(config, TASKS)
# Rows of the tables: tasks with data of their own.
ROWS = [*config["tasks"]["locomotion"], *config["tasks"]["maze"]]
COLUMNS = [*config["methods"], "diffuser", "dmemm"]
# Patterns of tasks: with data and networks of their own; without a goal.
WITH_DATA = "|".join(re.escape(name) for name, task in TASKS.items() if task.data_task == name)
WITHOUT_GOAL = "|".join(re.escape(name) for name, task in TASKS.items() if not task.has_goal)


def methods(wanted=lambda method: True):
    """A pattern of the methods that are wanted, and of all points of Figure 1 and settings of the study."""
    return "|".join([*(name for name, method in METHODS.items() if wanted(method)), POINT, STUDY])


wildcard_constraints:
    task="|".join(map(re.escape, TASKS)),
    method=methods(),
    seed=r"0|[1-9]\d*",


def own(stage, wildcards):
    """The user's own files that a job depends on."""
    method = wildcards.get("method")
    return own_files(stage, TASKS[wildcards.task], method and get_method(method))


def inputs(stage):
    """The files of a job, by name; `own`: those of the user."""

    def of_job(wildcards):
        files = PIPELINE.inputs(stage, wildcards.task, wildcards.get("method"), wildcards.get("seed", ""))
        return files | {"own": own(stage, wildcards)}

    return of_job


def options(wildcards, input):
    """The files of a job as its command takes them."""
    files = [(name.replace("_", "-"), path) for name, path in input.items() if name in PATHS]
    return [word for name, path in files for word in (f"--{name}", path)]


def contents(stage):
    """Digests of the user's own files, so that an edit is detected even if it leaves an old modification time."""
    return lambda wildcards: [content(path) for path in own(stage, wildcards)]


def settings(stage):
    """The parameters of a job as its command takes them."""
    return lambda wildcards: PIPELINE.settings(stage, wildcards.task, wildcards.get("method"))


def origin(stage):
    return lambda wildcards: PIPELINE.origin(stage, wildcards.task, wildcards.get("method"))


def growing(amount):
    """A resource that a cluster's job asks more of at every retry."""
    return lambda wildcards, attempt: amount * attempt


# What is gathered: a pattern of files, and the stage that makes them.
SCORES = ("results/eval/{method}/{task}/seed{seed}.json", "evaluate")
CURVES = ("results/curves/{task}/{method}/seed{seed}.csv", "train")
RECORDS = ("results/training/{task}/{method}/seed{seed}.json", "train")
ERRORS = ("results/consistency/{method}/{task}/seed{seed}.json", "consistency")
CALIBRATIONS = ("results/calibrate/{method}/{task}/seed{seed}.json", "calibrate")
MECHANISMS = {
    name: (PATHS[name].replace(".safetensors", ".csv"), name) for name in ("dynamics", "reward", "value", "plan_value")
}


def gather(what, tasks, methods=(None,), seeds=config["seeds"]):
    """Files of each task and method: path → the job that makes it."""
    pattern, stage = what
    return {
        pattern.format(task=task, method=method, seed=seed): (stage, task, method)
        for task in tasks
        for method in methods
        for seed in seeds
    }


def shown(path, caption, category, **labels):
    """A file that Snakemake's report shows."""
    return report(path, caption=f"../report/{caption}.rst", category=category, labels=labels)


REPORTS = []  # what `add_report` has added; report.smk makes a rule of each


def add_report(
    stem, label, command, module, gathered, tables=True, figures=False, reads={}, writes={}, arguments=(), name=None
):
    """Add a rule that makes a table, a figure or both from gathered files, each in all of its formats.

    `arguments` are added to the rule's command. Snakemake's report shows the HTML page and the PNG.
    """
    caption = stem.partition("/")[0]
    outputs = {}
    if tables:
        outputs |= {kind: f"results/{stem}.{kind}" for kind in ("csv", "md", "tex")}
        outputs |= {"html": shown(f"results/{stem}.html", caption, "Tables", table=label)}
    if figures:
        outputs |= {"png": shown(f"results/{stem}.png", caption, "Figures", figure=label), "pdf": f"results/{stem}.pdf"}
    # The gathered files may contain the wildcard {task} only if the stem contains it.
    jobs = {job for files in gathered.values() for job in files.values()}

    def files(wildcards, input, output):
        """The files of a job as its command takes them."""
        words = []
        for read in (*gathered, *reads):
            words += [f"--{read}", *([input[read]] if isinstance(input[read], str) else input[read])]
        for written in writes:
            words += [f"--{written}", output[written]]
        return [*words, "--outputs", *(output[kind] for kind in outputs)]

    def made_from(wildcards):
        behind = [PIPELINE.origin(stage, task.format(**wildcards), method) for stage, task, method in jobs]
        headings = [method.label for method in METHODS.values()]
        return digest_of([digest(module), *headings, *sorted(behind)])

    REPORTS.append(
        SimpleNamespace(
            name=name or stem,
            stem=stem,
            input={name: list(found) for name, found in gathered.items()} | dict(reads),
            output=outputs | dict(writes),
            command=[command, *arguments],
            files=files,
            origin=made_from,
        )
    )
