"""Numbers as text, and text escaped for Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccloss.data.names import counted

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_|<>[]&#~$"})

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "%$#_{}&"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "–": "--",
    }
)


NONE = "–"
"""Printed where there is no number."""


def p_text(value: float | None) -> str:
    """A p-value with two significant digits."""
    return NONE if value is None else f"{value:.2g}"


def ratio_text(value: float | None) -> str:
    """A ratio or a distance with three significant digits: both span orders of magnitude."""
    return NONE if value is None else f"{value:#.3g}".rstrip(".")


def interval_text(interval: Sequence[float] | None, digits: str = ".2f") -> str:
    """``98.10 to 98.40``."""
    return NONE if interval is None else f"{interval[0]:{digits}} to {interval[1]:{digits}}"


def span(numbers: Sequence[int], noun: str) -> str:
    """``5 rounds``, or ``3 to 5 rounds`` if they differ."""
    low, high = min(numbers), max(numbers)
    return counted(low, noun) if low == high else f"{low} to {high} {noun}s"


def listed(names: Iterable[str]) -> str:
    """``a, b and c``; empty for no name."""
    every = list(names)
    return " and ".join([", ".join(every[:-1]), every[-1]]) if len(every) > 1 else "".join(every)


def escape_markdown(text: str) -> str:
    """Text on one line that Markdown shows unchanged, also in a table."""
    return " ".join(text.split()).translate(_MARKDOWN)


def escape_latex(text: str) -> str:
    """Text on one line that LaTeX typesets unchanged."""
    return " ".join(text.split()).translate(_LATEX)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns but the first are aligned right.

    Args:
        lines: (lines, columns) texts, already escaped; the first line is the header.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "".join(
        "| "
        + " | ".join(
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |\n"
        for line in (lines[0], rule, *lines[1:])
    )


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header of all fields; a field that is missing in a line is empty."""
    text = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
