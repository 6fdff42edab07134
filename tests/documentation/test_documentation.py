"""Numbers and generated pages in the documentation agree with the stored records."""

import re
from statistics import mean

import pytest
from markdown_blocks import ROOT

from ccloss.bench.results import read_runs

RESULTS = ROOT / "benchmarks" / "results"


def test_numbers_of_the_readme_agree_with_their_records() -> None:
    records = read_runs(RESULTS / "digits.jsonl").records
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"is\s+(\d\.\d+) with CC-Loss and (\d\.\d+) with the same network", text)
    assert shown is not None
    for method, number in zip(("cc", "ce+cam"), shown.groups(), strict=True):
        own = [r.evaluation["attention_ratio"] for r in records if r.method == method]
        assert len(own) == 3
        assert f"{mean(own):.3f}" == number
    merged = re.search(r"of (\d+) % of the pairs of classes .*?of (\d+) % without", text, re.DOTALL)
    assert merged is not None
    for method, number in zip(("cc", "ce+cam"), merged.groups(), strict=True):
        own = [r.evaluation["attention_merged_pairs"] for r in records if r.method == method]
        assert f"{mean(own):.0f}" == number


def test_performance_agrees_with_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_performance

    assert write_performance.text() == (ROOT / "docs" / "performance.md").read_text()


def test_guarantees_name_existing_tests_and_results() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    paths = re.findall(r"`((?:tests|benchmarks)/[^`]*)`", text)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []
