"""Numbers and generated pages in the documentation agree with the stored records."""

import re
from statistics import mean

import pytest
from markdown_blocks import ROOT

from ccloss.bench.report import tables
from ccloss.bench.results import read_runs

RESULTS = ROOT / "benchmarks" / "results"
LOSSES = "ce,ce+cam,focal,a-softmax,mc,ical,fical,center,cosface,arcface,cc"


def test_table_of_losses_agrees_with_its_records() -> None:
    records = read_runs(RESULTS / "losses.jsonl").records
    records = sorted(records, key=lambda record: LOSSES.split(",").index(record.method))
    table = tables.to_markdown(tables.comparison(records), tables.describe(records))
    text = (ROOT / "docs" / "losses.md").read_text()
    shown = re.search(r"<!-- losses:.*?-->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert shown is not None
    assert shown[1].split() == table.split()


def test_attention_ratios_of_the_readme_agree_with_their_records() -> None:
    records = read_runs(RESULTS / "digits.jsonl").records
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"is\s+(\d\.\d+) with CC-Loss and (\d\.\d+) with the same network", text)
    assert shown is not None
    for method, number in zip(("cc", "ce+cam"), shown.groups(), strict=True):
        own = [r.evaluation["attention_ratio"] for r in records if r.method == method]
        assert len(own) == 3
        assert f"{mean(own):.3f}" == number


def test_results_agree_with_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_results

    assert write_results.text() == (ROOT / "docs" / "results.md").read_text()


def test_performance_agrees_with_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_performance

    assert write_performance.text() == (ROOT / "docs" / "performance.md").read_text()
