"""Tables 1 to 3 and the metrics."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dmemm.errors import UserError
from dmemm.reporting.tables import write_metrics, write_table

PUBLISHED = Path(__file__).parents[2] / "workflow" / "resources" / "published.csv"
HOPPER, WALKER = "hopper-medium-replay", "walker2d-medium-expert"
ABLATIONS = ("dmemm", "wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "wo_tr_guide", "wo_modulation", "only_weighting")


def pair(
    write_score: Any, task: str, diffuser: list[list[float]], dmemm: list[list[float]], **changes: Any
) -> list[Path]:
    runs = (("diffuser", diffuser), ("dmemm", dmemm))
    return [write_score(task, v, seed, scores, **changes) for v, seeds in runs for seed, scores in enumerate(seeds)]


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def make(number: int, scores: list[Path]) -> tuple[list[dict[str, str]], str]:
        outputs = tmp_path / "out" / f"table{number}.csv", tmp_path / "out" / f"table{number}.md"
        write_table(number, scores, PUBLISHED, outputs)
        return read(outputs[0]), outputs[1].read_text()

    return make


def test_table1_has_the_numbers_computed_by_hand(write_score: Any, table: Any) -> None:
    # hopper: diffuser's seeds 40 and 44 (42 ± 2), dmemm's 50 and 51 (50.5 ± 0.5); walker: 100 ± 0 and 110 ± 10.
    lines, text = table(
        1,
        pair(write_score, HOPPER, [[30, 50], [44, 44]], [[49, 51], [51, 51]])
        + pair(write_score, WALKER, [[100, 100], [90, 110]], [[120, 120], [100, 100]], data_score=90),
    )
    assert lines[0] == {
        "task": HOPPER,
        "data": "local",
        "seeds": "2",
        "episodes": "2",
        "data_score": "31.250",
        "best_policy_score": "",
        "diffuser_mean": "42.000",
        "diffuser_standard_error": "2.000",
        "dmemm_mean": "50.500",
        "dmemm_standard_error": "0.500",
    }
    assert [line["task"] for line in lines] == [HOPPER, WALKER, "Average"]
    assert (lines[1]["diffuser_standard_error"], lines[1]["dmemm_standard_error"]) == ("0.000", "10.000")
    assert (lines[2]["data_score"], lines[2]["diffuser_mean"], lines[2]["dmemm_mean"]) == ("60.625", "71.000", "80.250")
    assert lines[2]["seeds"] == lines[2]["dmemm_standard_error"] == ""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert rows[0] == ["Task", "Data", "Seeds", "Episodes a seed", "Data set's own", "Diffuser", "DMEMM"]
    assert rows[2] == [HOPPER, "local", "2", "2", "31.2", "42.0 ± 2.0", "**50.5 ± 0.5**"]
    assert rows[4] == ["Average", "", "", "", "60.6", "71.0", "**80.2**"]
    assert text.startswith("**Table 1.** Locomotion. Data source: local. 2 seeds × 2 episodes, last checkpoint;")


def test_the_best_policy_of_the_data_has_a_column_where_it_is_known(write_score: Any, table: Any) -> None:
    known = pair(write_score, HOPPER, [[1], [2]], [[3], [4]], best_policy_score=98.76)
    lines, text = table(1, known + pair(write_score, WALKER, [[1], [2]], [[3], [4]]))
    assert [line["best_policy_score"] for line in lines] == ["98.760", "", ""]
    assert "Its best policy" in text and "98.8" in text


def test_published_scores_stand_only_beside_d4rl_data(write_score: Any, table: Any) -> None:
    for source in ("local", "minari"):
        lines, text = table(1, pair(write_score, HOPPER, [[1], [2]], [[3], [4]], data_source=source))
        assert "ublished" not in "".join(lines[0])
        assert "Published" not in text and "100.6" not in text
        assert f"The {source} data are not D4RL's" in text
    lines, text = table(1, pair(write_score, HOPPER, [[1], [2]], [[3], [4]], data_source="d4rl"))
    assert (lines[0]["diffuser_published_mean"], lines[0]["diffuser_published_plus_minus"]) == ("93.600", "0.400")
    assert (lines[0]["dmemm_published_mean"], lines[1]["dmemm_published_mean"]) == ("100.600", "100.600")
    own, published = text.split("Published scores, as the paper prints them")
    assert "100.6 ± 0.9" in published and "100.6" not in own and "**" not in published
    assert "not comparable" not in text


def test_d4rl_rows_that_the_paper_lacks_need_no_published_block(write_score: Any, table: Any) -> None:
    lines, text = table(
        3, [write_score("halfcheetah-medium", v, 0, [1.0 * i], data_source="d4rl") for i, v in enumerate(ABLATIONS)]
    )
    assert lines[0]["dmemm_published_mean"] == "" and "Published" not in text


def test_of_two_scores_around_zero_the_better_one_is_bold(write_score: Any, table: Any) -> None:
    lines, text = table(1, pair(write_score, HOPPER, [[-0.04]], [[0.04]]))
    assert text.splitlines()[4].count("**0.0 ± –**") == 2 and "-0.0" not in text
    assert lines[0]["dmemm_standard_error"] == ""


def test_published_cells_stay_blank_beside_local_rows_and_have_no_average_then(write_score: Any, table: Any) -> None:
    scores = pair(write_score, HOPPER, [[1]], [[3]]) + pair(write_score, WALKER, [[1]], [[3]], data_source="d4rl")
    lines, text = table(1, scores)
    assert [line["dmemm_published_mean"] for line in lines] == ["", "111.600", ""]
    assert "The local data are not D4RL's" in text and "100.6" not in text
    assert text.partition("Published")[2].count("expert") == 1  # the block has the d4rl row alone


def test_what_prints_alike_is_best_together(write_score: Any, table: Any) -> None:
    _, text = table(1, pair(write_score, HOPPER, [[3.04], [3.04]], [[3.0], [3.0]]))
    assert text.count("**3.0 ± 0.0**") == 2


def test_one_seed_prints_a_dash_for_its_error(write_score: Any, table: Any) -> None:
    lines, text = table(1, pair(write_score, HOPPER, [[1]], [[3]]))
    assert lines[0]["dmemm_standard_error"] == ""
    assert "3.0 ± –" in text


def test_table2_has_success_rates(write_score: Any, table: Any) -> None:
    scores = pair(write_score, "maze2d-umaze", [[0, 100], [0, 0]], [[100, 100], [0, 200]])
    scores += pair(write_score, "multi2d-umaze", [[100, 100]] * 2, [[100, 100]] * 2, data_score=None)
    lines, text = table(2, scores)
    assert (lines[0]["diffuser_success_rate"], lines[0]["dmemm_success_rate"]) == ("0.250", "0.750")
    assert lines[2]["diffuser_success_rate"] == "0.625"
    assert lines[1]["data_score"] == lines[2]["data_score"] == ""  # an average without one of the rows would mislead
    assert "25 %" in text and "DMEMM, success" in text


def test_table3_compares_the_ablations(write_score: Any, table: Any) -> None:
    tasks = (HOPPER, "halfcheetah-medium")
    scores = [
        write_score(t, v, s, [10.0 * i + s], data_source="d4rl")
        for t in tasks
        for i, v in enumerate(ABLATIONS)
        for s in (0, 2)
    ]
    lines, text = table(3, scores)
    assert [float(lines[0][f"{variant}_mean"]) for variant in ABLATIONS] == [1, 11, 21, 31, 41, 51, 61]
    assert lines[0]["wo_tr_guide_published_mean"] == "96.200"
    assert lines[1]["wo_tr_guide_published_mean"] == ""  # the paper ablates no halfcheetah
    assert "w/o transition guide" in text


@pytest.mark.parametrize(
    ("number", "runs", "message"),
    [
        (1, [(HOPPER, "dmemm")], f"{HOPPER}: no scores of diffuser"),
        (
            1,
            [("maze2d-umaze", "dmemm"), ("maze2d-umaze", "diffuser")],
            "maze2d-umaze is not a row of table 1; use table 2",
        ),
        (2, [(HOPPER, "dmemm"), (HOPPER, "diffuser")], f"{HOPPER} is not a row of table 2; use table 1"),
        (1, [(HOPPER, "dmemm"), (HOPPER, "diffuser"), (HOPPER, "wo_tr_guide")], "no column wo_tr_guide"),
        (1, [], "no score files"),
    ],
)
def test_scores_that_make_no_table_are_refused(
    write_score: Any, table: Any, tmp_path: Path, number: int, runs: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        table(number, [write_score(*run, 0, [1.0]) for run in runs])
    assert not (tmp_path / "out").exists()


def test_mazes_without_success_are_refused(write_score: Any, table: Any) -> None:
    with pytest.raises(UserError, match="success: missing"):
        table(2, pair(write_score, "maze2d-umaze", [[1]], [[1]], success=None))


def test_same_scores_give_the_same_bytes(write_score: Any, tmp_path: Path) -> None:
    scores = pair(write_score, HOPPER, [[1, 2], [2, 5]], [[3, 7], [4, 1]], data_source="d4rl")
    written = []
    for _ in range(2):
        outputs = [tmp_path / f"table1.{kind}" for kind in ("csv", "md", "html", "tex")]
        write_table(1, scores, PUBLISHED, outputs)
        write_metrics(outputs[:1], tmp_path / "metrics.json")
        written.append([path.read_bytes() for path in (*outputs, tmp_path / "metrics.json")])
    assert written[0] == written[1]
    assert b"\r" not in written[0][0]


def test_nothing_is_written_when_one_output_cannot_be(write_score: Any, tmp_path: Path) -> None:
    scores = pair(write_score, HOPPER, [[1]], [[3]])
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "table1.csv").write_text("old")
    with pytest.raises(UserError, match="cannot write"):
        write_table(1, scores, PUBLISHED, [tmp_path / "table1.csv", tmp_path / "file" / "table1.md"])
    assert (tmp_path / "table1.csv").read_text() == "old"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table,task\n", "no column method"),
        ("table,task,method,mean,plus_minus\n1,x,y,high,\n", "mean: 'high' is not a number"),
        ("table,task,method,mean,plus_minus\n1,x,y\n", "a line has more or fewer cells"),
    ],
)
def test_broken_published_scores_are_refused(write_score: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "published.csv").write_text(text)
    scores = pair(write_score, HOPPER, [[1]], [[3]])
    with pytest.raises(UserError, match=f"published.csv: {message}"):
        write_table(1, scores, tmp_path / "published.csv", [tmp_path / "a.csv"])


def test_metrics_are_the_averages(write_score: Any, table: Any, tmp_path: Path) -> None:
    table(1, pair(write_score, HOPPER, [[42.04], [42]], [[50], [51]], data_source="d4rl"))
    table(2, pair(write_score, "maze2d-umaze", [[0, 100]], [[100, 120]]))
    write_metrics([tmp_path / "out" / f"table{number}.csv" for number in (1, 2)], tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "locomotion": {"diffuser": 42.0, "dmemm": 50.5},
        "mazes": {"diffuser": 50.0, "diffuser_success": 0.5, "dmemm": 110.0, "dmemm_success": 1.0},
    }


def test_metrics_refuse_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "table1.csv").write_text("task,dmemm_mean\nhopper-medium,3\n")
    with pytest.raises(UserError, match="table1.csv: no Table 1 or 2 with an average"):
        write_metrics([tmp_path / "table1.csv"], tmp_path / "metrics.json")
    with pytest.raises(UserError, match="table2.csv: cannot read"):
        write_metrics([tmp_path / "table2.csv"], tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()


def test_the_long_form_has_every_seed_and_way_to_execute(write_score: Any, tmp_path: Path) -> None:
    def executed(scores: list[float]) -> dict[str, Any]:
        return {
            "waypoints": {"scores": scores, "success": [1, 1]},
            "actions": {"scores": [score / 10 for score in scores], "success": [1, 0]},
        }

    files = [
        write_score("maze2d-umaze", variant, seed, [100.0, 120.0 + seed], executed=executed([100.0, 120.0 + seed]))
        for variant in ("diffuser", "dmemm")
        for seed in (0, 1)
    ]
    write_table(2, files, PUBLISHED, [tmp_path / "t.csv"], tmp_path / "long.csv")
    lines = read(tmp_path / "long.csv")
    assert len(lines) == 8
    assert lines[3] == {
        "task": "maze2d-umaze", "data": "local", "variant": "diffuser", "execute": "actions", "seed": "1",
        "episodes": "2", "checkpoint": "last", "score": "11.050", "success_rate": "0.500",
    }  # fmt: skip


def test_other_methods_come_first_in_the_order_of_their_files(write_score: Any, table: Any) -> None:
    paths = [write_score("maze2d-umaze", name, seed, [90, 10 * seed], data_source="d4rl")
             for name in ("rvs", "mppi", "diffuser", "dmemm") for seed in (0, 1)]  # fmt: skip
    (line, _), text = table(2, paths)
    assert [name for name in line if name.endswith("_standard_error")] == [
        f"{name}_standard_error" for name in ("rvs", "mppi", "diffuser", "dmemm")
    ]
    assert float(line["rvs_mean"]) == 47.5 and float(line["mppi_published_mean"]) == 33.2
    assert line["rvs_published_mean"] == ""  # the paper has none
    assert "RvS |" in text and "MPPI |" in text
    with pytest.raises(UserError, match="no scores of rvs, which table 2 compares"):
        table(
            2, paths + [write_score("maze2d-large", name, s, [1, 2]) for name in ("diffuser", "dmemm") for s in (0, 1)]
        )
    ablations = [write_score(HOPPER, name, 0, [1]) for name in (*ABLATIONS, "rvs")]
    with pytest.raises(UserError, match="table 3 has no column rvs"):
        table(3, ablations)
