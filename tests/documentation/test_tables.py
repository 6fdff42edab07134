"""Tables of the documentation that are made from results of a benchmark."""

import json
from pathlib import Path

import pytest
from benchmarks.pages import with_table

from benchmarks import backbones

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_table_is_put_between_its_comments() -> None:
    document = "<!-- a: x -->\n1\n<!-- end -->\ntext\n<!-- b: y -->\n2\n<!-- end -->\n"
    assert with_table(document, "b", "3\n") == document.replace("2\n", "3\n")
    with pytest.raises(ValueError, match="no table 'c'"):
        with_table(document, "c", "")


def test_table_of_backbones_is_made_from_the_results() -> None:
    document = backbones.PAGE.read_text()
    rows = json.loads((RESULTS / "backbones.json").read_text())
    assert with_table(document, "backbones", backbones.table(rows)) == document
