"""What Snakemake makes DVC records, and back: on three rules small enough to try everything that goes wrong."""

import json
import re
import shlex
import shutil

from ..checkout import ROOT
from .conftest import Project, is_clean, new_small

ALL = {"train": 2, "evaluate": 2, "table1": 1}


def seconds(project: Project) -> list[float]:
    """How long each job took, as Snakemake's report draws it."""
    records = [json.loads(path.read_text()) for path in (project.folder / ".snakemake/metadata").iterdir()]
    return [record["endtime"] - record["starttime"] for record in records]


def test_a_table_that_a_first_run_asks_for_by_its_path_is_recorded(tmp_path):
    project = new_small(tmp_path)
    project.run("snakemake", "--quiet", "--cores", "2", "results/table.csv")
    assert is_clean(project)


def test_back_by_checkout_then_forward_by_hand_plans_training(small):
    small.set(lambda_tr=0.2)
    small.run("snakemake", "--quiet", "all")
    assert is_clean(small)
    small.commit("0.2")
    small.run("git", "checkout", "--quiet", "HEAD~1")
    small.run("dvc", "checkout")
    assert small.planned() == {}
    small.set(lambda_tr=0.2)
    assert small.planned() == ALL


def test_a_run_that_leaves_jobs_out_does_not_look_complete(small):
    small.set(lambda_tr=0.2)
    small.run("snakemake", "--quiet", "all", "--until", "train")
    rest = {"evaluate": 2, "table1": 1}
    assert small.planned() == rest and not is_clean(small)
    assert small.ran("dvc", "repro") == rest and is_clean(small)


def test_failure_under_snakemake_leaves_nothing_that_looks_current(small):
    small.set(lambda_tr=0.2)
    (small.folder / "fail-walker2d-medium").touch()
    small.run("snakemake", "--quiet", "all", "--keep-going", fails=True)
    assert not is_clean(small)
    (small.folder / "fail-walker2d-medium").unlink()
    rest = {"train": 1, "evaluate": 1, "table1": 1}
    assert small.planned() == rest
    # Either tool finishes the rest.
    assert small.ran("dvc", "repro") == rest
    assert small.table().count("lambda_tr=0.2") == 2
    assert small.planned() == {} and is_clean(small)


def test_failure_under_dvc_leaves_nothing_that_looks_current(small):
    small.set(lambda_tr=0.2)
    (small.folder / "fail-hopper-medium-expert").touch()
    small.run("dvc", "repro", fails=True)
    (small.folder / "fail-hopper-medium-expert").unlink()
    planned = small.planned()
    assert planned.items() >= {"evaluate": 2, "table1": 1}.items() and 1 <= planned["train"] <= 2
    small.run("snakemake", "--quiet", "all")
    assert small.table().count("lambda_tr=0.2") == 2
    assert is_clean(small)


def test_an_experiment_that_failed_is_neither_lost_nor_taken_for_another(small):
    table = small.table()
    script = small.folder / "Snakefile"
    script.write_text(script.read_text().replace('"cat {input.model}', '"test ! -e fail; cat {input.model}'))
    small.run("snakemake", "--quiet", "all")
    small.commit("evaluation that can fail")
    (small.folder / "fail").touch()
    small.run("dvc", "exp", "run", "-S", "lambda_tr=0.2", fails=True)
    # Its networks are trained, and DVC knows them; the next experiment of this value uses them.
    (small.folder / "fail").unlink()
    assert small.ran("dvc", "exp", "run", "-S", "lambda_tr=0.2") == {"evaluate": 2, "table1": 1}
    (small.folder / "fail").touch()
    small.run("dvc", "exp", "run", "-S", "lambda_tr=0.3", fails=True)
    (small.folder / "fail").unlink()
    assert small.ran("dvc", "exp", "run", "-S", "lambda_tr=0.1") == ALL
    assert small.table() == table and small.planned() == {} and is_clean(small)


def test_after_a_failure_under_dvc_the_old_results_come_back(small):
    table = small.table()
    small.set(lambda_tr=0.2)
    (small.folder / "results/table.csv").unlink()
    (small.folder / "fail-hopper-medium-expert").touch()
    small.run("dvc", "exp", "run", fails=True)
    small.run("git", "checkout", "--", ".")
    small.run("dvc", "checkout", "--force")
    assert small.table() == table and small.planned() == {} and is_clean(small)


def test_deleted_models_are_not_missed_while_nothing_changes(small):
    for model in small.folder.glob("results/models/*/*.txt"):
        model.unlink()
    assert small.planned() == {}
    small.set(lambda_tr=0.2)
    assert small.planned() == ALL


def test_experiments_are_adopted_and_temporary_ones_leave_no_trace(small):
    small.run("dvc", "exp", "run", "--temp", "-S", "lambda_tr=3e-05", "--name", "apart")
    assert small.planned() == {} and is_clean(small)
    small.run("dvc", "exp", "apply", "apart")
    assert small.planned() == {} and is_clean(small)
    assert small.table().count("lambda_tr=3e-05\n") == 2
    assert min(seconds(small)) > 0
    # The views of docs/experiments.md: what differs, and no file's hash.
    page = (ROOT / "docs/experiments.md").read_text()
    views = {
        words[1:3]: words for line in re.findall(r"^\$ (dvc .*)$", page, re.M) if (words := tuple(shlex.split(line)))
    }
    told = {view: small.run(*words) for view, words in views.items()}
    assert told.keys() == {("exp", "show"), ("metrics", "diff"), ("params", "diff"), ("plots", "diff")}
    header = next(line for line in told["exp", "show"].splitlines() if "Experiment" in line)
    assert header.split() == ["Experiment", "Created", "lambda_tr"] and "apart" in told["exp", "show"]
    assert re.search(r"params.yaml +lambda_tr +\S+ +3e-05", told["params", "diff"])


def test_clone_and_pull_plan_nothing_and_a_parameter_its_stages(small, tmp_path):
    small.share(tmp_path / "remote")
    clone = small.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.planned() == {}
    assert seconds(clone) == seconds(small)
    clone.set(alpha=0.5)
    assert clone.planned() == {"evaluate": 2, "table1": 1}


def test_what_was_edited_after_its_job_is_not_taken_for_what_ran(small):
    (small.folder / "edit-code").touch()
    small.set(seeds=[0, 1])
    small.run("snakemake", "--quiet", "all")
    assert small.planned()["train"] == 4


def test_code_edited_during_a_run_is_not_recorded_as_what_ran(small):
    table = small.folder / "Snakefile"
    table.write_text(table.read_text().replace("echo edited > code.py", "sed -i s/0.3/0.4/ params.yaml"))
    (small.folder / "edit-code").touch()
    small.set(lambda_tr=0.3)
    small.run("snakemake", "--quiet", "all")
    assert small.planned() == ALL and not is_clean(small)
    (small.folder / "edit-code").unlink()
    assert small.ran("dvc", "repro") == ALL
    assert small.table().count("lambda_tr=0.4") == 2 and is_clean(small)


def test_touch_deletes_nothing(small):
    (small.folder / "code.py").write_text("only a comment\n")
    small.run("snakemake", "--quiet", "all", "--touch")
    assert small.planned() == {} and is_clean(small)


def test_a_dry_run_writes_nothing(small):
    small.set(lambda_tr=0.2)
    (small.folder / ".snakemake/unrecorded").touch()

    def state():
        files = [path for path in small.folder.rglob("*") if path.is_file()]
        # Snakemake's own: its log, and what it knows of times.
        return {p: p.stat().st_mtime_ns for p in files if not {"__pycache__", "log", "iocache"} & set(p.parts)}

    before = state()
    small.run("snakemake", "--dry-run")
    assert state() == before


def test_without_dvc_snakemake_works_alone(small):
    shutil.rmtree(small.folder / ".dvc")
    small.set(alpha=0.5)
    small.run("snakemake", "--quiet", "all")
    assert small.planned() == {}
