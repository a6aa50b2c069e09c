"""Ranks of methods, beside those of published scores."""

import csv
from pathlib import Path
from typing import Any

import pytest

from dmemm.errors import UserError
from dmemm.reporting.ranking import write_ranking

HEAD = "table,task,method,mean,plus_minus\n"


def test_ranks_are_among_the_methods_that_have_both_scores(tmp_path: Path, write_score: Any) -> None:
    published = tmp_path / "published.csv"
    rows = [("hopper-medium", 60, 70, 50), ("walker2d-medium", 60, 60, 70)]
    lines = [f"1,{t},BC,{a},\n1,{t},DMEMM,{b},0.5\n1,{t},Diffuser,{c},\n1,{t},TT,99,\n" for t, a, b, c in rows]
    lines += ["2,maze2d-umaze,DMEMM,3,\n", "2,maze2d-umaze,Diffuser,4,\n", "1,maze2d-umaze,BC,9,\n"]
    published.write_text(HEAD + "".join(lines))
    scores = []
    for task, a, b, c, d in (
        ("hopper-medium", 20, 30, 10, 90), ("walker2d-medium", 20, 30, 10, 90), ("maze2d-umaze", 1, 2, 1, 0)
    ):  # fmt: skip
        for seed in (0, 1):
            for variant, score in (("bc", a), ("dmemm", b), ("diffuser", c), ("rvs", d)):
                scores.append(write_score(task, variant, seed, [score - 1.0, score + 1.0]))
    outputs = tmp_path / "r.csv", tmp_path / "r.md"
    write_ranking(scores, published, outputs)
    found = {(line["task"], line["method"]): line for line in csv.DictReader(outputs[0].open(newline=""))}
    ranks = {key: (float(line["rank"]), float(line["published_rank"])) for key, line in found.items()}
    assert ranks == {
        ("hopper-medium", "bc"): (2, 2), ("hopper-medium", "dmemm"): (1, 1), ("hopper-medium", "diffuser"): (3, 3),
        ("walker2d-medium", "bc"): (2, 2.5), ("walker2d-medium", "dmemm"): (1, 2.5),
        ("walker2d-medium", "diffuser"): (3, 1),
        ("maze2d-umaze", "dmemm"): (1, 2), ("maze2d-umaze", "diffuser"): (2, 1),
    }  # fmt: skip
    text = outputs[1].read_text()
    # hopper: 1; walker2d: one tied pair, two that disagree: -2 / sqrt(3 * 2).
    assert "Locomotion: Kendall's τ of both orders, mean over tasks: 0.09" in text
    assert "Mazes: Kendall's τ of both orders, mean over tasks: -1.00" in text
    assert "| DMEMM    |     2 |  1.0 |            1.8 |" in text and "The local data are not D4RL's" in text


def test_nothing_published_says_so(tmp_path: Path, write_score: Any) -> None:
    (tmp_path / "published.csv").write_text(HEAD + "1,hopper-medium,BC,9,\n")
    scores = [write_score("hopper-medium", variant, 0, [1.0]) for variant in ("bc", "rvs")]
    with pytest.raises(UserError, match=r"published\.csv: no published scores of two methods on a task of these"):
        write_ranking(scores, tmp_path / "published.csv", [tmp_path / "r.csv"])
