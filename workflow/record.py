"""Keep Snakemake's records with the files that they describe, and have DVC record both after a run of Snakemake.

Snakemake remembers in .snakemake/metadata what each file was made from. Each stage of dvc.yaml has a copy of the
records of its files among its outputs, so that what DVC brings (`dvc checkout`, `pull`, `exp apply`) has its records.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from dmemm.errors import UserError
from dmemm.files import parse_yaml, read_json, replacing, write_json

METADATA = Path(".snakemake/metadata")
SYNCED = Path(".snakemake/synced.json")  # stage → digest of its copy when it was last the same as Snakemake's records
UNRECORDED = Path(".snakemake/unrecorded")  # there while a run is at work, and after one that was killed
INCOMPLETE = Path(".snakemake/incomplete")  # marks of files whose job has not ended, by their places in METADATA
PART = " # not all of it"

# Stage of dvc.yaml → its copy of the records, and its rules.
STAGES = {
    "download": (Path("data/raw/records.json"), {"download"}),
    "segment": (Path("data/segments/records.json"), {"segment"}),
    "dynamics": (Path("results/dynamics/records.json"), {"dynamics"}),
    "reward": (Path("results/reward/records.json"), {"reward"}),
    "value": (Path("results/value/records.json"), {"value", "plan_value"}),
    "train": (Path("results/models/records.json"), {"train"}),
    "evaluate": (Path("results/eval/records.json"), {"evaluate"}),
    "consistency": (Path("results/consistency/records.json"), {"consistency"}),
    "tables": (Path("results/records.json"), {
        "table1", "table2", "table3", "intervals", "training", "figure1", "curves", "consistency_table", "metrics",
    }),
}  # fmt: skip


def prepare(dryrun: bool) -> None:
    """Before Snakemake plans, restore the records of files that DVC checked out, and record the files of a killed run.

    Raises:
        UserError: a copy of the records is damaged.
    """
    known = _records()
    damaged = _files() - known.keys()
    # Nothing has run since they were made, so the copies can replace Snakemake's damaged records.
    synced = {} if damaged or not METADATA.is_dir() else _synced()
    changed = [stage for stage, (copy, _) in STAGES.items() if copy.exists() and _digest(copy) != synced.get(stage)]
    # All of them, before anything is taken away.
    brought = {METADATA / name: record for stage in changed for name, record in _brought(stage).items()}
    rules = {rule for stage in changed for rule in STAGES[stage][1]}
    for path, record in known.items():
        if record["rule"] in rules:
            path.unlink()
    for path, record in brought.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        (INCOMPLETE / path.relative_to(METADATA)).unlink(missing_ok=True)  # a killed run's; DVC's file is whole
    for path in damaged - brought.keys() if not dryrun else ():  # what their files were made from is unknown
        mark = INCOMPLETE / path.relative_to(METADATA)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text('{"external_jobid": null}')  # Snakemake's, which makes it run the job again
        path.unlink()
    if changed:
        write_json(SYNCED, synced | {stage: _digest(STAGES[stage][0]) for stage in changed})
    if not dryrun:
        _leave_the_future()
        if "DVC_STAGE" in os.environ:
            # `dvc exp run` writes the committed params.yaml and then its own, often within one tick of the clock. Git
            # tells files apart by time and size: if only a digit differs, it would take the second for the first.
            os.utime("params.yaml")
        if METADATA.exists() and not all(copy.exists() for copy, _ in STAGES.values()):  # a run was killed
            _copy_records()
        if not _by_dvc() and UNRECORDED.exists():
            _commit(_missing())


def begin() -> None:
    """Delete the copies when the first job starts: from then on, they differ from Snakemake's records."""
    SYNCED.unlink(missing_ok=True)
    for copy, _ in STAGES.values():
        copy.unlink(missing_ok=True)
    if not _by_dvc():
        UNRECORDED.touch()


def finish() -> None:
    """After the last job, copy the records and record everything in DVC, unless DVC started this run.

    Snakemake is asked what remains to be done for the tables: the run may have been of some files, with options that
    leave jobs out, or parameters or code may have been edited in the meantime.
    """
    _copy_records()
    if not _by_dvc():
        _commit(_missing())


def _leave_the_future() -> None:
    """Set times in the future to now: after a clock was set back, new outputs would seem older than their inputs."""
    now = time.time()
    for path in (path for folder in ("data", "results") for path in Path(folder).rglob("*")):
        if path.lstat().st_mtime > now:
            with suppress(OSError):
                os.utime(path, (now, now), follow_symlinks=False)


def _files() -> set[Path]:
    return {path for path in METADATA.rglob("*") if path.is_file()}


def _synced() -> dict[str, str]:
    """What `SYNCED` holds; nothing if it is damaged: the copies are then compared again."""
    with suppress(UserError):
        found = read_json(SYNCED)
        return found if isinstance(found, dict) else {}
    return {}


def _brought(stage: str) -> dict[str, dict[str, object]]:
    """Return a stage's copy of the records, by their paths in `METADATA`; refuse paths that lead out of it."""
    copy, rules = STAGES[stage]
    remedy = f"bring it back with `dvc checkout --force {copy}`, or delete it"
    try:
        records = json.loads(copy.read_bytes())
        sound = all(record["rule"] in rules and Path(name).parts for name, record in records.items())
        if not sound or any(Path(name).is_absolute() or ".." in Path(name).parts for name in records):
            raise ValueError("not this stage's records")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{copy}: damaged ({error}); {remedy}") from error
    return dict(records)


def _records() -> dict[Path, dict[str, object]]:
    """Snakemake's records; one that a killed run has left half written counts for nothing, as for Snakemake itself."""
    found = {}
    for path in sorted(_files()):
        with suppress(ValueError, RecursionError):
            record = json.loads(path.read_bytes())
            if isinstance(record, dict) and "rule" in record:
                found[path] = record
    return found


def _copy_records() -> None:
    records = _records()
    for copy, rules in STAGES.values():
        own = {str(path.relative_to(METADATA)): record for path, record in records.items() if record["rule"] in rules}
        with replacing(copy) as temporary:
            temporary.write_text(json.dumps(own, indent=0))
    write_json(SYNCED, {stage: _digest(copy) for stage, (copy, _) in STAGES.items()})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _by_dvc() -> bool:
    """Whether DVC records what this run makes, or cannot: it needs git."""
    return "DVC_STAGE" in os.environ or not Path(".dvc").is_dir() or not Path(".git").exists()


def _missing() -> set[str] | None:
    """Return the rules that have jobs to do for the tables; None if that is unknown."""
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--quiet", "host", "reason"]
    run = subprocess.run(command, capture_output=True, text=True)
    words = [line.split() for line in run.stdout.splitlines()]
    return None if run.returncode else {line[0] for line in words if len(line) == 2 and line[1].isdigit()}


def _remove_half_written() -> None:
    """Remove files that a killed DVC left half written and that DVC cannot read: dvc.lock and DVC's rwlock."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    def lock(text: str) -> None:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text))

    for path, check in ((Path("dvc.lock"), lock), (Path(".dvc/tmp/rwlock"), json.loads)):
        if path.exists():
            try:
                check(path.read_text())
            except Exception:  # the schema's own kinds are another library's
                path.unlink()


def _commit(missing: set[str] | None) -> None:
    """Commit every stage of dvc.yaml, and mark those with rules in `missing` (None: all) as not up to date."""
    from dvc.exceptions import DvcException  # half a second that a dry run need not wait
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    _remove_half_written()
    logging.getLogger("dvc.output").setLevel(logging.ERROR)  # no warnings of folders that this run had no need to fill
    try:
        with Repo() as repo:
            for out in repo.index.outs:
                if out.persist:  # a folder that other stages read, and that no job may have made yet
                    Path(out.fs_path).mkdir(parents=True, exist_ok=True)
            names = {stage.name for stage in repo.commit(force=True, allow_missing=True, relink=False)}
        with modify_yaml("dvc.lock") as entries:
            for name in names:
                if missing is None or STAGES[name][1] & missing:
                    entries["stages"][name]["cmd"] += PART  # not dvc.yaml's command: DVC runs the stage again
    except (DvcException, OSError) as error:
        print(f"snakemake: the results are not recorded in DVC: {error}", file=sys.stderr)
    else:
        if missing is not None:  # the next run asks again
            UNRECORDED.unlink(missing_ok=True)
