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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord
from snakemake.persistence.file import FilePersistence
from snakemake.rules import Rule
from snakemake.workflow import Workflow

from dmemm.config import EXPONENT
from dmemm.errors import UserError
from workflow.stages import assignment, load

LOCK = Path("dvc.lock")
NO_SOFTWARE_STACK = hashlib.md5(usedforsecurity=False).hexdigest()


class _Loader(yaml.CSafeLoader):
    """The fast loader (dvc.lock has some ten thousand lines), reading 3e-05 as a number as dmemm.config does."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))


def adopt(workflow: Workflow) -> None:
    """Before the plan: give each file that DVC brought the record of how dvc.lock says it was made.

    A file is DVC's if it has another modification time than its record and the content that dvc.lock names.
    """
    if "DVC_STAGE" in os.environ or not LOCK.exists():
        return
    records = FilePersistence()
    rules = {rule.name: rule for rule in workflow.rules}
    for stage, entry in (yaml.load(LOCK.read_text(), _Loader).get("stages") or {}).items():  # noqa: S506
        rule = rules.get(stage.partition("@")[0])
        made: MetadataRecord | None = None
        for out in entry.get("outs", ()) if rule is not None else ():
            path = Path(out["path"])
            mtime = path.stat().st_mtime if path.is_file() else None
            known = records._read_record(out["path"])
            if mtime is None or (known is not None and known.endtime == mtime) or _md5(path) != out.get("md5"):
                continue
            made = made or _record(rule, entry)
            records._write_record(out["path"], made.model_copy(update={"starttime": mtime, "endtime": mtime}))


def clear(workflow: Workflow) -> None:
    """Before the first job: delete what the planned jobs will make, as DVC does.

    Snakemake alone leaves the outputs below a failed job in place, and its next run takes them for current.
    """
    if workflow.touch:
        return
    for job in workflow.dag.needrun_jobs():
        for file in job.output:
            Path(file).unlink(missing_ok=True)


def commit(workflow: Workflow) -> None:
    """After the last job: record in dvc.lock, and put into the cache, what Snakemake now holds current."""
    if "DVC_STAGE" in os.environ or not Path(".dvc").is_dir():
        return
    from dvc.exceptions import DvcException  # half a second that a dry run need not wait
    from dvc.repo import Repo

    try:
        if load(Path("params.yaml")) != workflow.config:
            raise UserError("params.yaml changed during the run; run snakemake again")
        current = _current_files(workflow)
        with Repo() as repo, repo.lock:
            stages = [stage for stage in repo.index.stages if {str(out) for out in stage.outs} <= current]
            for stage in stages:
                stage.save()
                stage.commit(relink=False)
            if stages:
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
    except (DvcException, UserError) as error:
        print(f"snakemake: dvc.lock was not updated: {error}", file=sys.stderr)


def _current_files(workflow: Workflow) -> set[str]:
    dag = workflow.dag
    current = {str(file) for job in dag.jobs if dag.finished(job) or not dag.needrun(job) for file in job.output}
    # Tables that this run did not ask for: DVC sees them depend on folders in which the run made files of others.
    tables = [rule for rule in workflow.rules if not rule.has_wildcards() and _as_recorded(rule, workflow)]
    planned = {job.rule.name for job in dag.jobs}
    return current.union(*({str(file) for file in rule.output} for rule in tables if rule.name not in planned))


def _as_recorded(rule: Rule, workflow: Workflow) -> bool:
    """Whether the outputs of a rule without wildcards are what its record says, and the record what the rule says."""
    for file in rule.output:
        record = workflow.persistence._read_record(str(file))
        if record is None or not os.path.exists(file) or record.endtime != os.stat(file).st_mtime:
            return False
        same = record.code == rule.shellcmd and record.input == sorted(map(str, rule.input))
        if not same or record.params != sorted(map(repr, rule.params)):
            return False
        if not all(_has_checksum(name, checksum) for name, checksum in record.input_checksums.items()):
            return False
    return bool(rule.output)


def _has_checksum(name: str, checksum: str) -> bool:
    algorithm, _, digest = checksum.rpartition(":")
    if not os.path.exists(name):
        return False
    with open(name, "rb") as file:
        return hashlib.file_digest(file, algorithm or "sha256").hexdigest() == digest


def _record(rule: Rule, entry: Mapping[str, Any]) -> MetadataRecord:
    """Snakemake's record of a job, from a stage of dvc.lock."""
    checksums = dict(_checksums(entry.get("deps", ())))
    # A table's stage names folders, of which the rule reads some files; files that it lacks make Snakemake rerun it.
    names = checksums if rule.has_wildcards() else checksums.keys() & set(map(str, rule.input))
    params = entry.get("params", {}).get("params.yaml", {})
    return MetadataRecord(
        rule=rule.name,
        code=rule.shellcmd,
        input=sorted(names),
        input_checksums={name: checksums[name] for name in names},
        params=sorted(repr(assignment(key, value)) for key, value in params.items()),
        software_stack_hash=NO_SOFTWARE_STACK,
        incomplete=False,
        record_format_version=RECORD_FORMAT_VERSION,
    )


def _checksums(deps: Any) -> Iterator[tuple[str, str]]:
    for dep in deps:
        if not dep["md5"].endswith(".dir"):
            yield dep["path"], f"md5:{dep['md5']}"
            continue
        # dvc.lock has one hash for a folder: its files are known if the folder is still the one it names.
        files = {path: _md5(path) for path in _files(Path(dep["path"]))}
        listing = [{"md5": md5, "relpath": path.relative_to(dep["path"]).as_posix()} for path, md5 in files.items()]
        if _listing_hash(listing) == dep["md5"]:
            yield from ((str(path), f"md5:{md5}") for path, md5 in files.items())


def _files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _listing_hash(listing: list[dict[str, str]]) -> str:
    """DVC's hash of a folder."""
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
