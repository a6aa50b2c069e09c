"""One content in every format."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from dmemm.errors import UserError
from dmemm.reporting.formats import Table, write

ROWS = [
    {"Task": "a_b & c", "w/o λ_tr": "**1.0 ± 0.5**", "share": "5e-11 %"},
    {"Task": "d", "w/o λ_tr": "–", "share": ""},
]
TABLE = Table("Table 9", "Data of `x_y`, **all** of it.", [{"task": "a_b & c", "mean": 1.0}], {"": ROWS, "Other": ROWS})


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        elif tag == "strong" and self.rows:
            self.rows[-1][-1] += "**"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_the_page_has_the_cells_of_the_markdown() -> None:
    parser = Cells()
    parser.feed(TABLE.html().partition("Other")[0])
    assert parser.rows == [list(ROWS[0]), ["a_b & c", "**1.0 ± 0.5", "5e-11 %"], ["d", "–", ""]]
    assert "<code>x_y</code>" in TABLE.html() and TABLE.html().count("<table>") == 2


def test_latex_escapes_what_it_would_take_for_commands() -> None:
    text = TABLE.tex()
    assert r"Task & w/o $\lambda_{tr}$ & share \\" in text
    assert r"a\_b \& c & \textbf{1.0 $\pm$ 0.5} & 5e-11 \% \\" in text
    assert r"\caption{Data of \texttt{x\_y}, \textbf{all} of it.}" in text
    assert r"\begin{tabular}{lrr}" in text and text.count(r"\end{tabular}}") == 2


def test_a_format_that_the_content_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t.png: no format .png; use .csv, .md, .html, .tex"):
        write([tmp_path / "t.csv", tmp_path / "t.png"], TABLE)
    assert not list(tmp_path.iterdir())
