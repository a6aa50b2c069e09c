"""What a user does with Snakemake and DVC together: which jobs run, and what the table then holds."""

import os
import re
import shutil

import pytest

from .conftest import TINY, is_clean

ALL = {"train": 2, "evaluate": 2, "table1": 1}
# What is made of scores, of networks and of plans, with tiny settings: two tasks, one seed.
METRICS = {"table1": 1, "table2": 1, "table3": 1, "metrics": 1}
AFTER_SCORES = {**METRICS, "figure1": 1, "intervals": 1, "training": 1}
SCORES = {"evaluate": 14, **AFTER_SCORES}
PLANS = {"consistency": 10, "consistency_table": 1}
NETWORKS = {"train": 10, "curves": 1, **SCORES, **PLANS}


def stale(project):
    """The stages that DVC would run, but for those that only their results would make it run."""
    return set(re.findall(r"^(\w+):$", project.run("dvc", "status"), re.M))


def test_a_fresh_build_leaves_nothing_to_do_for_either_tool(hollow):
    assert hollow.planned() == {}
    assert is_clean(hollow)
    assert hollow.stages("dvc", "repro") == []
    assert hollow.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("dmemm/reporting/figures.py", {"figure1": 1, "consistency_table": 1, "curves": 1}),
        ("dmemm/reporting/tables.py", METRICS),
        ("dmemm/evaluation/consistency.py", PLANS),
        ("dmemm/evaluation/evaluate.py", SCORES),
        ("dmemm/training/train.py", NETWORKS),
        ("dmemm/cli.py", {}),
        ("dmemm/methods/__init__.py", {}),
        ("dmemm/methods/rvs.py", {}),
    ],
)
def test_an_edit_reruns_the_stages_that_import_the_module_and_what_is_made_of_them(hollow, module, jobs):
    with (hollow.folder / module).open("a") as file:
        file.write("edited = True\n")
    assert hollow.planned() == jobs


def test_an_edit_reruns_under_dvc_what_it_affects(hollow):
    with (hollow.folder / "dmemm/evaluation/consistency.py").open("a") as file:
        file.write("edited = True\n")
    assert hollow.ran("dvc", "repro").items() >= PLANS.items()
    assert hollow.planned() == {} and is_clean(hollow)


def test_another_version_of_torch_reruns_what_computes_with_it(hollow):
    code = hollow.folder / "workflow/code.py"
    with code.open("a") as file:
        file.write("_of = version\nversion = lambda library: '9.9' if library == 'torch' else _of(library)\n")
    planned = hollow.planned()
    assert planned.items() >= NETWORKS.items() and planned["dynamics"] == 2
    assert "download" not in planned and "segment" not in planned


@pytest.mark.parametrize("tool", ["snakemake", "dvc"])
def test_another_value_of_a_method_reruns_that_method_and_back(hollow, tool):
    methods = hollow.folder / "dmemm/methods/__init__.py"
    old = '_UNGUIDED, network="dmemm"'
    assert old in methods.read_text()
    methods.write_text(methods.read_text().replace(old, '{"lambda_guide": 0.0, "veto": 0.5}, network="dmemm"'))
    jobs = dict.fromkeys(["evaluate", "consistency", "table3", "consistency_table"], 1)
    assert hollow.planned() == jobs
    if tool == "snakemake":
        hollow.run("snakemake", "--quiet", "all")
    else:
        assert hollow.ran("dvc", "repro").items() >= jobs.items()
    assert hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert hollow.planned() == {} and is_clean(hollow)


def test_one_task_more_runs_its_own_jobs_and_the_tables(hollow):
    before = (hollow.folder / "results/table3.csv").read_text()
    hollow.set(tasks={"locomotion": ["hopper-medium-expert", "walker2d-medium"], "maze": ["maze2d-umaze"]})
    new = dict.fromkeys(["download", "segment", "dynamics", "reward", "value", "plan_value"], 1)
    new |= dict.fromkeys(["train", "evaluate", "consistency"], 2)
    tables = ["consistency_table", "curves", "intervals", "training", "table1", "metrics"]
    assert hollow.planned() == {**new, **dict.fromkeys(tables, 1)}
    hollow.run("snakemake", "--quiet", "all")
    assert is_clean(hollow)
    assert (hollow.folder / "results/table3.csv").read_text() == before


@pytest.mark.parametrize("tool", ["snakemake", pytest.param("dvc", marks=pytest.mark.long)])
def test_a_value_for_mazes_reruns_no_locomotion_task_and_back(hollow, tool):
    jobs = {"train": 2, "evaluate": 4, "consistency": 2}
    jobs |= dict.fromkeys(["table2", "metrics", "intervals", "training", "consistency_table", "curves"], 1)
    if tool == "snakemake":
        hollow.set(train_steps={**TINY["train_steps"], "maze": 7})
        assert hollow.planned() == jobs
        assert {"train"} == stale(hollow)
        hollow.run("snakemake", "--quiet", "all")
    else:
        ran = hollow.ran("dvc", "exp", "run", "-S", "train_steps.maze=7")
        assert {name: ran[name] for name in ("train", "evaluate", "consistency")} == {
            name: jobs[name] for name in ("train", "evaluate", "consistency")
        }
    assert hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert hollow.planned() == {} and is_clean(hollow)


def test_a_bodys_or_a_tasks_own_value_reruns_that_task_alone(hollow):
    targets = [f"results/eval/dmemm/{task}/seed0.json" for task in ("hopper-medium-expert", "walker2d-medium")]
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    one = {name: 1 for name in ("segment", "train", "evaluate")}
    hollow.set(horizon={"locomotion": {"hopper": 16, "walker2d": 8, "halfcheetah": 8}, "maze": 16})
    assert hollow.planned(*targets) == one
    hollow.run("git", "checkout", "--", "params.yaml")
    task = hollow.folder / "tasks/walker2d-medium.yaml"
    text = task.read_text()
    task.write_text(text + "parameters: {horizon: 16}\n")
    assert hollow.planned(*targets) == one
    task.write_text(text + "parameters: {alpha: {diffuser: 3, others: 10}}\n")
    assert hollow.planned(*targets) == {"evaluate": 1}


def test_a_tasks_own_penalty_reruns_the_methods_that_may_read_it(hollow):
    targets = [f"results/eval/{method}/walker2d-medium/seed0.json" for method in ("hdmi", "rvs")]
    targets.append("results/eval/dmemm/hopper-medium-expert/seed0.json")
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    task = hollow.folder / "tasks/walker2d-medium.yaml"
    task.write_text(task.read_text() + "parameters: {termination_penalty: -5}\n")
    assert hollow.planned(*targets) == {"train": 1, "evaluate": 1}


def test_a_model_that_only_a_point_of_figure_1_needs_is_of_its_stage(hollow):
    hollow.set(lambda_rd=0.0)
    shutil.rmtree(hollow.folder / "results/reward", ignore_errors=True)
    assert hollow.planned("all_reward")["reward"] == 1


def test_make_report_includes_current_results_on_demand(hollow):
    files = ["results/ranking.csv", "results/guide/hopper-medium-expert.csv"]
    hollow.run("snakemake", "--quiet", "all", "--", *files)
    gone = "results/guide/gone.csv"  # of a task whose file was deleted
    recipe = re.search(r"all \$\$\((for .*?done)\)", (hollow.folder / "Makefile").read_text(), re.DOTALL)[1]
    recipe = recipe.replace("$$", "$").replace("\\\n", "").replace("$(ON_DEMAND)", " ".join([gone, *files]))
    chosen = hollow.run("sh", "-c", recipe)
    assert set(files) <= set(chosen.split()) and f"report: {gone}: not current, left out" in chosen


def test_a_methods_steps_rerun_that_method_alone(hollow):
    targets = [f"results/eval/{method}/hopper-medium-expert/seed0.json" for method in ("rvs", "dv")]
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    hollow.set(method_steps={"others": 5, "dv": 6})
    assert hollow.planned(*targets) == {"train": 1, "evaluate": 1}


@pytest.mark.parametrize("tool", ["snakemake", "dvc"])
def test_one_seed_more_runs_only_what_is_new(small, tool):
    small.set(seeds=[0, 1])
    assert small.planned() == ALL
    if tool == "snakemake":
        small.run("snakemake", "--quiet", "all")
    else:
        assert small.ran("dvc", "repro") == ALL
    assert small.planned() == {} and is_clean(small)
    assert small.table().count("lambda_tr=0.1") == 4


@pytest.mark.parametrize("written", ["1e-4", pytest.param("2E-1", marks=pytest.mark.long)])
def test_numbers_in_scientific_notation(small, written):
    assert small.ran("dvc", "exp", "run", "-S", f"lambda_tr={written}") == ALL
    assert small.table().count(f"lambda_tr={float(written)}\n") == 2
    assert small.planned() == {} and is_clean(small)


@pytest.mark.long
def test_queued_experiments_run_side_by_side_and_leave_the_workspace_alone(small):
    for name, value in (("low", 0.2), ("high", 0.3)):
        small.run("dvc", "exp", "run", "--queue", "-S", f"lambda_tr={value}", "--name", name)
    before = small.table()
    small.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    assert small.run("dvc", "queue", "status").count("Success") == 2
    assert small.table() == before and small.planned() == {} and is_clean(small)
    for name, value in (("low", 0.2), ("high", 0.3)):
        small.run("dvc", "exp", "apply", name)
        assert small.planned() == {} and is_clean(small)
        assert small.table().count(f"lambda_tr={value}") == 2


def test_an_experiment_and_back_on_the_whole_pipeline(hollow):
    table = hollow.folder / "results/table1.csv"
    before = table.read_text()
    # DVC deletes the tables before it has them made, so Snakemake makes all of them.
    affected = {"train": 5, "evaluate": 7, "consistency": 5, **AFTER_SCORES, "consistency_table": 1, "curves": 1}
    output = hollow.run("dvc", "exp", "run", "-S", "lambda_tr=0.2")
    skipped = re.findall(r"Stage '(\w+)' didn't change, skipping", output)
    assert skipped == ["download", "segment", "dynamics", "reward", "value"]
    after = table.read_text()
    assert after != before and hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert table.read_text() == before and hollow.planned() == {} and is_clean(hollow)
    hollow.set(lambda_tr=0.2)
    assert hollow.planned() == affected
    hollow.run("snakemake", "--quiet", "all")
    assert table.read_text() == after and is_clean(hollow)


def test_clone_and_pull_of_the_whole_pipeline(hollow, tmp_path):
    hollow.share(tmp_path / "remote")
    clone = hollow.clone(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.planned() == {}
    clone.set(alpha=0.5)
    assert clone.planned() == SCORES | PLANS


def test_clone_and_pull_of_one_table(hollow, tmp_path):
    for name in ("data", "results", ".snakemake"):
        shutil.rmtree(hollow.folder / name)
    (hollow.folder / "dvc.lock").unlink()
    hollow.run("snakemake", "--quiet", "all", "--", "results/table1.csv")
    hollow.share(tmp_path / "remote")
    clone = hollow.clone(tmp_path / "clone")
    assert "results/table2.csv" in clone.run("dvc", "pull", fails=True)
    clone.run("dvc", "pull", "--allow-missing")
    assert clone.planned("results/table1.csv") == {}
    assert "changed command" in clone.run("dvc", "status", "train")


def test_what_is_not_there_is_not_missed_but_not_taken_for_current_either(hollow):
    for model in hollow.folder.glob("results/models/**/*.safetensors"):
        model.unlink()
    assert hollow.planned("results/table1.csv") == {}
    hollow.set(lambda_tr=0.2)
    assert hollow.planned("results/table1.csv") == {"train": 1, "evaluate": 1, "table1": 1}


def test_results_by_path_are_versioned_and_come_back(hollow):
    target = "results/eval/dmemm/walker2d-medium/seed7.json"
    hollow.run("snakemake", "--quiet", "all", "--", target)
    assert is_clean(hollow)  # the tables still have all that they need
    score = (hollow.folder / target).read_text()
    hollow.commit("seed 7")
    hollow.set(lambda_tr=0.2)
    assert hollow.planned(target) == {"train": 1, "evaluate": 1}
    hollow.run("snakemake", "--quiet", "all", "--", target)
    assert (hollow.folder / target).read_text() != score
    assert {"train", "evaluate", "consistency", "tables"} <= stale(hollow)  # the tables are of the other value
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert (hollow.folder / target).read_text() == score and hollow.planned(target) == {} and is_clean(hollow)


def test_a_table_alone_leaves_the_other_stages_for_dvc_to_run(tmp_path, hollow):
    hollow.set(lambda_tr=0.2)
    hollow.run("snakemake", "--quiet", "all", "--", "results/table1.csv")
    assert "changed command" in hollow.run("dvc", "status", "train")
    assert "up to date" in hollow.run("dvc", "status", "dynamics")
    assert hollow.ran("dvc", "repro").items() >= {"train": 4, "evaluate": 6}.items()
    assert hollow.planned() == {} and is_clean(hollow)


def test_a_new_recording_or_environment_of_ones_own_reruns_what_is_made_of_it(hollow):
    own = hollow.folder / "data/own/pendulum.hdf5"
    study = "sample-tweedie-uniform-1"
    targets = [f"results/{made}/pendulum/seed0.json" for made in (
        "eval/dmemm", "eval/morel", "eval/rvs", "consistency/dmemm", "calibrate/dmemm", f"eval/{study}",
        f"consistency/{study}",
    )] + ["results/pictures/dmemm/pendulum/seed0.png"]  # fmt: skip
    own.parent.mkdir()
    own.write_text("first recording")
    (hollow.folder / "envs").mkdir()
    (hollow.folder / "envs/pendulum.py").write_text("first environment")
    task = "env: envs.pendulum:Pendulum\nepisode_steps: 200\nrandom_return: -1200\nexpert_return: -150\n"
    task += "data: {own: data/own/pendulum.hdf5}\nparameters: {horizon: 32}\n"
    (hollow.folder / "tasks/pendulum.yaml").write_text(task)
    learning = dict.fromkeys(["download", "segment", "dynamics", "reward", "value", "plan_value"], 1)
    # What acts in the environment or asks where an episode ends: MOReL's training, and what comes after trainings.
    acting = {"evaluate": 4, "consistency": 2, "calibrate": 1, "pictures": 1}
    assert hollow.planned(*targets) == {**learning, "train": 4, **acting}
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    assert hollow.planned(*targets) == {}
    (hollow.folder / "envs/pendulum.py").write_text("second environment")
    assert hollow.planned(*targets) == {"train": 1, **acting}
    own.write_text("second recording")
    os.utime(own, (0, 0))  # as a copy that keeps its time
    assert hollow.planned(*targets) == {**learning, "train": 4, **acting}
    assert hollow.planned("results/table1.csv") == {}
    hollow.run("snakemake", "--quiet", "all", "--", "data/raw/pendulum.hdf5")
    assert hollow.planned("data/raw/pendulum.hdf5") == {}
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    own.unlink()  # as in a clone, which has only what was made of it
    assert hollow.planned(*targets) == {}
