"""The code blocks of a Markdown file."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
]
"""The documents whose code blocks are executed. CONTRIBUTING.md has tests of its own."""


class Block(NamedTuple):
    """A fenced code block.

    A comment ``<!-- not run: REASON -->`` on the line before excludes a block from execution.
    """

    language: str
    code: str
    not_run: str | None


FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<code>.*?)```",
    re.DOTALL,
)


def blocks(path: Path, *languages: str) -> list[Block]:
    """The blocks of a document, in order; all of them or those of some languages."""
    found = [
        Block(match["language"], match["code"], match["reason"])
        for match in FENCE.finditer(path.read_text())
    ]
    return [block for block in found if not languages or block.language in languages]
