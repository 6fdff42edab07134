"""Texts as Markdown, LaTeX and CSV want them, whatever stands in them."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

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


def escape_markdown(text: str) -> str:
    """Text on one line that Markdown shows as it is, in a table too."""
    return " ".join(text.split()).translate(_MARKDOWN)


def escape_latex(text: str) -> str:
    """Text on one line that LaTeX sets as it is."""
    return " ".join(text.split()).translate(_LATEX)


def markdown_table(lines: Sequence[Sequence[str]], *, numbers: bool) -> str:
    """A table of texts that are Markdown already; the first line is its header.

    Args:
        lines: (lines, columns) texts.
        numbers: whether all columns but the first are aligned right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0]]
    rule += ["-" * (width - 1) + (":" if numbers else "-") for width in widths[1:]]
    return "".join(
        "| "
        + " | ".join(
            text.rjust(width) if numbers and place else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |\n"
        for line in (lines[0], rule, *lines[1:])
    )


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines of the same fields, under their names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
