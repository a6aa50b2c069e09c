"""Figure 1."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.reporting.figures import _axis, _curve, plot_band, write_figure1
from dmemm.reporting.rows import load_rows

PARAMS = ["lambda_tr=0.1", "lambda_rd=0.05"]
HOPPER, WALKER = "hopper-medium-expert", "walker2d-medium-expert"
POINTS = ("dmemm", "lambda_tr=0.01", "lambda_tr=1.0", "lambda_rd=0.005", "lambda_rd=0.5")


def evaluate(write_score: Any, variants: tuple[str, ...] = POINTS, tasks: tuple[str, ...] = (HOPPER,)) -> list[Path]:
    return [write_score(t, v, s, [10.0 * i + 2 * s]) for t in tasks for i, v in enumerate(variants) for s in (0, 1)]


def curve(row: Any, key: str, default: float) -> dict[float, list[float]]:
    return {value: seeds.tolist() for value, seeds in _curve(row, key, default).items()}


def test_dmemm_is_the_central_point_of_both_curves(write_score: Any) -> None:
    (row,) = load_rows(evaluate(write_score))
    assert curve(row, "lambda_tr", 0.1) == {0.01: [10, 12], 0.1: [0, 2], 1.0: [20, 22]}
    assert curve(row, "lambda_rd", 0.05) == {0.005: [30, 32], 0.05: [0, 2], 0.5: [40, 42]}


def test_a_point_at_dmemms_own_value_is_dmemm(write_score: Any) -> None:
    (row,) = load_rows(evaluate(write_score))
    assert curve(row, "lambda_tr", 1.0) == {0.01: [10, 12], 1.0: [0, 2]}


def test_table_3s_columns_without_a_loss_are_the_points_at_zero(write_score: Any) -> None:
    (row,) = load_rows(evaluate(write_score, ("dmemm", "wo_lambda_tr", "wo_lambda_rd")))
    assert curve(row, "lambda_tr", 0.1) == {0.0: [10, 12], 0.1: [0, 2]}
    assert curve(row, "lambda_rd", 0.05) == {0.0: [20, 22], 0.05: [0, 2]}


def test_zero_stands_a_decade_left_of_the_least_positive_value() -> None:
    axes = Figure().subplots()
    place = _axis(axes, [0, 0.01, 1])
    assert place == pytest.approx({0: 0.001, 0.01: 0.01, 1: 1})
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.01", "1"]
    assert _axis(Figure().subplots(), [0]).keys() == {0}
    assert not axes.texts[0].get_text().strip("/")  # the break


def test_the_band_is_one_standard_error_around_the_mean() -> None:
    axes = Figure().subplots()
    plot_band(axes, [1, 2], np.array([[10.0, 30.0], [14.0, 30.0]]), color="black")
    assert axes.lines[0].get_ydata().tolist() == [12, 30]
    assert sorted({tuple(point) for point in axes.collections[0].get_paths()[0].vertices}) == [
        (1, 10),
        (1, 14),
        (2, 30),
    ]
    axes = Figure().subplots()
    plot_band(axes, [1, 2], np.array([[10.0, 30.0]]), color="black")
    assert len(axes.lines) == 1 and not axes.collections


def test_figure_is_drawn_alike_every_time(write_score: Any, tmp_path: Path) -> None:
    scores = evaluate(write_score, (*POINTS, "lambda_tr=0"), (HOPPER, WALKER))
    written = []
    for folder in ("first", "second"):
        outputs = [tmp_path / folder / f"figure1.{kind}" for kind in ("png", "pdf")]
        write_figure1(scores, PARAMS, outputs)
        written.append([output.read_bytes() for output in outputs])
    assert written[0] == written[1]
    png, pdf = written[0]
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert not list(tmp_path.glob("**/.*"))


def test_one_seed_and_no_points_are_drawn_too(write_score: Any, tmp_path: Path) -> None:
    write_figure1([write_score(HOPPER, "dmemm", 0, [3.0])], ["lambda_tr=0", "lambda_rd=0.05"], [tmp_path / "a.png"])
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("params", "output", "variants", "message"),
    [
        (PARAMS, "a.bmp", POINTS, "a.bmp: no format .bmp"),
        (["lambda_tr=0.1", "alpha=1"], "a.png", POINTS, "alpha=1: expected lambda_tr=VALUE and lambda_rd=VALUE"),
        (["lambda_tr=0.1", "lambda_tr=1"], "a.png", POINTS, "lambda_rd: not given"),
        (["lambda_tr=x", "lambda_rd=1"], "a.png", POINTS, "lambda_tr=x: 'x' is not a number"),
        (["lambda_tr=nan", "lambda_rd=1"], "a.png", POINTS, "lambda_tr=nan: out of range"),
        (PARAMS, "a.png", POINTS[1:], f"{HOPPER}: no scores of dmemm"),
        (PARAMS, "a.png", ("dmemm", "diffuser"), "diffuser is not a point of figure 1"),
        (PARAMS, "a.png", ("dmemm", "wo_weighting"), "wo_weighting is not a point of figure 1"),
        (PARAMS, "a.png", ("dmemm", "lambda_xx=1"), "lambda_xx=1: unknown method"),
        (PARAMS, "a.png", (), "no score files"),
    ],
)
def test_what_makes_no_figure_is_refused(
    write_score: Any, tmp_path: Path, params: list[str], output: str, variants: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_figure1(evaluate(write_score, variants), params, [tmp_path / output])
    assert not (tmp_path / output).exists()
