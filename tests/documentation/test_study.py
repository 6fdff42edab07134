"""docs/study.md: rebuilt from the records, and recomputed with NumPy and SciPy."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import study
from ccloss.bench.groups import settings

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_page_is_made_from_the_records() -> None:
    assert study.PAGE.read_text() == study.text()


@pytest.mark.parametrize("campaign", study.QUESTIONS)
def test_comparisons_are_those_of_scipy(campaign: str) -> None:
    lines = (RESULTS / f"{campaign}.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"] for line in lines]
    (setting,) = settings(study.read(campaign))
    for metric, family in study.comparisons(setting).items():
        values = {
            method: {
                record["experiment"]["seed"]: record["evaluation"][metric]
                for record in records
                if record["method"] == method
            }
            for method in setting.methods
        }
        for each in family:
            seeds = sorted(values[each.row])
            difference = np.array([values[each.row][s] - values[each.other][s] for s in seeds])
            # The variance of half a test image stands for the discreteness of counts.
            counted = "accuracy" in metric
            half = 50 / records[0]["evaluation"]["images"] if counted else 0.0
            error = np.sqrt((difference.var(ddof=1) + half**2) / len(seeds))
            t = stats.t(len(seeds) - 1)
            assert each.estimate == pytest.approx(difference.mean())
            assert each.interval is not None
            assert each.interval.high == pytest.approx(difference.mean() + t.ppf(0.975) * error)
            assert each.p == pytest.approx(2 * t.sf(abs(difference.mean()) / error))
