"""What a user does with Snakemake and DVC together: which jobs run, and what the table then holds."""

import re

import pytest

from .conftest import TINY, Project, is_clean

ALL = {"train_dmemm_locomotion": 2, "evaluate_dmemm_locomotion": 2, "table": 1}
# What imports the modules on the left, with all that is made of it, at tiny settings (two tasks, one seed).
BOTH = [f"{variant}_{suite}" for variant in ("diffuser", "dmemm") for suite in ("locomotion", "maze")]
ABLATIONS = [
    f"{variant}_locomotion"
    for variant in ("wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "only_weighting", "wo_tr_guide")
]
POINTS = ["lambda_tr_locomotion", "lambda_rd_locomotion"]
SCORES = {f"evaluate_{name}": 1 for name in [*BOTH, "multi2d_diffuser", "multi2d_dmemm", *ABLATIONS, *POINTS]}
CONSISTENCY = {**{f"consistency_{name}": 1 for name in [*BOTH, *ABLATIONS]}, "consistency": 1}
TABLES = {"table1": 1, "table2": 1, "table3": 1, "metrics": 1}
TRAINING = {**{f"train_{name}": 1 for name in [*BOTH, *ABLATIONS[:-1], *POINTS]}, "curves": 1}
AFTER_SCORES = {**TABLES, "figure1": 1, "intervals": 1, "training": 1}


def stale(project):
    """The stages that DVC would run, but for those that only their results would make it run."""
    return set(re.findall(r"^(\w+)(?:@\S+)?:$", project.run("dvc", "status"), re.M))


def test_a_fresh_build_leaves_nothing_to_do_for_either_tool(hollow):
    assert hollow.planned() == {}
    assert is_clean(hollow)
    assert hollow.stages("dvc", "repro") == {}
    assert hollow.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("dmemm/reporting/figures.py", {"figure1": 1, "consistency": 1, "curves": 1}),
        ("dmemm/reporting/tables.py", TABLES),
        ("dmemm/evaluation/consistency.py", CONSISTENCY),
        ("dmemm/evaluation/evaluate.py", SCORES | AFTER_SCORES),
        ("dmemm/training/train.py", TRAINING | SCORES | CONSISTENCY | AFTER_SCORES),
        ("dmemm/cli.py", {}),
        ("dmemm/variants.py", {}),
    ],
)
def test_an_edit_reruns_the_stages_that_import_the_module_and_what_is_made_of_them(hollow, module, jobs):
    with (hollow.folder / module).open("a") as file:
        file.write("# edited\n")
    planned = hollow.planned()
    assert {name: number for name, number in planned.items() if not name.startswith("code_")} == jobs
    # Under DVC the same: its own view of what the edit affects, from the lists of modules down.
    assert stale(hollow) == {name for name in planned if name.startswith("code_")}


@pytest.mark.long
def test_an_edit_reruns_under_dvc_what_it_affects(hollow):
    with (hollow.folder / "dmemm/evaluation/consistency.py").open("a") as file:
        file.write("# edited\n")
    planned = hollow.planned()
    assert planned.items() >= CONSISTENCY.items()
    # What the edited stages write is the same here, where DVC stops.
    del planned["consistency"]
    assert hollow.stages("dvc", "repro") == planned
    assert hollow.planned() == {} and is_clean(hollow)
    hashes = (hollow.folder / "results/code/consistency.txt").read_text().splitlines()
    (line,) = [line for line in hashes if line.endswith(" dmemm/evaluation/consistency.py")]
    assert line.split()[0] == hollow.run("git", "hash-object", "dmemm/evaluation/consistency.py").strip()


@pytest.mark.long
def test_another_value_of_a_variant_reruns_that_variant_under_both_tools_and_back(hollow):
    variants = hollow.folder / "dmemm/variants.py"
    old = 'Variant("wo_tr_guide", "dmemm", _UNGUIDED)'
    assert old in variants.read_text()
    variants.write_text(
        variants.read_text().replace(old, old.replace("_UNGUIDED", '{"lambda_guide": 0.0, "veto": 0.5}'))
    )
    planned = hollow.planned()
    assert planned == dict.fromkeys(
        ["evaluate_wo_tr_guide_locomotion", "consistency_wo_tr_guide_locomotion", "table3", "consistency"], 1
    )
    # Until dvc.yaml says so too, nothing is recorded under the old value.
    lock = (hollow.folder / "dvc.lock").read_bytes()
    target = "results/eval/wo_tr_guide/hopper-medium-expert/seed0.json"
    assert "evaluate_wo_tr_guide_locomotion; run `make dvc.yaml`" in hollow.run(
        "snakemake", "--quiet", "all", "--", target
    )
    assert (hollow.folder / "dvc.lock").read_bytes() == lock
    hollow.run("python", "-m", "workflow.dvc_yaml")
    # DVC's figure1 depends on the folder of all scores, as it cannot list a point's.
    assert hollow.stages("dvc", "repro") == {**planned, "figure1": 1}
    assert hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert hollow.planned() == {} and is_clean(hollow)


def test_one_task_more_runs_its_own_jobs_and_the_tables(hollow):
    before = (hollow.folder / "results/table3.csv").read_text()
    hollow.set(tasks={"locomotion": ["hopper-medium-expert", "walker2d-medium"], "maze": ["maze2d-umaze"]})
    new = ["download", "segment", "dynamics", "reward", "value", "plan_value", "train_dmemm", "train_diffuser"]
    new += ["evaluate_dmemm", "evaluate_diffuser", "consistency_dmemm", "consistency_diffuser"]
    new = [f"{stage}_locomotion" for stage in new]
    tables = ["consistency", "curves", "intervals", "training", "table1", "metrics"]
    assert hollow.planned() == dict.fromkeys([*new, *tables], 1)
    hollow.run("snakemake", "--quiet", "all")
    assert is_clean(hollow)
    assert (hollow.folder / "results/table3.csv").read_text() == before


@pytest.mark.parametrize("tool", ["snakemake", pytest.param("dvc", marks=pytest.mark.long)])
def test_a_value_for_mazes_reruns_no_locomotion_task_and_back(hollow, tool):
    value = {**TINY["train_steps"], "maze": 7}
    jobs = [
        f"{stage}_{name}" for stage in ("train", "evaluate", "consistency") for name in ("diffuser_maze", "dmemm_maze")
    ]
    jobs += ["evaluate_multi2d_diffuser", "evaluate_multi2d_dmemm"]
    jobs += ["table2", "metrics", "intervals", "training", "consistency", "curves"]
    if tool == "snakemake":
        hollow.set(train_steps=value)
        assert hollow.planned() == dict.fromkeys(jobs, 1)
        assert stale(hollow) == {"train_diffuser_maze", "train_dmemm_maze"}
        hollow.run("snakemake", "--quiet", "all")
    else:
        # DVC's figure1 depends on the folder of all scores, as it cannot list a point's; so do some tables.
        ran = hollow.stages("dvc", "exp", "run", "-S", "train_steps.maze=7")
        assert ran.items() >= dict.fromkeys(jobs, 1).items()
        assert not [name for name in ran if name.endswith("_locomotion")]
    assert hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert hollow.planned() == {} and is_clean(hollow)


@pytest.mark.parametrize("tool", ["snakemake", "dvc"])
def test_one_seed_more_runs_only_what_is_new(small, tool):
    small.set(seeds=[0, 1])
    assert small.planned() == ALL
    if tool == "snakemake":
        small.run("snakemake", "--quiet", "all")
    else:
        assert small.stages("dvc", "repro") == ALL
    assert small.planned() == {} and is_clean(small)
    assert small.table().count("lambda_tr=0.1") == 4


@pytest.mark.parametrize("written", ["1e-4", pytest.param("2E-1", marks=pytest.mark.long)])
def test_numbers_in_scientific_notation(small, written):
    assert small.stages("dvc", "exp", "run", "-S", f"lambda_tr={written}") == ALL
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


@pytest.mark.long
def test_an_experiment_and_back_on_the_whole_pipeline(hollow):
    table = hollow.folder / "results/table1.csv"
    before = table.read_text()
    ran = hollow.stages("dvc", "exp", "run", "-S", "lambda_tr=0.2")
    trained = {name for name in ran if name.startswith(("download", "dynamics", "train_"))}
    others = ["wo_weighting_locomotion", "wo_lambda_rd_locomotion", "lambda_rd_locomotion"]
    assert trained == {f"train_{name}" for name in ["dmemm_locomotion", "dmemm_maze", *others]}
    after = table.read_text()
    assert after != before and hollow.planned() == {} and is_clean(hollow)
    hollow.run("git", "checkout", "--", ".")
    hollow.run("dvc", "checkout")
    assert table.read_text() == before and hollow.planned() == {} and is_clean(hollow)
    hollow.set(lambda_tr=0.2)
    assert hollow.planned() == ran
    hollow.run("snakemake", "--quiet", "all")
    assert table.read_text() == after and is_clean(hollow)


def test_clone_and_pull_of_the_whole_pipeline(hollow, tmp_path):
    hollow.run("dvc", "remote", "add", "--quiet", "--default", "shared", str(tmp_path / "remote"))
    hollow.run("dvc", "push")
    hollow.commit("remote")
    hollow.run("git", "clone", "--quiet", str(hollow.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "pull")
    assert clone.planned() == {}
    clone.set(alpha=0.5)
    assert clone.planned() == SCORES | CONSISTENCY | AFTER_SCORES


def test_a_new_recording_or_environment_of_ones_own_reruns_what_is_made_of_it(hollow):
    own = hollow.folder / "data/own/pendulum.hdf5"
    study = "sample-tweedie-uniform-1"
    targets = [f"results/{made}/pendulum/seed0.json" for made in (
        "eval/dmemm", "eval/morel", "eval/rvs", "consistency/dmemm", "calibrate/dmemm", f"study/eval/{study}",
        f"study/consistency/{study}",
    )] + ["results/pictures/dmemm/pendulum/seed0.png"]  # fmt: skip
    own.parent.mkdir()
    own.write_text("first recording")
    (hollow.folder / "envs").mkdir()
    (hollow.folder / "envs/pendulum.py").write_text("first environment")
    task = "env: envs.pendulum:Pendulum\nepisode_steps: 200\nrandom_return: -1200\nexpert_return: -150\n"
    task += "data: {own: data/own/pendulum.hdf5}\nparameters: {horizon: 32}\n"
    (hollow.folder / "tasks/pendulum.yaml").write_text(task)
    stages = ["download", "segment", "dynamics", "reward", "value", "plan_value"]
    stages += ["train_dmemm", "train_rvs", "train_study"]
    learning = {f"{stage}_locomotion": 1 for stage in stages}
    # What acts in the environment or asks where an episode ends.
    stages = ["train_morel", "pictures_dmemm", "calibrate_dmemm", "consistency_dmemm", "consistency_study"]
    stages += [f"evaluate_{name}" for name in ("dmemm", "morel", "rvs", "study")]
    acting = {f"{stage}_locomotion": 1 for stage in stages}
    # Lists of modules that nothing in the tables has needed yet.
    stages = ["pictures", "calibrate", "train_morel", "train_rvs", "evaluate_morel", "evaluate_rvs"]
    code = {f"code_{stage}": 1 for stage in stages}
    assert hollow.planned(*targets) == learning | acting | code
    hollow.run("snakemake", "--quiet", "all", "--", *targets)
    assert hollow.planned(*targets) == {}
    (hollow.folder / "envs/pendulum.py").write_text("second environment")
    assert hollow.planned(*targets) == acting
    own.write_text("second recording")
    assert hollow.planned(*targets) == learning | acting
    assert hollow.planned("results/table1.csv") == {}
    hollow.run("snakemake", "--quiet", "all", "--", "data/raw/pendulum.hdf5")
    assert hollow.planned("data/raw/pendulum.hdf5") == {}
