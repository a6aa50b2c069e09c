"""The paper's scores in workflow/resources, checked against what else the paper says of them."""

import pytest

from dmemm.reporting.tables import read_published
from dmemm.tasks import get_task
from tests.checkout import ROOT, task_names

PUBLISHED = read_published(ROOT / "workflow" / "resources" / "published.csv")
LOCOMOTION = [name for name in task_names() if not get_task(name).is_maze]
MAZES = [name for name in task_names() if get_task(name).is_maze]
AVERAGES = {  # the last row of Table 1
    "BC": 51.9,
    "CQL": 77.6,
    "IQL": 77.0,
    "DT": 74.7,
    "TT": 78.9,
    "MOReL": 72.9,
    "Diffuser": 77.5,
    "HDMI": 82.6,
    "HD-DA": 84.6,
    "DMEMM": 87.9,
}
ABLATIONS = ["DMEMM"] + [f"DMEMM-w/o-{part}" for part in ("weighting", "lambda_tr", "lambda_rd", "tr-guide")]


def test_every_cell_is_there_once() -> None:
    expected = {(1, task, method) for task in LOCOMOTION for method in AVERAGES}
    expected |= {(2, task, m) for task in MAZES for m in ("MPPI", "IQL", "Diffuser", "HDMI", "HD-DA", "DMEMM")}
    expected |= {(3, task, m) for task in LOCOMOTION if not task.startswith("halfcheetah") for m in ABLATIONS}
    assert set(PUBLISHED) == expected
    lines = (ROOT / "workflow" / "resources" / "published.csv").read_text().splitlines()
    assert len(lines) == len(expected) + 1


@pytest.mark.parametrize("method", AVERAGES)
def test_table1_columns_have_the_printed_averages(method: str) -> None:
    column = [PUBLISHED[1, task, method][0] for task in LOCOMOTION]
    assert sum(column) / len(column) == pytest.approx(AVERAGES[method], abs=0.0501)  # printed with one decimal


def test_table3_repeats_table1() -> None:
    """So Table 1's scattered rows stand in the right order for DMEMM's hopper and walker2d."""
    for number, task, method in PUBLISHED:
        if number == 3 and method == "DMEMM":
            assert PUBLISHED[1, task, method] == PUBLISHED[number, task, method]


@pytest.mark.parametrize(
    ("number", "task", "difference"),
    [
        (1, "halfcheetah-medium-expert", 2.1),
        (1, "halfcheetah-medium", 2.5),
        (1, "halfcheetah-medium-replay", 8.0),
        (1, "hopper-medium-replay", 5.9),
        (2, "maze2d-umaze", 4.0),
        (2, "maze2d-medium", 2.6),
    ],
)
def test_differences_to_hd_da_are_those_of_the_text(number: int, task: str, difference: float) -> None:
    dmemm, hd_da = PUBLISHED[number, task, "DMEMM"][0], PUBLISHED[number, task, "HD-DA"][0]
    assert dmemm - hd_da == pytest.approx(difference)
