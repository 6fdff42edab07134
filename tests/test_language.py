"""The vocabulary of the project: private words of earlier versions are not used again.

Names and prose use the standard terms of the field and read literally. Each line of
:data:`RETIRED` is a word or phrase that earlier versions used in a private or figurative sense,
with the plain words that replace it. Legitimate uses are excluded by the pattern itself.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

RETIRED = {
    # names
    r"_ways|few_means|fresh_floor": "deviations, class means, new memory",
    r"(?<!in )\bplaces?\b(?=\s*[:=\]\[,)])|\bplaces\b": "positions, indices, cells",
    r"pull_and_push|goes by (kernels|blocks|pairs)": "gradient coefficients; uses the ... form",
    r"\bwatcher\b": "observer, progress reporter",
    r"\bbegun\b": "started",
    r"\btold\b": "reported, message, distinguished",
    r"\bdrafted\b": "untested",
    r"(?<![.])\bwalks?\b": "passes",
    r"_meter\b|_keeper\b|_known\(|_mixed\(|_leads\b": "tracker, writer, require, epoch seed",
    r"check_free|check_own|\bstrangers?\b": "require empty, foreign files",
    r"\bhas_in_hand\b|\bin hand\b|\bflying\b": "locked, in flight",
    # prose
    r"\brooms?\b": "space, memory, package",
    r"\bsettle[sd]?\b": "resolve, decide",
    r"\bthence|\bwhence|\banew\b": "from it, again",
    r"\bdearest\b": "most expensive",
    r"\bat once\b": "immediately, at the same time",
    r"\b(slips?|mistakes?)\b": "typo, error",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bspelt\b": "spelled, written",
    r"\blacks\b|\blacked\b": "has no, is missing",
    r"\bdeaths?\b|\binnocent\b": "crashes, other",
    r"\bdepartures?\b": "deviations",
    r"\boutlive[sd]?\b": "survive",
    r"\bone's own\b|\bof one's\b": "your",
    r"\bfor who\b|\bwho is\b|\bwhoever\b": "if you, users who",
    r"\bstands? in\b": "replaces, is in",
    r"\bsaid\b|\bto say of\b": "stated, the message about",
    r"\b(?<!must )(?<!must all )lies?\b(?! (in|between|outside) [\[\d(])": "is",
    r"\bswallows?\b|\bdo no harm\b": "plain words",
}
"""Regular expression -> what to write instead."""

TEXT = {
    ".py",
    ".md",
    ".ipynb",
    ".toml",
    ".html",
    ".js",
    ".css",
    ".jinja",
    ".yml",
    ".sh",
    ".cff",
    "",
}

EXCLUDED = {Path("tests/test_language.py"), Path("docs/results.md")}
"""This file, and a page that is generated from files that are searched."""


def files() -> Iterator[Path]:
    """Every text file of the project, without records of results."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml"):
        yield ROOT / name
    for folder in ("src", "tests", "docs", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
            if path.is_file() and path.suffix in TEXT and not hidden:
                yield path


def test_retired_words_are_not_used() -> None:
    retired = re.compile("|".join(f"(?:{pattern})" for pattern in RETIRED), re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        if path.relative_to(ROOT) not in EXCLUDED
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if retired.search(line) or retired.search(line.replace("_", " "))
    ]
    assert not found, "the table RETIRED has plain words for these:\n" + "\n".join(found)


def test_patterns_find_what_they_retire() -> None:
    examples = (
        "def _ways(x):", "places = [1]", "the room module", "who is told", "as begun", "settle it",
        "the dearest run", "at once", "a slip", "mend it", "of one's own", "it lies there",
    )  # fmt: skip
    for example in examples:
        assert any(re.search(pattern, example) for pattern in RETIRED), example
    for allowed in ("x must lie in [0, 1]", "it turns out", "replace", "placeholder"):
        assert not any(re.search(pattern, allowed) for pattern in RETIRED), allowed
