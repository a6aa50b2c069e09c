"""Keeps Snakemake's memory (.snakemake/metadata) and DVC's (dvc.lock) equal, dvc.lock being the shared one.

Each tool remembers what a file was made from, and each can change files behind the other's back: `dvc checkout` brings
back files whose records in Snakemake are of another setting, and a Snakemake run makes files that dvc.lock does not
know. So Snakemake adopts what DVC brought, and commits what it made itself. While DVC runs Snakemake as a stage
(DVC_STAGE is set), DVC does both.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence
from snakemake.rules import Rule
from snakemake.workflow import Workflow

from dmemm.errors import UserError
from dmemm.files import YamlLoader, replacing
from workflow.checksums import has_checksum, md5_of, named_checksums
from workflow.stages import assignment, load

LOCK = Path("dvc.lock")
LOCK_AS_JSON = Path(".snakemake/dvc.lock.json")
NO_SOFTWARE_STACK = hashlib.md5(usedforsecurity=False).hexdigest()


def adopt(workflow: Workflow, named: Sequence[tuple[str, str]]) -> None:
    """Before the plan: make Snakemake's records say what is so, whoever made or changed the files.

    Args:
        workflow: Snakemake's.
        named: a file that a task's file names, and a pattern of what is made of it.
    """
    if "DVC_STAGE" in os.environ:
        return
    records = FilePersistence()
    if LOCK.exists():
        _adopt_stages(workflow, records)
    # No rule can name these as its input, as DVC takes no functions of a task.
    for file, pattern in named:
        if os.path.exists(file):
            for made in glob(pattern):
                if _mtime(file) > _mtime(made):
                    _doubt(made, records)


def _adopt_stages(workflow: Workflow, records: FilePersistence) -> None:
    """Give each file that DVC brought the record of how dvc.lock says it was made.

    A stage's files are DVC's if one of them has another modification time than its record and all have the content
    that dvc.lock names; where one has another content it was damaged, and Snakemake is to make it again. DVC leaves a
    file in place whose content need not change: a record that newer inputs or other parameters put in doubt is replaced
    too, if dvc.lock names just the inputs and the parameters of now.
    """
    rules = {rule.name: rule for rule in workflow.rules}
    stages = [(rules[rule], entry) for stage, entry in _entries().items() if (rule := stage.partition("@")[0]) in rules]
    _doubt_what_lost_its_inputs(stages, records)
    _touch_edited_sources(stages, records)
    for rule, entry in stages:
        md5s = {out["path"]: out.get("md5") for out in entry.get("outs", ())}
        if not all(map(os.path.isfile, md5s)):
            continue
        known = {path: records._read_record(path) for path in md5s}
        if all(record is not None and record.endtime == _mtime(path) for path, record in known.items()):
            as_now = all(record is not None and record.params == _params(rule) for record in known.values())
            if as_now and not _newer_inputs(rule, entry, min(map(_mtime, md5s))):
                continue
            made = _record(rule, entry)
            same = (made.params, made.input_checksums)
            if all(record and same == (record.params, record.input_checksums) for record in known.values()):
                continue
            complete = rule.has_wildcards() or made.input == sorted(map(str, rule.input))
            if made.params != _params(rule) or not complete or not _hold(made):
                continue
        if all(md5_of(path) == md5 for path, md5 in md5s.items()):
            made = _record(rule, entry)
            for path in md5s:
                times = {"starttime": _mtime(path) - _seconds(known[path], made), "endtime": _mtime(path)}
                records._write_record(path, made.model_copy(update=times))
            continue
        for path, record in known.items():
            if record is not None and record.endtime != _mtime(path) and md5_of(path) != md5s[path]:
                _doubt(path, records)


def _doubt(path: str, records: FilePersistence) -> None:
    """Make Snakemake make a file again."""
    if (record := records._read_record(path)) is not None:
        records._write_record(path, record.model_copy(update={"input": []}))


def _seconds(record: MetadataRecord | None, made: MetadataRecord) -> float:
    """How long the file took to make, if it was made here; else a trifle, as the report's axis is logarithmic."""
    same = record is not None and (made.params, made.input_checksums) == (record.params, record.input_checksums)
    return max(record.endtime - record.starttime, 0.001) if record is not None and same else 0.001


def _doubt_what_lost_its_inputs(stages: Sequence[tuple[Rule, Mapping[str, Any]]], records: FilePersistence) -> None:
    """Make Snakemake rerun what was made from files that are gone and would be others now.

    A stage that fails or is killed under DVC leaves no output, and those below it in place. Snakemake takes these for
    current, whatever has changed since in how the missing file is made.
    """
    lost: set[str] = set()
    size = -1
    while size < len(lost):  # a missing file may be made from another
        size = len(lost)
        for rule, entry in stages:
            missing = {out["path"] for out in entry.get("outs", ()) if not os.path.exists(out["path"])}
            if not missing <= lost and (not lost.isdisjoint(_inputs(rule, entry)) or not _as_now(rule, entry)):
                lost |= missing
    for rule, entry in stages:
        if not lost.isdisjoint(_inputs(rule, entry)):
            for out in entry.get("outs", ()):
                if os.path.exists(out["path"]):
                    _doubt(out["path"], records)


def _touch_edited_sources(stages: Sequence[tuple[Rule, Mapping[str, Any]]], records: FilePersistence) -> None:
    """Show Snakemake the edits it cannot see: it compares no content that is older than what was made from it.

    Files are older after a copy that keeps their times, or where a clock was set back.
    """
    made = {out["path"] for _, entry in stages for out in entry.get("outs", ())}
    read: dict[tuple[str, str | None], float] = {}
    for path in made:
        if (record := records._read_record(path)) is not None:
            for pair in (record.input_checksums or {}).items():
                read[pair] = max(record.endtime, read.get(pair, 0))
    for (name, checksum), endtime in read.items():
        if name not in made and os.path.exists(name) and _mtime(name) <= endtime and not has_checksum(name, checksum):
            os.utime(name, times=(os.stat(name).st_atime, max(time.time(), endtime + 1)))


def _as_now(rule: Rule, entry: Mapping[str, Any]) -> bool:
    made = _record(rule, entry)
    checksums = {name: c for name, c in (made.input_checksums or {}).items() if os.path.exists(name)}
    return made.params == _params(rule) and all(has_checksum(name, c) for name, c in checksums.items())


def _hold(record: MetadataRecord) -> bool:
    return all(has_checksum(name, checksum) for name, checksum in (record.input_checksums or {}).items())


def _inputs(rule: Rule, entry: Mapping[str, Any]) -> list[str]:
    """The files that a stage reads; dvc.lock has only the folders of a table's."""
    return [dep["path"] for dep in entry.get("deps", ())] if rule.has_wildcards() else list(map(str, rule.input))


def _newer_inputs(rule: Rule, entry: Mapping[str, Any], made: float) -> bool:
    return any(os.path.exists(name) and _mtime(name) > made for name in _inputs(rule, entry))


def clear(workflow: Workflow) -> None:
    """Before the first job: delete what the planned jobs will make, as DVC does.

    Snakemake alone leaves the outputs below a failed job in place, and its next run takes them for current.
    """
    if workflow.touch:
        return
    for job in workflow.dag.needrun_jobs():
        for file in filter(os.path.exists, job.output):
            try:
                os.unlink(file)
            except OSError as error:
                raise WorkflowError(f"{file}: cannot delete: {error.strerror}; make its folder writable") from error


def commit(workflow: Workflow) -> None:
    """After the last job: record in dvc.lock, and put into the cache, what Snakemake now holds current."""
    if "DVC_STAGE" in os.environ or not Path(".dvc").is_dir():
        return
    from dvc.dependency import param  # half a second that a dry run need not wait
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        if load(Path("params.yaml")) != workflow.config:
            raise UserError("params.yaml changed during the run; run snakemake again")
        current = _current_files(workflow)
        param.load_path = cache(param.load_path)  # DVC reads params.yaml some times a stage
        _remove_damaged()
        with Repo() as repo, repo.lock:
            rules, entries = {rule.name: rule for rule in workflow.rules}, _entries()
            versioned = {stage.name.partition("@")[0] for stage in repo.index.stages}
            if missing := [name for name in workflow.config["methods"] if f"evaluate_{name}_maze" not in versioned]:
                raise UserError(f"dvc.yaml has no stages of {', '.join(missing)}; run `make dvc.yaml`, then snakemake")
            stages = [stage for stage in repo.index.stages if {str(out) for out in stage.outs} <= current]
            for stage in stages:
                # A variant's other values under the command of the old ones would pass for theirs.
                name = stage.name.partition("@")[0]
                if not set(map(repr, _fixed(stage.cmd))) <= set(_params(rules[name])):
                    raise UserError(f"dvc.yaml has other values of {name}; run `make dvc.yaml`, then snakemake")
            stages = [stage for stage in stages if not _is_recorded(stage, rules, entries)]
            for stage in stages:
                stage.save()
                stage.commit(relink=False)
            if stages:
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
    except (DvcException, UserError) as error:
        print(f"snakemake: dvc.lock was not updated: {error}", file=sys.stderr)


def _entries() -> dict[str, Mapping[str, Any]]:
    """dvc.lock: stage → what it was made of, and what it made. Its YAML takes seconds to read: kept as JSON."""
    if not LOCK.exists():
        return {}
    text = LOCK.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    try:
        known = json.loads(LOCK_AS_JSON.read_bytes())
    except (OSError, ValueError):
        known = {}
    if known.get("sha256") != digest:
        known = {"sha256": digest, "stages": _parsed(text)}
        with replacing(LOCK_AS_JSON) as temporary:
            temporary.write_text(json.dumps(known))
    return dict(known["stages"])


def _parsed(lock: bytes) -> Mapping[str, Any]:
    """The stages of a dvc.lock; none of one that is empty or cut short, as a killed DVC leaves it."""
    try:
        return yaml.load(lock, YamlLoader)["stages"] or {}  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, TypeError, KeyError):
        return {}


def _remove_damaged() -> None:
    """Remove what a killed DVC left half written and no DVC reads: dvc.lock, and its table of who reads what."""
    if not _entries():
        LOCK.unlink(missing_ok=True)
    table = Path(".dvc/tmp/rwlock")
    try:
        json.loads(table.read_bytes())
    except OSError:
        return
    except ValueError:
        table.unlink(missing_ok=True)


def _is_recorded(stage: Any, rules: Mapping[str, Rule], entries: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether dvc.lock has just what is there: this is quick, and saving a stage takes DVC a tenth of a second."""
    rule, entry = rules[stage.name.partition("@")[0]], entries.get(stage.addressing)
    return (
        entry is not None
        and not any(dep["md5"].endswith(".dir") for dep in entry.get("deps", ()))
        and {dep["path"] for dep in entry.get("deps", ())} == {str(dep) for dep in stage.deps} - {"params.yaml"}
        and _as_now(rule, entry)
        and all(has_checksum(out["path"], f"md5:{out['md5']}") for out in entry.get("outs", ()))
    )


def _current_files(workflow: Workflow) -> set[str]:
    dag, records = workflow.dag, workflow.persistence
    records._clear_cache()  # it may remember that the last job had no record yet
    done = [job for job in dag.jobs if dag.finished(job) or not dag.needrun(job)]
    current = {str(file) for job in done if _hold_since(job.output, records) for file in job.output}
    if any(dag.needrun_jobs()):
        return current
    # Tables that this run did not ask for: DVC sees them depend on folders in which the run made files of others.
    planned = {job.rule.name for job in dag.jobs}
    tables = [rule for rule in workflow.rules if rule.name not in planned and not rule.has_wildcards()]
    tables = [rule for rule in tables if _as_recorded(rule, records) and _hold_since(rule.output, records)]
    return current.union(*(map(str, rule.output) for rule in tables))


def _as_recorded(rule: Rule, records: FilePersistence) -> bool:
    """Whether the records of a rule without wildcards are what the rule says."""
    now = (rule.shellcmd, sorted(map(str, rule.input)), _params(rule))
    known = [records._read_record(str(file)) for file in rule.output]
    return all(record and now == (record.code, record.input, record.params) for record in known)


def _hold_since(files: Iterable[Any], records: FilePersistence) -> bool:
    """Whether neither a job's outputs nor its inputs, the code among them, were changed by others after it.

    dvc.lock would take their content for what the job wrote and read.
    """
    for file in map(str, files):
        record = records._read_record(file)
        if record is None or not os.path.exists(file) or record.endtime != _mtime(file):
            return False
        newer = [name for name in record.input or () if not os.path.exists(name) or _mtime(name) > _mtime(file)]
        if not all(has_checksum(name, (record.input_checksums or {}).get(name)) for name in newer):
            return False
    return True


def _record(rule: Rule, entry: Mapping[str, Any]) -> MetadataRecord:
    """Snakemake's record of a job, from a stage of dvc.lock."""
    checksums = dict(named_checksums(entry.get("deps", ())))
    # A table's stage names folders, of which the rule reads some files; files that it lacks make Snakemake rerun it.
    names = checksums if rule.has_wildcards() else checksums.keys() & set(map(str, rule.input))
    params = entry.get("params", {}).get("params.yaml", {})
    return MetadataRecord(
        rule=rule.name,
        code=rule.shellcmd,
        input=sorted(names),
        input_checksums={name: checksums[name] for name in names},
        params=sorted(map(repr, [*(assignment(*pair) for pair in params.items()), *_fixed(entry["cmd"])])),
        software_stack_hash=NO_SOFTWARE_STACK,
        incomplete=False,
        record_format_version=RECORD_FORMAT_VERSION,
    )


def _fixed(command: str) -> list[str]:
    """What a stage's variant fixes, from dvc.yaml's command."""
    return command.partition(" # ")[2].split()


def _params(rule: Rule) -> list[str]:
    """A rule's parameters as Snakemake records them."""
    return sorted(map(repr, rule.params))


def _mtime(path: str) -> float:
    return os.stat(path).st_mtime
