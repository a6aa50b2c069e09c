"""Keep Snakemake's records with the files that they describe, and have DVC record both after a run of Snakemake.

Snakemake remembers in .snakemake/metadata what each file was made from. Each stage of dvc.yaml has a copy of the
records of its files among its outputs, so that what DVC brings (`dvc checkout`, `pull`, `exp apply`) has its records.
"""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from dmemm.files import read_json, replacing, write_json

METADATA = Path(".snakemake/metadata")
SYNCED = Path(".snakemake/synced.json")  # stage → digest of its copy when it was last the same as Snakemake's records
UNRECORDED = Path(".snakemake/unrecorded")  # there while a run is at work, and after one that was killed
SOURCES = ("params.yaml", "Snakefile", "workflow", "dmemm", "tasks")
INCOMPLETE = " # not all of it"

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
_at_start: dict[str, tuple[int, int]] = {}


def prepare(dryrun: bool) -> None:
    """Before the plan: give Snakemake the records of what DVC has brought; record what a killed run has left."""
    synced = read_json(SYNCED) if SYNCED.exists() else {}
    changed = [stage for stage, (copy, _) in STAGES.items() if copy.exists() and _digest(copy) != synced.get(stage)]
    for stage in changed:
        copy, rules = STAGES[stage]
        for path, record in _records().items():
            if record["rule"] in rules:
                path.unlink()
        for name, record in read_json(copy).items():
            (METADATA / name).parent.mkdir(parents=True, exist_ok=True)
            (METADATA / name).write_text(json.dumps(record))
    if changed:
        write_json(SYNCED, synced | {stage: _digest(STAGES[stage][0]) for stage in changed})
    if not dryrun:
        _at_start.update(_sources())
        if METADATA.exists() and not all(copy.exists() for copy, _ in STAGES.values()):  # a run was killed
            _copy_records()
        if not _by_dvc() and UNRECORDED.exists():
            _commit(_missing())


def begin() -> None:
    """With the first job: take the copies away, which are not the same from now on."""
    SYNCED.unlink(missing_ok=True)
    for copy, _ in STAGES.values():
        copy.unlink(missing_ok=True)
    if not _by_dvc():
        UNRECORDED.touch()


def finish(complete: bool) -> None:
    """After the last job: copy the records, and have DVC record everything unless it drives this run itself.

    Args:
        complete: whether everything that the tables need was made. Otherwise, or if parameters or code were edited in
            the meantime, Snakemake is asked what remains to be done.
    """
    _copy_records()
    if not _by_dvc():
        _commit(set() if complete and _sources() == _at_start else _missing())


def _records() -> dict[Path, dict[str, object]]:
    """Snakemake's records; one that a killed run has left half written counts for nothing, as for Snakemake itself."""
    found = {}
    for path in sorted(METADATA.rglob("*")):
        if path.is_file():
            with suppress(ValueError):
                found[path] = json.loads(path.read_bytes())
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
    return "DVC_STAGE" in os.environ or not Path(".dvc").is_dir()


def _sources() -> dict[str, tuple[int, int]]:
    """Time and size of each file of the code and the parameters."""
    found = [path for name in SOURCES for path in (Path(name), *Path(name).rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.suffix != ".pyc"}


def _missing() -> set[str] | None:
    """The rules that have jobs to do for the tables; None if nobody can tell."""
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--quiet", "host", "reason"]
    run = subprocess.run(command, capture_output=True, text=True)
    words = [line.split() for line in run.stdout.splitlines()]
    return None if run.returncode else {line[0] for line in words if len(line) == 2 and line[1].isdigit()}


def _commit(missing: set[str] | None) -> None:
    """Commit every stage of dvc.yaml; for DVC, those with rules in `missing` (None: all) remain to be run."""
    from dvc.exceptions import DvcException  # half a second that a dry run need not wait
    from dvc.repo import Repo
    from dvc.utils.serialize import YAMLFileCorruptedError, modify_yaml, parse_yaml

    lock = Path("dvc.lock")
    try:
        if lock.exists() and not (parse_yaml(lock.read_text(), lock) or {}).get("stages"):
            lock.unlink()
    except YAMLFileCorruptedError:  # by a DVC that was killed: nothing else reads it
        lock.unlink()
    try:
        with Repo() as repo:
            for out in repo.index.outs:
                if out.persist:  # a folder that other stages read, and that no job may have made yet
                    Path(out.fs_path).mkdir(parents=True, exist_ok=True)
            names = {stage.name for stage in repo.commit(force=True, allow_missing=True, relink=False)}
        with modify_yaml("dvc.lock") as entries:
            for name in names:
                if missing is None or STAGES[name][1] & missing:
                    entries["stages"][name]["cmd"] += INCOMPLETE  # not dvc.yaml's command: DVC runs the stage again
    except (DvcException, OSError) as error:
        print(f"snakemake: the results are not recorded in DVC: {error}", file=sys.stderr)
    else:
        UNRECORDED.unlink(missing_ok=True)
