"""A table as CSV, Markdown and LaTeX."""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from craft_jax import files
from craft_jax.report import tables

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", '"': "\\textquotedbl{}"},
}


class Table(NamedTuple):
    """A table, whole for programs and rounded for readers.

    Attributes:
      name: of its files.
      columns, rows: for CSV; cells are str, int, float, or None where undefined.
      header, lines: for Markdown and LaTeX; text.
      notes: lines below the latter.
    """

    name: str
    columns: tuple
    rows: list
    header: tuple
    lines: list
    notes: list


def write(folder, table):
    """Write NAME.csv, NAME.md and NAME.tex into a folder, which is made if there is none.

    Raises:
      CheckpointError: nothing can be written there.
    """
    files.check_writable(folder)
    for suffix, text in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
        with files.whole(Path(folder, f"{table.name}.{suffix}")) as temporary:
            temporary.write_text(text(table), encoding="utf-8")


def to_csv(table):
    """The CSV of a Table: a float has at least six decimals or seven digits, what is undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_exact(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _exact(cell):
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell + 0.0:.6f}" if cell == 0 or abs(cell) >= 0.01 else f"{cell:.6e}"


def to_markdown(table):
    """The Markdown of a Table, its notes below."""
    lines = [tuple(cell.replace("|", "\\|") for cell in line) for line in (table.header, *table.lines)]
    return "\n".join([tables.table(lines[0], lines[1:]), *(f"\n{note}" for note in table.notes)]) + "\n"


def to_latex(table):
    """A LaTeX tabular of a Table, for plain LaTeX with the font encoding T1; its notes as comments above."""
    body = [" & ".join(map(latex, line)) + r" \\" for line in (table.header, *table.lines)]
    rule = r"\hline"
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [f"\\begin{{tabular}}{{{columns}}}", rule, body[0], rule, *body[1:], rule, "\\end{tabular}"]
    return "\n".join([*(f"% {line}" for note in table.notes for line in note.splitlines()), *lines]) + "\n"


def latex(text):
    """Text for LaTeX: its special characters escaped, minus signs of numbers as such."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.}-])-(?=\d)", "$-$", escaped)
