"""The whole pipeline on tiny settings: raw data to tables, both tools agreeing throughout."""

import csv
import hashlib
import json
import re
import shlex
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ..checkout import ROOT
from .conftest import TINY, Project, is_clean

# What a changed lambda_tr affects: networks trained with it, their scores and plans, the tables and figures of those.
# Diffuser, wo_lambda_tr and the points that fix lambda_tr are not among them.
TABLES = ["table1", "table2", "table3", "intervals", "training", "figure1", "curves", "metrics", "consistency_table"]
LAMBDA_TR_JOBS = {"train": 5, "evaluate": 7, "consistency": 5, **dict.fromkeys(TABLES, 1)}
LAMBDA_TR_NETWORKS = ["dmemm", "wo_weighting", "wo_lambda_rd", "lambda_rd=0.5"]


PUBLISH = (ROOT / "docs/publish.md").read_text().replace("hopper-medium-replay", "hopper-medium-expert")
PLAN = """import dmemm, numpy; print(dmemm.Planner.load({!r}).plan(numpy.zeros(11)).actions.tolist())"""


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
    figures = {f"results/{name}.png" for name in ("table1", "table2", "table3", "figure1", "curves", "consistency")}
    assert shown.keys() == tables | figures
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


class Quiet(SimpleHTTPRequestHandler):
    """A web server of files that lists no folder."""

    def log_message(self, *_: Any) -> None:
        pass

    def list_directory(self, path: Any) -> None:
        self.send_error(403)


@pytest.fixture(scope="module")
def served(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a web server, to which the results are published by the commands of docs/publish.md."""
    folder = tmp_path_factory.mktemp("served")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ours = {"https://example.org/dmemm": f"http://127.0.0.1:{server.server_port}", "/srv/www/dmemm": str(folder)}
        for line in re.findall(r"^dvc (?:remote .*|push)$", PUBLISH, re.M):
            built.run(*(ours.get(word, word) for word in shlex.split(line, comments=True)))
        built.commit("published")
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("NO_PROXY", "*")
            yield folder
        server.shutdown()


def digests(project: Project) -> dict[str, str]:
    """Each file of data/ and results/ that DVC versions, with its digest."""
    names = project.run("git", "ls-files", "--others", "--ignored", "--exclude-standard", "data", "results").split()
    return {
        name: hashlib.sha256((project.folder / name).read_bytes()).hexdigest()
        for name in names
        if name != "results/report.html"
    }


def test_published_results_are_pulled_from_a_web_server_and_nothing_reruns(built, served, tmp_path):
    clone = built.clone(tmp_path / "clone")
    table = built.folder / "results/table1.csv"
    (remote,) = (path for path in served.rglob("*") if path.is_file() and path.read_bytes() == table.read_bytes())
    remote.chmod(0o644)
    remote.write_bytes(table.read_bytes().replace(b"hopper", b"HOPPER"))
    clone.run("dvc", "pull", "results/table1.csv", fails=True)
    assert not (clone.folder / "results/table1.csv").exists()
    remote.write_bytes(table.read_bytes())
    clone.run("dvc", "pull")
    assert digests(clone) == digests(built) and len(digests(clone)) > 100
    assert clone.planned() == {} and is_clean(clone)
    plan = "python", "-c", PLAN.format("hopper-medium-expert")
    assert clone.run(*plan) == built.run(*plan)


def test_one_planner_is_pulled_with_what_it_was_made_from(built, served, tmp_path):
    clone, target = built.clone(tmp_path / "clone"), "results/pictures/dmemm/hopper-medium-expert/seed0.png"
    pull, save = re.search(r"^(dvc pull results/.*)\n(python .*)$", PUBLISH, re.M).groups()
    clone.run("bash", "-c", pull)
    results, task = clone.folder / "results", "hopper-medium-expert"
    kinds, mechanisms = ("safetensors", "json", "csv"), ("dynamics", "reward", "value")
    expected = {f"{stage}/{task}/seed0.{kind}" for stage in mechanisms for kind in kinds}
    pulled = {path.relative_to(results).as_posix() for path in results.rglob("seed*")}
    assert pulled == expected | {f"models/{task}/dmemm/seed0.safetensors"}
    assert clone.planned(target) == {"pictures": 1}
    clone.run("bash", "-c", save)
    actions = json.loads(clone.run("python", "-c", PLAN.format("planner")))
    assert [len(actions), len(actions[0])] == [TINY["horizon"]["locomotion"], 3]
    clone.set(lambda_tr=0.2)
    assert clone.planned(target).items() >= {"train": 1, "pictures": 1}.items()


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


def test_a_seed_more_runs_only_what_is_new_its_own_mechanisms_included(built):
    built.set(seeds=[0, 1])
    planned = built.planned("results/table1.csv")
    mechanisms = dict.fromkeys(["dynamics", "reward", "value", "plan_value"], 1)
    assert planned == {**mechanisms, "train": 2, "evaluate": 2, "table1": 1}
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
