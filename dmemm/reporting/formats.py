"""Write tables and figures: content is made once and written in each format that a suffix of the outputs names."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from matplotlib import style
from matplotlib.figure import Figure

from dmemm.errors import UserError
from dmemm.files import replacing

# Omit what differs between runs (dates) or installations, so that equal content gives equal bytes.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
_STYLE: dict[str, Any] = {"pdf.fonttype": 42, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
# Okabe and Ito's palette for colour-blind readers, without its yellow, which is too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v")
_TEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "±": r"$\pm$", "×": r"$\times$", "–": "--", "λ": r"$\lambda$", "τ": r"$\tau$", "‖": r"$\|$", "²": "$^2$",
    "ŝ": r"$\hat{s}$",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5rem }}
p {{ max-width: 50rem }}
table {{ border-collapse: collapse; border: solid #222; border-width: 2px 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .8rem; white-space: nowrap }}
thead th {{ border-bottom: 1px solid #222 }}
</style>
{body}</html>
"""


@dataclass(frozen=True)
class Table:
    """The content of a table, independent of its format.

    Attributes:
        name: e.g. `Table 1`; omitted in LaTeX, which numbers tables itself.
        caption: describes the numbers: data source, protocol, units. Bold and code as in Markdown.
        lines: rows of the CSV, column → value; floats are written with three decimals.
        blocks: parts of the table in all other formats: heading ("" for none) → rows, column → Markdown text.
    """

    name: str
    caption: str
    lines: Sequence[Mapping[str, Any]]
    blocks: Mapping[str, Sequence[Mapping[str, str]]]

    def csv(self) -> str:
        """Format the lines as CSV with a header; None gives an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.lines[0])
        for line in self.lines:
            writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in line.values()])
        return text.getvalue()

    def markdown(self) -> str:
        """Format caption and rows as Markdown, with columns aligned for a terminal."""
        parts = [f"**{self.name}.** {self.caption}\n"]
        for title, rows in self.blocks.items():
            widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in rows[0]}
            left = _left(rows)
            rule = {c: "-" * w if c in left else "-" * (w - 1) + ":" for c, w in widths.items()}
            lines = [{column: column for column in widths}, rule, *rows]
            cells = ([row[c].ljust(w) if c in left else row[c].rjust(w) for c, w in widths.items()] for row in lines)
            parts += [f"{title}\n"] * bool(title)
            parts.append("".join(f"| {' | '.join(row)} |\n" for row in cells))
        return "\n".join(parts)

    def html(self) -> str:
        """Render the Markdown as a self-contained page."""
        body = MarkdownIt("commonmark").enable("table").render(self.markdown())
        return _PAGE.format(title=self.name, body=body)

    def tex(self) -> str:
        """Format a `table` environment, no wider than the text; it needs the packages booktabs and graphicx."""
        text = f"\\begin{{table}}\n\\centering\\small\n\\caption{{{_tex(self.caption)}}}\n"
        for title, rows in self.blocks.items():
            left = _left(rows)
            text += f"\\par\\medskip {_tex(title)}\\par\n" if title else ""
            text += "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
            text += f"\\begin{{tabular}}{{{''.join('l' if c in left else 'r' for c in rows[0])}}}\n\\toprule\n"
            text += " & ".join(map(_tex, rows[0])) + " \\\\\n\\midrule\n"
            text += "".join(" & ".join(map(_tex, row.values())) + " \\\\\n" for row in rows)
            text += "\\bottomrule\n\\end{tabular}}\n"
        return f"{text}\\end{{table}}\n"


def write(outputs: Sequence[Path], table: Table | None = None, draw: Callable[[], Figure] | None = None) -> None:
    """Write `table` and the figure that `draw` makes, one file per format: all of `outputs`, or none.

    Args:
        outputs: .csv, .md, .html and .tex for the table, .png and .pdf for the figure.
        table: the table, if there is one.
        draw: makes the figure, if there is one; it is called with the project's style, not the user's.

    Raises:
        UserError: an output has another suffix or cannot be written.
    """
    texts = {} if table is None else {"csv": table.csv, "md": table.markdown, "html": table.html, "tex": table.tex}
    kinds = [*texts, *(_METADATA if draw else ())]
    for output in outputs:
        if output.suffix[1:] not in kinds:
            known = ", ".join(f".{kind}" for kind in kinds)
            raise UserError(f"{output}: no format {output.suffix or 'without suffix'}; use {known}")
    with style.context(["default", _STYLE]), ExitStack() as stack:  # the user's style would change the bytes
        figure = draw() if draw and any(output.suffix[1:] in _METADATA for output in outputs) else None
        for output in outputs:
            kind, temporary = output.suffix[1:], stack.enter_context(replacing(output))
            if kind in texts:
                temporary.write_text(texts[kind](), encoding="utf-8")
            elif figure is not None:
                figure.savefig(temporary, format=kind, dpi=200, metadata=_METADATA[kind])


def style_of(number: int) -> dict[str, Any]:
    """Return the colour and the marker of a figure's line; a pair repeats after 35 lines, which differ in grey too."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}


def add_caption(figure: Figure, text: str) -> None:
    """Write a caption below the axes of a figure with a constrained layout."""
    # The layout makes room for supxlabel; a plain text would be drawn over the axes.
    lines = textwrap.wrap(text.replace("**", ""), 140)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7, color="0.35")


def _left(rows: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the columns of words, aligned left; columns of numbers, even bold or missing ones, are aligned right."""
    return {column for column in rows[0] if not all(re.match(r"[*-]*\d|–?$", row[column]) for row in rows)}


def _tex(text: str) -> str:
    """Convert a text with Markdown's bold and code to LaTeX."""
    text = "".join(_TEX.get(character, character) for character in text).replace("T̂", r"$\hat{T}$")
    text = re.sub(r"\$\\lambda\$\\_(\w+)", r"$\\lambda_{\1}$", text)
    return re.sub(r"`(.+?)`", r"\\texttt{\1}", re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text))
