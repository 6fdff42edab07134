"""The paper's tables with published and measured numbers."""

import csv
import io
from typing import Any

import pytest
import scipy.stats
from finished_runs import make_record, table_record

from ccloss.bench.paper.tables import Column
from ccloss.bench.report.paper_tables import (
    Grid,
    caption,
    grids,
    printed,
    to_csv,
    write,
)
from ccloss.training.records import Record

MNIST = Column("mnist", "vgg16")
NOISE = (0.0, 0.11, -0.07, 0.05, -0.12)


def runs(cell: str, mean: float, shift: int = 0, **changes: Any) -> list[Record]:
    return [
        table_record(cell, seed, mean + NOISE[(seed + shift) % 5], **changes) for seed in range(5)
    ]


@pytest.fixture(scope="module")
def table4() -> Grid:
    records = [
        *runs("table4/mnist/vgg16/ce", 97.0),
        *runs("table4/mnist/vgg16/ce+cam", 97.5, 2),
        *runs("table4/mnist/vgg16/cc", 98.5, 1),
    ]
    return next(grid for grid in grids(records) if grid.table.name == "table4")


def test_a_cell_has_published_and_measured_numbers(table4: Grid) -> None:
    cell = table4.cells["cc", MNIST]
    assert cell.published is not None
    assert cell.published.text == "98.32 ± 0.08"
    values = list(cell.rounds.values())
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert cell.interval == pytest.approx(expected)
    lines = printed(table4).lines
    line = next(line for line in lines if line[0].text == "cc")
    assert line[1].text == "98.32 ± 0.08"
    low, high = expected
    assert line[2].text == f"98.49 ± 0.12 ({low:.2f} to {high:.2f})"


def test_marks_are_significant_comparisons_and_bold_is_best(table4: Grid) -> None:
    assert table4.cells["cc", MNIST].best
    assert table4.cells["ce", MNIST].differs
    comparison = table4.cells["ce", MNIST].comparison
    assert comparison is not None
    assert (comparison.row, comparison.other, comparison.sign) == ("cc", "ce", 1)
    lines = printed(table4).lines
    assert [line[2].mark for line in lines] == ["*", "*", ""]
    assert [line[2].bold for line in lines] == [False, False, True]


def test_full_protocol_discloses_every_gap(table4: Grid) -> None:
    text = caption(table4)
    for choice in ("512 channels", "reduction 16", "batch normalisation", "24x24", "last epoch"):
        assert choice in text
    small = grids(runs("table4/mnist/vgg16/cc", 98.0, epochs=5, train_limit=1000))
    assert "silent" not in caption(small[0])
    assert "at 5 epochs instead of 300; 1,000 training images instead of all" in caption(small[0])


def test_scales_are_separate_grids() -> None:
    records = [
        *runs("table4/mnist/vgg16/cc", 98.0),
        *runs("table4/mnist/vgg16/cc", 90.0, epochs=1),
        make_record("cc", 1, weight_decay=0.1),
    ]
    found = [grid for grid in grids(records) if grid.table.name == "table4"]
    assert [grid.deviations for grid in found] == [(), (("epochs", 1),)]
    assert found[1].name == "table4-epochs-1"


def test_other_data_has_no_published_column() -> None:
    records = [*runs("table4/digits/convnet/cc", 98.0), *runs("table4/digits/convnet/ce", 97.0, 1)]
    grid = next(grid for grid in grids(records) if grid.table.name == "table4")
    assert [name for _, name in printed(grid).headers] == ["loss", "measured"]
    assert "this library's protocol for digits/convnet" in caption(grid)
    assert grid.is_informative
    assert not grids(runs("table4/digits/convnet/cc", 98.0))[0].is_informative


def test_table_3_shows_the_papers_test_for_attention_as_well() -> None:
    records = [*runs("table3/mnist/vgg16/cc", 98.3), *runs("table4/mnist/vgg16/ce+cam", 98.4, 2)]
    grid = next(grid for grid in grids(records) if grid.table.name == "table3")
    lines = printed(grid).lines
    assert [line[1].text for line in lines] == ["cc", "ce+cam"]
    values = [98.3 + noise for noise in NOISE]
    expected = scipy.stats.ttest_1samp(values, 98.22, alternative="greater").pvalue
    assert lines[0][5].text == f"{expected:.2g}"
    assert lines[0][7].text == "0.0039"
    assert lines[1][7].text == "–"


def test_files(table4: Grid, tmp_path: Any) -> None:
    paths = write([table4], tmp_path)
    assert [path.name for path in paths] == ["table4.md", "table4.tex", "table4.csv"]
    assert "**98.49 ± 0.12" in paths[0].read_text()
    latex = paths[1].read_text()
    assert r"\textbf{98.49 $\pm$ 0.12" in latex
    assert latex.count(r"\begin") == latex.count(r"\end") == 2
    lines = list(csv.DictReader(io.StringIO(to_csv(table4))))
    first = next(line for line in lines if line["row"] == "ce")
    assert float(first["reference_minus_row"]) == pytest.approx(1.5)
