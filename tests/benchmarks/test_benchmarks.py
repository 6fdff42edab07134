"""What the benchmarks compute from times. No test asserts how fast anything is."""

import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measurement(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import measurement

    return measurement


@pytest.fixture
def write_performance(monkeypatch: pytest.MonkeyPatch, measurement: ModuleType) -> ModuleType:
    from benchmarks import write_performance

    return write_performance


def test_each_repetition_measures_every_alternative_once(measurement):
    calls = []
    alternatives = {name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}
    seconds = measurement.interleave(alternatives, 10)
    rounds = [calls[start : start + 3] for start in range(0, 30, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert all(len(times) == 10 for times in seconds.values())


def test_ratio_is_taken_within_repetitions(measurement):
    # The ratios are 3, 1 and 2; the ratio of the medians is 3.
    assert measurement.median_ratio([3.0, 1.0, 8.0], [1.0, 1.0, 4.0]) == 2.0


def test_result_file_names_machine_and_threads(measurement, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measurement, "RESULTS", tmp_path)
    measurement.write("step", seconds={"ce": [1.0]})
    content = json.loads((tmp_path / "step.json").read_text())
    assert content["threads"] >= 1
    assert content["provenance"]["device"] == "cpu"
    assert content["seconds"] == {"ce": [1.0]}


def test_page_without_results_reads_not_measured(write_performance, monkeypatch, tmp_path):
    monkeypatch.setattr(write_performance, "RESULTS", tmp_path)
    page = write_performance.text()
    assert page.count("\nnot measured\n") == 5
    assert page.count("| not measured") == len(write_performance.GPU_ROWS)


def test_step_table_shows_ratios_to_cross_entropy(write_performance):
    seconds = {"ce": [1.0, 2.0], "ce+cam": [2.0, 4.0], "cc": [3.0, 6.0]}
    text = write_performance.step({"seconds": seconds})
    assert "`cc` relative to `ce+cam`: 1.500" in text
    assert "3.000" in text
