"""Snakemake's rules and DVC's stages: the same jobs, the same files, the same parameters."""

import re
from types import SimpleNamespace

import pytest
import yaml
from dvc.repo import Repo

from dmemm.config import (
    DownloadConfig,
    DynamicsConfig,
    EvaluateConfig,
    PlanValueConfig,
    RewardConfig,
    SegmentConfig,
    TrainConfig,
    ValueConfig,
)
from dmemm.errors import UserError
from dmemm.variants import VARIANTS, get_variant
from workflow.dvc_yaml import generate
from workflow.stages import assignments

from ..checkout import staged, staged_params

# Keys of params.yaml with a value for locomotion and one for mazes.
PER_SUITE = {
    "reward_loss", "diffusion_steps", "horizon", "local_steps", "network", "mlp_width", "unet_width", "unet_mults",
    "train_steps", "batch_size", "learning_rate", "first_action_weight", "episodes", "candidates", "replan_every",
    "sampling_steps", "execute",
}  # fmt: skip


def snakemake_jobs(project):
    """Outputs → (rule, inputs), of every job."""
    jobs, fields = {}, {}
    for line in project.run("snakemake", "--dry-run", "--forceall").splitlines():
        if match := re.match(r"(?:local)?rule (\w+):", line):
            fields = {"rule": match[1]}
        elif match := re.match(r" +(input|output): (.*)", line):
            fields[match[1]] = frozenset(match[2].split(", "))
            if match[1] == "output":
                jobs[fields["output"]] = (fields["rule"], fields["input"])
    return jobs


def test_both_tools_have_the_same_jobs_with_the_same_inputs(project):
    project.set(methods=["rvs", "mppi"])
    project.run("python", "-m", "workflow.dvc_yaml")
    jobs = snakemake_jobs(project)
    with Repo(str(project.folder)) as repo:
        stages = {frozenset(map(str, outs)): stage for stage in repo.index.stages if (outs := stage.outs)}
        names = {outs: (stage.name, {str(dep) for dep in stage.deps}) for outs, stage in stages.items()}
    project.run("git", "checkout", ".")
    folder = f"{project.folder}/"
    names = {frozenset(o.removeprefix(folder) for o in outs): value for outs, value in names.items()}
    assert names.keys() == jobs.keys()
    for outs, (rule, inputs) in jobs.items():
        name, deps = names[outs]
        deps = {dep.removeprefix(folder) for dep in deps}
        assert name.partition("@")[0] == rule
        if "@" in name:  # every file by its name; parameters are deps as well
            assert deps - {"params.yaml"} == inputs, name
        else:
            assert all(any(f == dep or f.startswith(f"{dep}/") for dep in deps) for f in inputs), name


def test_stages_depend_on_what_their_subcommands_read():
    stages = yaml.safe_load(staged("dvc.yaml"))["stages"]
    points = {"lambda_tr": get_variant("lambda_tr=1"), "lambda_rd": get_variant("lambda_rd=1")}
    expected = {}

    def reads(name, suite, config, fixed=()):
        without = {"objective", "discount", "termination_penalty"} if suite == "maze" else set()
        keys = [key for key in config.parameters() if key not in {*fixed, *without}]
        expected[name] = [f"{key}.{suite}" if key in PER_SUITE else key for key in keys]

    for suite in ("locomotion", "maze"):
        reads(f"download_{suite}", suite, DownloadConfig)
        reads(f"segment_{suite}", suite, SegmentConfig)
        reads(f"dynamics_{suite}", suite, DynamicsConfig)
        reads(f"reward_{suite}", suite, RewardConfig)
        if suite == "locomotion":
            reads("value_locomotion", suite, ValueConfig)
            reads("plan_value_locomotion", suite, PlanValueConfig)
        for name, variant in {**VARIANTS, **points}.items():
            if suite == "maze" and name not in ("dmemm", "diffuser"):
                continue  # Table 3 and Figure 1 are for locomotion
            if variant.network == variant.name:
                reads(f"train_{name}_{suite}", suite, TrainConfig, variant.fixed)
            reads(f"evaluate_{name}_{suite}", suite, EvaluateConfig, variant.fixed)
            if name in VARIANTS:
                reads(f"consistency_{name}_{suite}", suite, EvaluateConfig, variant.fixed)
    for name in ("dmemm", "diffuser"):
        reads(f"evaluate_multi2d_{name}", "maze", EvaluateConfig, VARIANTS[name].fixed)
    gathering = {"table1", "table2", "table3", "intervals", "training", "figure1", "curves", "metrics", "consistency"}
    read = {name: stage.get("params") for name, stage in stages.items() if not name.startswith("code_")}
    assert {name: keys for name, keys in read.items() if name not in gathering} == expected


class Names(list):
    """As Snakemake's Namedlist."""

    def __init__(self, *unnamed, **values):
        super().__init__([*unnamed, *values.values()])
        self._names = {name: (index, None) for index, name in enumerate(values, start=len(unnamed))}

    def _allitems(self):
        names = {index: name for name, (index, _) in self._names.items()}
        return [(names.get(index), value) for index, value in enumerate(self)]


def rule(**changes):
    params = assignments(staged_params(), ["alpha"])
    plain = {"name": "score", "input": Names(a="a/{seed}"), "output": Names(b="b/{seed}"), "params": Names(**params)}
    return SimpleNamespace(**plain | changes)


def flagged(path, flag):
    file = type("File", (str,), {})(path)
    file.flags = {flag: True}
    return file


def test_what_the_report_shows_is_a_plain_path_for_dvc():
    config = staged_params()
    assert generate([rule(output=Names(b=flagged("b/{seed}", "report")))], config) == generate([rule()], config)


def test_what_a_variant_fixes_stands_behind_the_command_and_is_no_parameter():
    config = staged_params()
    named = assignments(config, ["alpha"])
    stage = yaml.safe_load(generate([rule(params=Names("lambda_tr=0.0", **named))], config))["stages"]["score"]
    assert stage["cmd"].endswith(" -- b/${item.seed} # lambda_tr=0.0") and stage["params"] == ["alpha"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"params": Names(alpha="alpha=7")}, "alpha=7|alpha: must be a key"),
        ({"params": Names(colour="red")}, "colour: must be a key"),
        ({"params": Names("colour=red")}, "colour=red: must be KEY=VALUE"),
        ({"params": Names("unet_mults=[1, 2]")}, r"unet_mults=\[1, 2\]: .* no space"),
        ({"input": Names(a=lambda wildcards: "a")}, "no functions"),
        ({"input": Names(a=flagged("a", "temp"))}, "no flags"),
        ({"output": Names(b="b/{colour}")}, r"no list of params.yaml holds the values of \{colour\}"),
    ],
)
def test_what_dvc_cannot_know_is_refused(changes, said):
    config = staged_params()
    assert "${item.seed}" in generate([rule()], config)
    with pytest.raises(UserError, match=said):
        generate([rule(**changes)], config)


def test_values_that_keys_exchange_are_still_a_change():
    one, other = {"lambda_tr": 0.1, "lambda_rd": 0.05}, {"lambda_tr": 0.05, "lambda_rd": 0.1}
    assert set(assignments(one, one).values()) != set(assignments(other, other).values())
