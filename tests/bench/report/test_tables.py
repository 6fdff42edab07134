"""The comparison table in its three forms."""

import csv
import io
import re
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ccloss.bench.report import tables
from ccloss.errors import InputError

ACCURACIES = {"ce": (90.0, 91.0, 95.0), "cc": (93.0, 94.1, 94.3)}


@pytest.fixture
def records(record):
    return [
        record(method, seed, accuracy, seconds=10.0 + seed, nll=0.1 * seed / 3)
        for method, values in ACCURACIES.items()
        for seed, accuracy in enumerate(values, start=1)
    ]


def test_a_row_is_the_mean_of_its_rounds(records):
    row = tables.comparison(records)[1]
    assert row.method == "cc"
    assert row.rounds == 3
    assert row.accuracy.mean == pytest.approx(mean(ACCURACIES["cc"]))
    assert row.accuracy.margin == pytest.approx(mean(ACCURACIES["cc"]) - 93.0)
    assert row.nll == pytest.approx(0.1 * 2 / 3)
    assert (row.seconds, row.images_per_second) == (12.0, 902.0)
    assert (row.top5, row.calibration_error, row.parameters) == (99.0, 1.5, 123456)


def test_a_ratio_undefined_in_one_round_is_undefined(record):
    rounds = [record("cc", 1, attention_ratio=None), record("cc", 2)]
    row = tables.comparison(rounds)[0]
    assert row.attention_ratio is None
    assert row.feature_ratio == pytest.approx(0.2)


def test_runs_of_two_protocols_are_refused(record):
    with pytest.raises(InputError, match="batch_size"):
        tables.comparison([record("ce"), record("cc", batch_size=64)])


def test_cells_are_text_of_one_width(records):
    headers, body = tables.cells(tables.comparison(records))
    assert {len(line) for line in body} == {len(headers)}
    named = dict(zip(headers, body[0], strict=True))
    assert named["accuracy (%)"] == "92.00 ± 3.00"
    assert named["rounds"] == "3"
    assert named["attention ratio"] == "–"
    assert named["feature ratio"] == "0.200"
    assert named["time a round (s)"] == "12.0"
    assert named["parameters"] == "123,456"


def test_long_runs_are_told_in_minutes(record):
    headers, body = tables.cells(tables.comparison([record("ce", seconds=90.0 * 60)]))
    assert dict(zip(headers, body[0], strict=True))["time a round (min)"] == "90.0"


def test_one_round_says_so(record):
    _, body = tables.cells(tables.comparison([record("ce", accuracy=97.66)]))
    assert body[0][1] == "97.66"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "–"), (0.0, "0.00"), (0.123456, "0.123"), (1e-6, "1.00e-06"), (123.4, "123")],
)
def test_ratio_text(ratio, text):
    assert tables.ratio_text(ratio) == text


def test_markdown_is_a_table_below_its_caption(records):
    lines = tables.to_markdown(tables.comparison(records), "A caption.").splitlines()
    assert lines[:2] == ["A caption.", ""]
    header, rule, *body = lines[2:]
    assert len(body) == len(ACCURACIES)
    assert len({len(line) for line in (header, rule, *body)}) == 1
    assert len({line.count("|") for line in (header, rule, *body)}) == 1
    assert all(re.fullmatch("-+:?", cell) for cell in rule.strip("| ").split(" | "))


def test_nothing_is_bold(records):
    assert "**" not in tables.to_markdown(tables.comparison(records), tables.describe(records))


def test_markdown_survives_odd_names(record):
    text = tables.to_markdown(tables.comparison([replace(record(), method="a|b\nc" * 20)]), "")
    row = text.splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 12
    assert r"a\|b c" in row


def test_csv_reads_back_in_full_precision(records):
    rows = tables.comparison(records)
    read = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
    assert [line["method"] for line in read] == ["ce", "cc"]
    for line, row in zip(read, rows, strict=True):
        assert float(line["accuracy_mean"]) == row.accuracy.mean
        assert float(line["accuracy_margin"]) == row.accuracy.margin
        assert int(line["rounds"]) == 3
        for name in ("top5", "nll", "calibration_error", "feature_ratio", "seconds"):
            assert float(line[name]) == getattr(row, name)
        assert int(line["parameters"]) == 123456
    assert read[0]["attention_ratio"] == ""
    assert float(read[1]["attention_ratio"]) == 0.5


def test_csv_quotes_what_it_must(record):
    name = 'a, "b"\nc'
    text = tables.to_csv(tables.comparison([replace(record(), method=name)]))
    assert [line["method"] for line in csv.DictReader(io.StringIO(text, newline=""))] == [name]


def test_latex_has_a_line_a_method(records):
    rows = tables.comparison(records)
    headers, body = tables.cells(rows)
    lines = tables.to_latex(rows, "A caption.").splitlines()
    assert r"\caption{A caption.}" in lines
    assert rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}" in lines
    inner = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(inner) == len(body)
    assert all(line.count(" & ") == len(headers) - 1 for line in inner)
    assert inner[0].startswith(r"ce & 92.00 $\pm$ 3.00 & 3 & ")
    assert r"accuracy (\%)" in lines[lines.index(r"\toprule") + 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_b 50% #1 {x} & $y$", r"a\_b 50\% \#1 \{x\} \& \$y\$"),
        ("\\def|~^", r"\textbackslash{}def\textbar{}\textasciitilde{}\textasciicircum{}"),
        ("<b>\n", r"\textless{}b\textgreater{}"),
    ],
)
def test_latex_takes_no_name_for_a_command(record, name, text):
    rows = tables.comparison([replace(record(), method=name)])
    assert f"\n{text} & " in tables.to_latex(rows, "")


def test_differences_are_paired_by_seed_and_adjusted(record):
    drawn = np.random.default_rng(0).normal(90, 1, size=(3, 5))
    records = [
        record(method, seed, accuracy)
        for method, values in zip(("ce", "focal", "cc"), drawn, strict=True)
        for seed, accuracy in enumerate(values)
    ]
    records.append(record("cc", 9, 50.0))  # a seed that ce has not
    found = tables.differences(records)
    assert list(found) == ["focal", "cc"]
    raw = [ttest_rel(drawn[row], drawn[0]).pvalue for row in (1, 2)]
    low, high = sorted(raw)
    adjusted = {low: min(1, 2 * low), high: max(min(1, 2 * low), high)}
    for row, method, p in zip((1, 2), found, raw, strict=True):
        assert found[method].mean == pytest.approx((drawn[row] - drawn[0]).mean())
        assert found[method].p == pytest.approx(adjusted[p])
        assert found[method].rounds == 5
        assert found[method].interval.low <= found[method].mean <= found[method].interval.high


def test_one_shared_seed_is_no_difference(record):
    records = [record("ce", 1), record("ce", 2), record("cc", 2), record("cc", 3)]
    assert tables.differences(records) == {}
    assert tables.differences(records[:2]) == {}


def test_caption_says_what_was_run(records):
    caption = tables.describe(records)
    for part in (
        "digits, convnet, 3 epochs, 3 rounds a method, on cpu (A Processor)",
        "500 images of the test split",
        "largest absolute deviation of a round from the mean",
        "mean intra-class over the mean inter-class squared distance",
        "lower is tighter",
        "Time is wall time on the device named",
    ):
        assert part in caption
    assert "\n" not in caption


def test_caption_counts_rounds_and_names_every_device(record):
    one = replace(record("ce"), provenance={"device": "cuda", "processor": "B"})
    caption = tables.describe([one, record("cc", 1), record("cc", 2)])
    assert "1 to 2 rounds a method" in caption
    assert "on cuda (B), cpu (A Processor)." in caption
    alone = tables.describe([replace(record(epochs=1), provenance={})])
    assert "1 epoch, 1 round a method, on an unknown device" in alone


def test_write(records, tmp_path):
    rows = tables.comparison(records)
    folder = tmp_path / "new" / "report"
    paths = tables.write(rows, folder, "A caption.")
    assert paths == [folder / f"comparison.{kind}" for kind in ("md", "csv", "tex")]
    assert paths[0].read_text("utf-8") == tables.to_markdown(rows, "A caption.")
    assert paths[1].read_text("utf-8") == tables.to_csv(rows)
    assert paths[2].read_text("utf-8") == tables.to_latex(rows, "A caption.")
    assert sorted(folder.iterdir()) == sorted(paths)


@pytest.mark.parametrize("below", [".", "report"])
def test_write_refuses_a_file_for_a_folder(records, tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="is not a folder; choose another"):
        tables.write(tables.comparison(records), file / below, "")
