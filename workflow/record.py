"""Record in DVC what a run of Snakemake has made: artifacts, and Snakemake's own records of them.

Under DVC (DVC_STAGE is set) nothing is done: DVC records its stages itself.
"""

import os
import subprocess
import sys
from pathlib import Path

UNRECORDED = Path(".snakemake/unrecorded")  # there while a run is at work, and after one that was killed
SOURCES = ("params.yaml", "Snakefile", "workflow", "dmemm", "tasks")
INCOMPLETE = " # not all of it"
_at_start: dict[str, tuple[int, int]] = {}


def prepare() -> None:
    """Before a run: record what a killed one has left, as this one may replace it."""
    _at_start.update(_sources())
    if not _by_dvc() and UNRECORDED.exists():
        _record(_missing())


def begin() -> None:
    """With the first job: note that results are not recorded."""
    if not _by_dvc():
        UNRECORDED.touch()


def finish(complete: bool) -> None:
    """After the last job: record what there is.

    Args:
        complete: whether everything that the tables need was made. Otherwise, or if parameters or code were edited in
            the meantime, Snakemake is asked what remains to be done.
    """
    if not _by_dvc():
        _record(set() if complete and _sources() == _at_start else _missing())


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


def _record(missing: set[str] | None) -> None:
    """Commit every stage of dvc.yaml; for DVC, those with rules in `missing` (None: all) remain to be run."""
    from dvc.exceptions import DvcException  # half a second that a dry run need not wait
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    try:
        with Repo() as repo:
            names = {stage.name for stage in repo.commit(force=True, allow_missing=True, relink=False)}
        remaining = names if missing is None else {_stage(rule, names) for rule in missing}
        with modify_yaml("dvc.lock") as lock:
            for name in names & remaining:
                lock["stages"][name]["cmd"] += INCOMPLETE  # not dvc.yaml's command: DVC runs the stage again
    except DvcException as error:
        print(f"snakemake: the results are not recorded in DVC: {error}", file=sys.stderr)
    else:
        UNRECORDED.unlink(missing_ok=True)


def _stage(rule: str, names: set[str]) -> str:
    """The stage of dvc.yaml that a rule belongs to."""
    return rule if rule in names else {"plan_value": "value"}.get(rule, "tables")
