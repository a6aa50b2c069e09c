"""The figure of learning curves."""

from pathlib import Path

import pytest

from dmemm.errors import UserError
from dmemm.inputs import PATHS
from dmemm.reporting.curves import _draw, _group, write_curves

HEAD = "step,total,wdiff,tr,rd\n"


def curve(folder: Path, variant: str, seed: int, text: str) -> Path:
    path = folder / "hopper-medium" / variant / f"seed{seed}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def mechanism(folder: Path, seed: int, text: str) -> Path:
    path = (folder / PATHS["dynamics"].format(task="hopper-medium", seed=seed)).with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_panel_has_a_line_for_each_variant_with_that_loss(tmp_path: Path) -> None:
    full = [curve(tmp_path, "dmemm", s, f"{HEAD}1,{2 + s},2,3,-1\n5,1,1,1,-2\n") for s in (0, 1)]
    plain = curve(tmp_path, "diffuser", 0, f"{HEAD}1,7,2,,\n5,6,1,,\n")
    ensembles = [mechanism(tmp_path, s, f"step,held_out_loss\n10,-1\n20,{-2 - s}\n") for s in (0, 1)]
    figure = _draw(*_group([*full, plain], ensembles))
    total, _, transition, reward, dynamics, reward_model, *_ = figure.axes
    assert dynamics.lines[0].get_xydata().tolist() == [[10, -1], [20, -2.5]] and not reward_model.get_visible()
    assert [line.get_ydata().tolist() for line in total.lines] == [[2.5, 1], [7, 6]]
    assert len(transition.lines) == len(reward.lines) == 1
    assert (transition.get_yscale(), reward.get_yscale()) == ("log", "linear")  # a negative loss has no logarithm
    outputs = [tmp_path / "c.png", tmp_path / "c.pdf"]
    write_curves([*full, plain], ensembles, outputs)
    assert all(output.stat().st_size > 0 for output in outputs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,total\n1,2\n", "no column wdiff"),
        (f"{HEAD}1,2,3,4,5\n", "1 rows, but other seeds have 2"),
        (f"{HEAD}1,2\n", "cannot read"),
    ],
)
def test_what_is_no_curve_is_refused(tmp_path: Path, text: str, said: str) -> None:
    good = curve(tmp_path, "dmemm", 0, f"{HEAD}1,2,2,3,1\n5,1,1,1,1\n")
    with pytest.raises(UserError, match=f"seed1.csv: {said}"):
        write_curves([good, curve(tmp_path, "dmemm", 1, text)], [], [tmp_path / "c.png"])
    assert not (tmp_path / "c.png").exists()


def test_mechanisms_of_different_lengths_are_refused(tmp_path: Path) -> None:
    good = curve(tmp_path, "dmemm", 0, f"{HEAD}1,2,2,3,1\n")
    ensembles = [mechanism(tmp_path, s, "step,held_out_loss\n10,-1\n" + "20,-2\n" * s) for s in (0, 1)]
    with pytest.raises(UserError, match="seed1.csv: 2 rows, but other seeds have 1"):
        write_curves([good], ensembles, [tmp_path / "c.png"])
