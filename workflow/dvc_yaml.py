"""dvc.yaml from the Snakefile: `python -m workflow.dvc_yaml` writes it, `--check` says whether it is current.

One stage a rule, one `matrix` key a wildcard, whose values are a list of params.yaml, so a new seed or task needs no
new dvc.yaml. Whatever does not fit that convention is refused, so that DVC never knows less than Snakemake.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from snakemake.api import SnakemakeApi
from snakemake.io import strip_wildcard_constraints
from snakemake.rules import Rule
from snakemake.settings.types import OutputSettings, Quietness, ResourceSettings

from dmemm.config import Params
from dmemm.errors import UserError
from dmemm.files import replacing
from dmemm.methods import METHODS
from workflow.stages import assignment, load, lookup

HEADER = "# Generated from the Snakefile by `make dvc.yaml`; edit the rules, not this file.\n"
WILDCARD = re.compile(r"\{(\w+)\}")
VARIANT_RULE = re.compile(r"(?:train|evaluate|consistency)_(\w+?)(?:_locomotion)?")
# Built on demand only: `dvc repro` means the tables and the figure. Table 3 and Figure 1 are for locomotion.
UNVERSIONED = (
    r"estimators|ranking|guide(_task)?|code_(study|pictures|ranking|guide|calibrate)"
    r"|\w+_study(_plain)?_[a-z]+|\w+_(wo|only|lambda)_\w+_maze|(pictures|calibrate)_\w+"
)

# Outputs, by name, that DVC shows and not only keeps.
METRICS = {"metrics"}
PLOTS = {"png"}
# Plots of outputs: one a file in the folder, a line a loss term.
CURVES = {"results/curves": {"x": "step", "y": ["total", "wdiff", "tr", "rd"]}}


def matrix_lists(rule: str) -> dict[str, str]:
    """Return the key of params.yaml that lists a wildcard's values, for each wildcard a rule of this name can have."""
    match = VARIANT_RULE.fullmatch(rule)
    variant = match[1] if match else ""
    tasks = f"tasks.{rule.rpartition('_')[2]}"
    if variant.startswith(("wo_", "only_")):
        tasks = "ablation_tasks"
    elif variant.startswith("lambda_"):
        tasks = "sensitivity_tasks"
    return {"task": tasks, "maze": "mazes", "seed": "seeds", "value": f"sensitivity_{variant}"}


@contextmanager
def loaded_rules() -> Iterator[list[Rule]]:
    """Parse the Snakefile and yield its rules that make files that DVC versions."""
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"))._workflow
        left_out = "|".join(
            [UNVERSIONED, *(rf"\w+_{name}(_[a-z]+)?" for name in METHODS if name not in workflow.config["methods"])]
        )
        yield [rule for rule in workflow.rules if rule.output and not re.fullmatch(left_out, rule.name)]


def generate(rules: Sequence[Rule], config: Params) -> str:
    """Return the text of dvc.yaml.

    Raises:
        UserError: a rule breaks the convention.
    """
    outputs = [strip_wildcard_constraints(file) for rule in rules for file in rule.output]
    prefixes = {file: _static_prefix(file) for file in outputs if "{" in file}
    stages = {rule.name: _stage(rule, prefixes, config) for rule in rules}
    return HEADER + yaml.safe_dump({"stages": stages, "plots": [CURVES]}, sort_keys=False, width=1000)


def _stage(rule: Rule, prefixes: dict[str, str], config: Params) -> dict[str, Any]:
    for file in (*rule.input, *rule.output):
        # `report` only tells Snakemake's report to show the file.
        if callable(file) or getattr(file, "flags", {}).keys() - {"report"}:
            raise UserError(f"rule {rule.name}: {file}: DVC takes plain paths only, no functions and no flags")
    stage: dict[str, Any] = {}
    wildcards = list(dict.fromkeys(name for file in rule.output for name in WILDCARD.findall(_plain(file))))
    lists = matrix_lists(rule.name)
    for name in wildcards:
        if not _is_key(lists.get(name, ""), config):
            raise UserError(f"rule {rule.name}: no list of params.yaml holds the values of {{{name}}}")
    if wildcards:
        stage["matrix"] = {name: f"${{{lists[name]}}}" for name in wildcards}
    # Without `exec` some shells stay between the two, and Snakemake would not see its DVC end (run_lock.py).
    stage["cmd"] = f"exec snakemake --allowed-rules {rule.name} -- {_template(rule.output[0])}"
    if fixed := [_fixed(rule.name, value, config) for name, value in rule.params._allitems() if name is None]:
        stage["cmd"] += f" # {' '.join(fixed)}"
    deps = dict.fromkeys(_template(_folder(str(file), prefixes)) for file in rule.input)
    stage["deps"] = [dep for dep in deps if not any(dep.startswith(f"{folder}/") for folder in deps)]
    named = ((name, value) for name, value in rule.params._allitems() if name is not None)
    stage["params"] = [_key(rule.name, name, value, config) for name, value in named]
    names = {index: name for name, (index, _) in rule.output._names.items()}
    for index, file in enumerate(rule.output):
        name = names.get(index)
        if name in METRICS:
            stage.setdefault("metrics", []).append(_template(file))
        elif name in PLOTS:
            stage.setdefault("plots", []).append(_template(file))
        else:
            stage.setdefault("outs", []).append(_template(file))
    return {key: value for key, value in stage.items() if value}


def _key(rule: str, name: str, value: Any, config: Params) -> str:
    if not _is_key(name, config) or value != assignment(name, lookup(config, name)):
        raise UserError(f"rule {rule}: params: {name}: must be a key of params.yaml with its own value")
    return name


def _is_key(name: str, config: Params) -> bool:
    try:
        lookup(config, name)
    except (KeyError, TypeError):
        return False
    return True


def _fixed(rule: str, value: Any, config: Params) -> str:
    """What the variant fixes, in a comment of the command: DVC reruns a stage whose command is another."""
    key = str(value).partition("=")[0]
    if key not in config or " " in str(value):
        raise UserError(f"rule {rule}: params: {value}: must be KEY=VALUE, a key of params.yaml and no space")
    return str(value)


def _plain(path: str) -> str:
    return strip_wildcard_constraints(str(path))


def _template(path: str) -> str:
    return WILDCARD.sub(r"${item.\1}", _plain(path))


def _static_prefix(pattern: str) -> str:
    return pattern[: pattern.index("{")].rpartition("/")[0]


def _folder(path: str, prefixes: dict[str, str]) -> str:
    """For one of many files that a rule with wildcards makes: their folder, as a stage cannot list them."""
    if WILDCARD.search(path):
        return path
    pattern = next((pattern for pattern in prefixes if _matches(pattern, path)), None)
    return path if pattern is None else prefixes[pattern]


def _matches(pattern: str, path: str) -> bool:
    parts = re.split(WILDCARD.pattern, pattern)[::2]
    return re.fullmatch("[^/]+".join(re.escape(part) for part in parts), path) is not None


def main(argv: Sequence[str] | None = None) -> int:
    """Write dvc.yaml, or check it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workflow.dvc_yaml", description="dvc.yaml from the Snakefile.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if dvc.yaml is stale")
    arguments = parser.parse_args(argv)
    path = Path("dvc.yaml")
    try:
        with loaded_rules() as rules:
            text = generate(rules, load(Path("params.yaml")))
        if arguments.check:
            if not path.exists() or path.read_text() != text:
                raise UserError("dvc.yaml: not what the Snakefile says; run `make dvc.yaml`")
        else:
            with replacing(path) as temporary:
                temporary.write_text(text)
    except UserError as error:
        print(f"dvc_yaml: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
