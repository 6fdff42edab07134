"""The comparison of methods as a table."""

import csv
import io
from pathlib import Path

import pytest
from finished_runs import make_record
from report_names import HOSTILE

from ccloss.bench.groups import Setting, settings
from ccloss.bench.report.method_table import (
    caption,
    rows,
    tables,
    to_csv,
    write,
)
from ccloss.bench.report.printed import to_latex, to_markdown


@pytest.fixture
def setting() -> Setting:
    accuracy = {"ce": (90.0, 90.4, 90.2, 90.8), "cc": (92.1, 92.0, 92.7, 92.4)}
    records = [
        make_record(method, seed, value)
        for method, values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    return settings(records)[0]


def test_rows_are_means_and_paired_differences(setting: Setting) -> None:
    first, second = rows(setting)
    assert (first.method, first.comparison) == ("ce", None)
    assert str(first.accuracy) == "90.35 ± 0.45"
    assert second.comparison is not None
    assert second.comparison.estimate == pytest.approx(1.95)
    cells, metrics = (dict(zip(each.names, each.texts[1], strict=True)) for each in tables(setting))
    assert cells["accuracy (%)"] == "92.30 ± 0.40*"
    assert cells["minus ce (points)"] == "+1.95"
    assert cells["rounds"] == "4"
    assert metrics["merged pairs, attention (%)"] == "12.5"
    assert metrics["nearest mean, attention (%)"] == "77.00"


def test_columns_without_a_number_are_left_out(setting: Setting) -> None:
    for record in setting.records:
        record.evaluation["top5"] = record.evaluation["attention_ratio"] = None
    headers = tables(setting)[1].names
    assert "top-5 (%)" not in headers
    assert "merged pairs, features (%)" not in headers  # older records lack it
    assert "attention ratio" not in headers
    assert "NLL (nats)" in headers


def test_a_metric_that_is_missing_in_one_round_is_undefined(setting: Setting) -> None:
    setting.records[0].evaluation["feature_ratio"] = None
    assert rows(setting)[0].metrics["feature_ratio"] is None


def test_the_caption_states_data_scale_and_test(setting: Setting) -> None:
    text = caption(setting)
    for part in ("digits, convnet, 3 epochs, 4 rounds per method", "500 images", "Holm"):
        assert part in text
    assert "Warning" not in text


def test_runs_with_other_threads_or_devices_are_reported(setting: Setting) -> None:
    for threads, record in enumerate(setting.records[:2], start=1):
        record.provenance["threads"] = threads
    setting.records[0].provenance["device"] = "cuda:0"
    setting.records[1].provenance["device"] = "cuda:1"
    text = caption(setting)
    assert "Warning: the runs differ in the number of threads (1, 2, not recorded)" in text
    assert "Warning: the runs differ in the kind of device (cpu, cuda)" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_escaped(name: str) -> None:
    (found,) = settings([make_record("cc", 1, data=f"folder:{name}")])
    printed = caption(found), tables(found)
    markdown, latex = to_markdown(*printed), to_latex(*printed, "x")
    assert markdown.count("\n") == latex.count("\\\\") + 5
    assert "<script>" not in markdown
    assert "$x$" not in latex


def test_files(setting: Setting, tmp_path: Path) -> None:
    names = [path.name for path in write(setting, tmp_path)]
    assert names == ["comparison.md", "comparison.csv", "comparison.tex"]
    lines = list(csv.DictReader(io.StringIO(to_csv(setting))))
    assert [line["method"] for line in lines] == ["ce", "cc"]
    assert float(lines[1]["difference"]) == pytest.approx(1.95)
