"""Build the documentation site: ``python docs/build_site.py`` writes ``site/``.

The pages are the Markdown files of this folder. Before Zensical renders a copy of them in
``build/pages``, this script

* generates the command-line reference from the command and the quickstart from its notebook;
* copies README.md (as the overview), CONTRIBUTING.md and CHANGELOG.md;
* converts formulas (``$...$`` and ``$$...$$``) to MathML, which browsers render without scripts;
* replaces links to files outside this folder by their text.

Warnings are errors: a broken link, a missing anchor, an unknown name in the API reference.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "pages"
COPIED = ("CONTRIBUTING.md", "CHANGELOG.md")

CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\w$\\])\$(?! )([^$\n]+?)\$(?![\w$])")
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./|CITATION)[^)]*)\)")


def quickstart() -> str:
    """The notebook as Markdown."""
    cells = json.loads((DOCS / "quickstart.ipynb").read_text())["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    note = "This page is also a [notebook](quickstart.ipynb)."
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def command_reference() -> str:
    """The options of every subcommand, as the command itself knows them."""
    from ccloss.cli.app import app

    text: str = app.generate_docs(output_format="markdown")
    _, _, body = text.partition("\n")
    introduction = (
        "# Command line\n\nGenerated from the command. `ccloss COMMAND --help` prints the same.\n"
    )
    return introduction + re.sub(
        r"## Table of Contents.*?(?=\n\*\*Commands)", "", body, flags=re.DOTALL
    )


def with_mathml(text: str) -> str:
    """Formulas outside code as MathML."""

    def display(found: re.Match[str]) -> str:
        formula = convert(found[1].strip(), display="block")
        return f'\n\n<div style="overflow-x: auto; padding: 0.5em 0">{formula}</div>\n\n'

    def inline(found: re.Match[str]) -> str:
        # A line that begins with <math> would become a block of its own.
        return f"<span>{convert(found[1])}</span>"

    parts = CODE.split(text)
    for position in range(0, len(parts), 2):
        parts[position] = INLINE.sub(inline, DISPLAY.sub(display, parts[position]))
    return "".join(parts)


def without_outside_links(text: str, page: Path) -> str:
    """Links to files that are not part of the site as their text."""

    def replace(found: re.Match[str]) -> str:
        target = (page.parent / found[2].partition("#")[0]).resolve()
        return found[0] if target.is_relative_to(PAGES) and target.exists() else found[1]

    return LINK.sub(replace, text)


def write_pages() -> None:
    """Fill ``build/pages``."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(DOCS, PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (PAGES / "quickstart.md").write_text(quickstart())
    (PAGES / "cli.md").write_text(command_reference())
    pages = {"README.md": "index.md", **{name: name.lower() for name in COPIED}}
    for name, page in pages.items():
        text = (ROOT / name).read_text().replace("](docs/", "](")
        for copied in COPIED:
            text = text.replace(f"]({copied})", f"]({copied.lower()})")
        (PAGES / page).write_text(text)
    for path in PAGES.rglob("*.md"):
        path.write_text(without_outside_links(with_mathml(path.read_text()), path))


def main() -> int:
    """Write the pages and render them; return Zensical's exit code."""
    write_pages()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
