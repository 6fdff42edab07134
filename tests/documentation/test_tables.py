"""Tables of the documentation that are made from results of a benchmark."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from benchmarks.pages import with_table

from benchmarks import backbones, heads

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


def test_table_of_heads_is_made_from_the_results() -> None:
    document = heads.PAGE.read_text()
    assert with_table(document, "heads", heads.table()) == document


def test_numbers_of_heads_are_those_of_the_records() -> None:
    """Accuracy, dead units and loss of each row, computed from the stored lines with NumPy."""
    curves = json.loads((RESULTS / "heads-losses.json").read_text())
    lines = (RESULTS / "heads.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"] for line in lines]
    document = heads.PAGE.read_text().partition("<!-- heads:")[2].partition("<!-- end -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in document.splitlines()
        if re.match(r"\| [A-D]: ", line)
    ]
    scales = dict.fromkeys(curve["scale"] for curve in curves)
    fields = {
        "A": ("average", "none", 0),
        "B": ("max", "batch", 0),
        "C": ("max", "none", 1.0),
        "D": ("max", "batch", 1.0),
    }
    names = {"average": "A", "batch-norm": "B", "clipping": "C", "both": "D"}
    groups = [
        (epochs, head, method)
        for epochs in [1 if scale == "200 steps" else 5 for scale in scales]
        for head in fields
        for method in ("cc", "ce+cam", "ce")
    ]
    expected = []
    for epochs, head, method in groups:
        own = [
            record
            for record in records
            if record["experiment"]["epochs"] == epochs and record["method"] == method
            if tuple(
                record["experiment"][name] or 0
                for name in ("final_pool", "head_norm", "clip_grad_norm")
            )
            == fields[head]
        ]
        last = [
            curve["losses"][-20:]
            for curve in curves
            if (curve["scale"] == "200 steps") == (epochs == 1)
            if names[curve["head"]] == head
            if curve["method"] == method
        ]
        assert len(last) == len(own)
        if own:
            accuracies = np.array([record["evaluation"]["accuracy"] for record in own])
            dead = np.mean([record["evaluation"]["dead_units"] for record in own])
            numbers = (f"{accuracies.mean():.1f}", f"{accuracies.min():.1f}", f"{dead:.0f}")
            expected.append([head, method, str(len(own)), *numbers, f"{np.mean(last):.3f}"])
    assert [[row[0][0], row[0].split("; ")[1], *row[1:]] for row in rows] == expected
