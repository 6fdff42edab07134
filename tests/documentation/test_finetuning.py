"""The table of training options, rebuilt from the stored accuracies and compared with SciPy."""

import json

import numpy as np
import pytest
from benchmarks.pages import with_table
from scipy import stats

from benchmarks import finetuning

ACCURACIES = json.loads((finetuning.RESULTS / "finetuning.json").read_text())["accuracies"]
BASELINE = "random weights"


def test_page_is_made_from_the_results() -> None:
    document = finetuning.PAGE.read_text()
    assert with_table(document, "finetuning", finetuning.table(ACCURACIES)) == document


@pytest.mark.parametrize("images", ACCURACIES)
def test_differences_are_those_of_scipy(images: str) -> None:
    rows = ACCURACIES[images]
    for each in finetuning.comparisons(rows):
        differences = [rows[each.row][seed] - rows[BASELINE][seed] for seed in rows[BASELINE]]
        assert each.estimate == pytest.approx(np.mean(differences))
        if each.method == "paired":  # otherwise the blocked model has the larger error
            half = 100 / (100 * len(finetuning.TARGET)) / 2
            error = np.sqrt((np.var(differences, ddof=1) + half**2) / len(differences))
            expected = 2 * stats.t(len(differences) - 1).sf(abs(np.mean(differences)) / error)
            assert each.p == pytest.approx(expected)


def test_statements_of_the_page() -> None:
    signs = {
        images: {each.row: each.sign for each in finetuning.comparisons(rows) if each.sign}
        for images, rows in ACCURACIES.items()
    }
    pretrained = dict.fromkeys(finetuning.PRETRAINED, 1)
    helpful = {"AdamW": 1, **pretrained}
    harmful = {"TrivialAugment": -1, "best of validation": -1}
    assert signs["20"] == {**helpful, **harmful, "constant rate": -1}
    assert signs["100"] == {**helpful, **harmful, "clipping at 1": 1, "CutMix": -1}
