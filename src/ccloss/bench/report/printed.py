"""A table as it is printed: texts with marks, as Markdown and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from ccloss.bench.report.text import escape_latex, escape_markdown, markdown_table

MARK = "*"
"""After a cell that differs significantly from the one that it is compared with."""


class Cell(NamedTuple):
    """A cell.

    Attributes:
        text: without markup.
        bold: whether it is significantly above every other row of its column.
        mark: :data:`MARK` or empty.
    """

    text: str
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """A table.

    Attributes:
        headers: (columns,) the group of a column, such as ``mnist/vgg16`` or empty, and its name.
        lines: (lines, columns) cells; the first of a line names it.
    """

    headers: Sequence[tuple[str, str]]
    lines: Sequence[Sequence[Cell]]

    @property
    def names(self) -> list[str]:
        """The header of each column in one text."""
        return [f"{group} {name}".strip() for group, name in self.headers]

    @property
    def texts(self) -> list[list[str]]:
        """The cells without emphasis."""
        return [[cell.text + cell.mark for cell in line] for line in self.lines]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Group and number of neighbouring columns; empty if no column has a group."""
        found = [
            (group, len(list(members)))
            for group, members in groupby(self.headers, key=lambda header: header[0])
        ]
        return found if any(group for group, _ in found) else []


def to_markdown(caption: str, tables: Sequence[PrintedTable]) -> str:
    """The caption, and the tables below it."""
    parts = [escape_markdown(caption) + "\n"]
    for table in tables:
        lines = [[_markdown(cell) for cell in line] for line in table.lines]
        header = [escape_markdown(name) for name in table.names]
        parts.append(markdown_table([header, *lines]))
    return "\n".join(parts)


def to_latex(caption: str, tables: Sequence[PrintedTable], label: str) -> str:
    r"""A float of the tables with their caption, for ``\input``."""
    parts = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\label{{tab:{label}}}",
        *(line for table in tables for line in _tabular(table)),
        r"\end{table}",
    ]
    return "\n".join([*parts, ""])


def _markdown(cell: Cell) -> str:
    escaped = escape_markdown(cell.text)
    return (f"**{escaped}**" if cell.bold else escaped) + escape_markdown(cell.mark)


def _tabular(table: PrintedTable) -> list[str]:
    """The lines of a table of the booktabs package; the first column is aligned left."""
    return [
        rf"\begin{{tabular}}{{l{'r' * (len(table.headers) - 1)}}}",
        r"\toprule",
        *_group_lines(table),
        " & ".join(escape_latex(name) for _, name in table.headers) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex, line)) + r" \\" for line in table.lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _group_lines(table: PrintedTable) -> list[str]:
    """The groups above their columns, with a rule below each; empty without groups."""
    if not table.groups:
        return []
    groups, rules, first = [], [], 1
    for group, width in table.groups:
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(group)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if group else []
        first += width
    return [" & ".join(groups) + r" \\", " ".join(rules)]


def _latex(cell: Cell) -> str:
    escaped = escape_latex(cell.text)
    marked = f"$^{{{cell.mark}}}$" if cell.mark else ""
    return (rf"\textbf{{{escaped}}}" if cell.bold else escaped) + marked
