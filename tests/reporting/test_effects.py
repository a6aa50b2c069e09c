"""The differences that docs/results/ gives are those of docs/results/scores.csv."""

import re
import runpy
from typing import Any

import pytest

from tests.checkout import ROOT

RESULTS = ROOT / "docs/results"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(RESULTS / "effects.py"))


def test_pages_give_the_intervals_that_the_scores_have(script: dict[str, Any]) -> None:
    computed = {script["show"](*effect) for effect in script["effects"]().values()}
    for page in ("index.md", "locomotion.md", "mazes.md"):
        text = " ".join((RESULTS / page).read_text().split())
        given = set(re.findall(r"-?\d+\.\d \(-?\d+\.\d to -?\d+\.\d\)", text))
        assert len(given) > 3
        assert given <= computed, page


def test_a_difference_pairs_seeds_and_averages_tasks(script: dict[str, Any]) -> None:
    scores = {
        ("t", "a", "x"): {0: 3.0, 1: 5.0, 2: 100.0},
        ("t", "a", "y"): {1: 1.0, 0: 2.0},  # differences 1 and 4; seed 2 has no partner
        ("t", "b", "x"): {0: 0.0, 1: 0.0},
        ("t", "b", "y"): {0: 1.0, 1: 1.0},
    }
    mean, low, high = script["difference"](scores, script["pairs"]("t", ["a", "b"], "x", "y"))
    assert (mean, low, high) == (0.75, 0.0, 1.5)
