"""The whole pipeline on tiny settings: raw data to tables, both tools agreeing throughout."""

import csv
import json
import re

import pytest

# What a changed lambda_tr affects: networks trained with it, their scores and plans, the tables and figures of those.
# Diffuser, wo_lambda_tr and the points that fix lambda_tr are not among them.
TABLES = ["table1", "table2", "table3", "intervals", "training", "figure1", "curves", "metrics", "consistency_table"]
LAMBDA_TR_JOBS = {"train": 5, "evaluate": 7, "consistency": 5, **dict.fromkeys(TABLES, 1)}
LAMBDA_TR_NETWORKS = ["dmemm", "wo_weighting", "wo_lambda_rd", "lambda_rd=0.5"]


def rows(built, name):
    with (built.folder / "results" / name).open() as file:
        return list(csv.DictReader(file))


def test_one_run_makes_tables_figure_and_metrics(built):
    assert [row["task"] for row in rows(built, "table1.csv")] == ["hopper-medium-expert", "Average"]
    assert [row["task"] for row in rows(built, "table2.csv")][:2] == ["maze2d-umaze", "multi2d-umaze"]
    row = rows(built, "table1.csv")[0]
    assert (row["data"], row["seeds"], row["episodes"]) == ("local", "1", "2")
    score = json.loads((built.folder / "results/eval/dmemm/hopper-medium-expert/seed0.json").read_text())
    assert float(row["dmemm_mean"]) == round(sum(score["scores"]) / 2, 3)
    for name in ("figure1.png", "figure1.pdf", "table3.md", "metrics.json"):
        assert (built.folder / "results" / name).stat().st_size > 0


def test_the_report_shows_every_table_and_figure(built):
    built.run("snakemake", "--report", "results/report.html", "all")
    page = (built.folder / "results/report.html").read_text()
    shown = json.loads(re.search(r"var results = (\{.*\});", page)[1])
    tables = {f"results/{name}.html" for name in ("table1", "table2", "table3", "intervals", "training", "consistency")}
    assert shown.keys() == tables | {f"results/{name}.png" for name in ("figure1", "curves", "consistency")}
    assert all("local" in result["caption"] or "curves" in path for path, result in shown.items())


def test_then_both_tools_hold_everything_current(built):
    assert built.planned() == {}
    assert "up to date" in built.run("dvc", "status")
    assert built.run("git", "status", "--porcelain").split() == ["??", "dvc.lock"]


def test_dvc_draws_each_loss_term_of_each_network(built):
    output = built.run("dvc", "plots", "show", "--json")
    plots = json.JSONDecoder().raw_decode(output[output.index("{") :])[0]["data"]
    for variant, terms in (("dmemm", {"total", "wdiff", "tr", "rd"}), ("wo_lambda_rd", {"total", "wdiff", "tr"})):
        (plot,) = plots[f"results/curves/hopper-medium-expert/{variant}/seed0.csv"]
        drawn = {point["field"] for point in plot["content"]["data"]["values"] if point["dvc_inferred_y_value"]}
        assert drawn == terms


def test_lambda_tr_affects_its_own_jobs_and_nothing_else(built):
    built.set(lambda_tr=0.2)
    assert built.planned() == LAMBDA_TR_JOBS
    trained = set(re.findall(r"output: results/models/\S+-\S+/(\S+)/seed0", built.run("snakemake", "--dry-run")))
    assert trained == set(LAMBDA_TR_NETWORKS)
    built.run("git", "checkout", "params.yaml")


@pytest.mark.long
def test_an_experiment_and_back(built):
    built.commit("built")
    before = rows(built, "table1.csv")
    ran = built.ran("dvc", "exp", "run", "-S", "lambda_tr=0.2")
    assert ran == LAMBDA_TR_JOBS
    after = rows(built, "table1.csv")
    assert after[0]["diffuser_mean"] == before[0]["diffuser_mean"]
    assert after[0]["dmemm_mean"] != before[0]["dmemm_mean"]
    assert built.planned() == {}
    built.run("git", "checkout", "--", ".")
    built.run("dvc", "checkout")
    assert rows(built, "table1.csv") == before
    assert built.planned() == {}


def test_a_seed_more_runs_only_what_is_new(built):
    built.set(seeds=[0, 1])
    planned = built.planned("results/table1.csv")
    assert planned == {"train": 2, "evaluate": 2, "table1": 1}
    built.run("git", "checkout", "params.yaml")


def test_a_method_more_runs_its_own_jobs_and_the_tables(built):
    built.set(methods=["rvs", "mppi"])
    tables = ["table1", "table2", "intervals", "training", "consistency_table", "metrics"]
    assert built.planned() == {"train": 4, "evaluate": 6, "consistency": 2, **dict.fromkeys(tables, 1)}
    built.run("git", "checkout", "params.yaml")


@pytest.mark.long
def test_other_methods_are_trained_scored_and_asked_for_their_plans(built):
    scores = "results/eval/rvs/hopper-medium-expert/seed0.json", "results/eval/mppi/multi2d-umaze/seed0.json"
    plans = [f"results/consistency/mppi/{task}/seed0.json" for task in ("hopper-medium-expert", "maze2d-umaze")]
    built.run("snakemake", "--cores", "2", "--quiet", "all", "--", *scores, *plans)
    for name in plans:
        record = json.loads((built.folder / name).read_text())
        assert record["variant"] == "mppi" and min(record["simulator_error"], record["model_error"]) > 0
    for name in scores:
        record = json.loads((built.folder / name).read_text())
        assert len(record["scores"]) == 2 and record["checkpoint"] == "last" and list(record["executed"]) == ["actions"]


def test_damaged_data_are_named_and_nothing_made_of_them_counts_until_they_are_made_again(built):
    raw = built.folder / "data/raw/hopper-medium-expert.hdf5"
    content, table = raw.read_bytes(), (built.folder / "results/table1.csv").read_text()
    raw.unlink()  # a link into the cache, maybe: never write through it
    raw.write_bytes(b"not HDF5")
    planned = built.planned("results/table1.csv")
    assert planned["segment"] == planned["dynamics"] == 1 and planned["train"] == 2
    output = built.run("snakemake", "results/table1.csv", fails=True)
    assert "dmemm: data/raw/hopper-medium-expert.hdf5: " in output and "delete it" in output
    raw.unlink()
    built.run("snakemake", str(raw.relative_to(built.folder)))
    assert raw.read_bytes() == content
    built.run("snakemake", "results/table1.csv")
    assert (built.folder / "results/table1.csv").read_text() == table
    assert built.planned("results/table1.csv") == {}
