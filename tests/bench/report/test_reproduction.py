"""Grids of published and measured numbers: expected ones are SciPy's, or counted by hand."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from ccloss.bench.experiment import Experiment
from ccloss.bench.paper import Column
from ccloss.bench.report import reproduction
from ccloss.bench.report.reproduction import Grid, grids
from ccloss.errors import InputError
from ccloss.training.records import Record

Rounds = Callable[..., list[Record]]

MNIST = Column("mnist", "vgg16")
CIFAR = Column("cifar100", "vgg16")
CARS = Column("cars196", "vgg16")
CC = [98.30, 98.36, 98.31, 98.40, 98.25]
CE = [97.40, 97.52, 97.44, 97.60, 97.33]

PROTOCOL: dict[str, Any] = {"data": "mnist", "backbone": "vgg16", "precision": "fp32"}


@pytest.fixture
def rounds(record: Callable[..., Record]) -> Rounds:
    """Runs of one cell, with seeds from 1 on, or those that are given."""

    def make(
        accuracies: Sequence[float],
        seeds: Sequence[int] | None = None,
        evaluation: dict[str, Any] | None = None,
        **fields: Any,
    ) -> list[Record]:
        experiment = Experiment(**{**PROTOCOL, **fields}).resolve(channels=1)
        changes = {**experiment.to_dict(), **(evaluation or {})}
        del changes["seed"]
        return [
            record(experiment.method, seed, accuracy, **changes)
            for seed, accuracy in zip(
                seeds or range(1, len(accuracies) + 1), accuracies, strict=True
            )
        ]

    return make


def named(found: Sequence[Grid], name: str) -> Grid:
    return next(grid for grid in found if grid.name == name)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ---- what goes where -----------------------------------------------------------------------------


def test_no_record_makes_no_grid() -> None:
    assert grids([]) == []


def test_runs_of_no_table_are_passed_over(rounds: Rounds) -> None:
    assert grids(rounds(CC, momentum=0.5)) == []


def test_one_run_stands_in_every_table_that_has_its_cell(rounds: Rounds) -> None:
    found = grids(rounds([75.5], data="cifar100"))
    places = {
        grid.name: [place for place, cell in grid.cells.items() if cell.rounds] for grid in found
    }
    assert places == {
        "table1": [("cc", CIFAR)],
        "table2": [("batch=32", CIFAR)],
        "table3": [("cc", CIFAR)],
        "table4": [("cc", CIFAR)],
        "table5": [("lambda=1", CIFAR)],
    }


def test_scales_are_kept_apart(rounds: Rounds) -> None:
    runs = rounds(CE, epochs=5, loss="ce") + rounds([74.0], data="cifar100", loss="ce")
    small, full = (
        named(grids(runs), "table1-epochs-5"),
        named(grids(runs), "table1"),
    )
    assert (small.departures, small.columns) == ((("epochs", 5),), (MNIST,))
    assert (full.departures, full.columns) == ((), (CIFAR,))


def test_data_sets_at_one_scale_share_a_grid(rounds: Rounds) -> None:
    runs = rounds([74.0], data="cifar100", loss="ce", epochs=5) + rounds(CE, loss="ce", epochs=5)
    assert [grid.columns for grid in grids(runs) if grid.table.name == "table1"] == [(MNIST, CIFAR)]


def test_rows_are_all_and_columns_the_measured_ones_in_the_papers_order(rounds: Rounds) -> None:
    runs = (
        rounds([95.0], data="digits", backbone="convnet", loss="ce")
        + rounds([90.0], data="cars196", loss="focal")
        + rounds([77.0], data="cifar100", backbone="resnet18")
    )
    grid = named(grids(runs), "table1")
    assert grid.rows == ("ce", "focal", "a-softmax", "mc", "ical", "fical", "cc")
    assert list(map(str, grid.columns)) == [
        "cifar100/resnet18",
        "cars196/vgg16",
        "digits/convnet",
    ]
    assert set(grid.cells) == {(row, column) for row in grid.rows for column in grid.columns}


def test_an_unmeasured_cell_has_the_published_number_alone(rounds: Rounds) -> None:
    cell = named(grids(rounds(CC)), "table1").cells["focal", MNIST]
    assert cell.published is not None
    assert cell.published.text == "97.64"
    assert (dict(cell.rounds), cell.accuracy, cell.interval) == ({}, None, None)
    assert (cell.p_published, cell.paired, cell.feature_ratio) == (None, None, None)


def test_two_runs_of_one_cell_and_seed_are_refused_in_one_line(rounds: Rounds) -> None:
    folder = "folder:a\nb"
    runs = [*rounds(CC, data=folder), *rounds([90.0], seeds=[3], data=folder)]
    with pytest.raises(InputError) as caught:
        grids(runs)
    assert str(caught.value) == (
        "cell folder:a b/vgg16/cc of table1 has two runs with seed 3; leave one out"
    )


def test_one_seed_at_two_scales_is_no_double(rounds: Rounds) -> None:
    runs = rounds([98.0], epochs=5) + rounds([98.1], epochs=6)
    names = [grid.name for grid in grids(runs) if grid.table.name == "table1"]
    assert names == ["table1-epochs-5", "table1-epochs-6"]


# ---- numbers -------------------------------------------------------------------------------------


def test_a_cell_has_its_rounds_by_seed_and_their_margin(rounds: Rounds) -> None:
    cell = named(grids(rounds([98.0, 98.6, 98.2], seeds=[7, 3, 5])), "table1").cells["cc", MNIST]
    assert list(cell.rounds.items()) == [(3, 98.6), (5, 98.2), (7, 98.0)]
    assert cell.accuracy is not None
    assert cell.accuracy.mean == pytest.approx(98.2667, abs=1e-4)
    assert cell.accuracy.margin == pytest.approx(0.3333, abs=1e-4)
    assert cell.interval is not None
    assert 98.0 < cell.interval.low < 98.2667 < cell.interval.high < 98.6001


def test_one_round_has_no_interval_and_no_test(rounds: Rounds) -> None:
    runs = rounds([98.0]) + rounds([97.0], loss="ce")
    cells = named(grids(runs), "table1").cells
    for row in ("cc", "ce"):
        cell = cells[row, MNIST]
        assert cell.accuracy is not None
        assert (cell.interval, cell.p_published, cell.paired) == (None, None, None)
    baseline = named(grids(runs), "table3").cells["cc", MNIST].baseline
    assert baseline is not None
    assert (baseline.one_sided, baseline.two_sided) == (None, None)


def test_published_mean_is_tested_two_sided(rounds: Rounds) -> None:
    cell = named(grids(rounds(CE, loss="ce")), "table1").cells["ce", MNIST]
    assert cell.p_published == pytest.approx(scipy_stats.ttest_1samp(CE, 97.43).pvalue)


def test_what_is_not_published_is_not_tested(rounds: Rounds) -> None:
    runs = rounds(CE, data="digits", backbone="convnet")
    cell = named(grids(runs), "table1").cells["cc", Column("digits", "convnet")]
    assert (cell.published, cell.p_published) == (None, None)
    assert named(grids(runs), "table3").cells["cc", Column("digits", "convnet")].baseline is None


def test_pairs_are_those_of_shared_seeds(rounds: Rounds) -> None:
    runs = rounds(CC) + rounds([99.9, *CE], seeds=[9, 1, 2, 3, 4, 5], loss="ce")
    paired = named(grids(runs), "table1").cells["ce", MNIST].paired
    assert paired is not None
    assert (paired.reference, paired.seeds) == ("cc", (1, 2, 3, 4, 5))
    assert paired.difference == pytest.approx(-0.866)
    assert paired.low < -0.866 < paired.high < 0
    assert paired.sd == pytest.approx(
        scipy_stats.tstd([a - b for a, b in zip(CE, CC, strict=True)])
    )
    assert paired.p == pytest.approx(scipy_stats.ttest_rel(CE, CC).pvalue)
    assert paired.p_holm == paired.p  # the only test of the grid


def test_p_values_are_adjusted_over_the_whole_grid(rounds: Rounds) -> None:
    focal = [98.2, 98.4, 98.2, 98.5, 98.3]
    cifar, cifar_ce = [75.1, 75.6, 75.4, 75.2, 75.9], [74.9, 75.0, 75.3, 74.4, 75.2]
    runs = rounds(CC) + rounds(CE, loss="ce") + rounds(focal, loss="focal")
    runs += rounds(cifar, data="cifar100") + rounds(cifar_ce, data="cifar100", loss="ce")
    cells = named(grids(runs), "table1").cells
    raw = {
        ("ce", MNIST): scipy_stats.ttest_rel(CE, CC).pvalue,
        ("ce", CIFAR): scipy_stats.ttest_rel(cifar_ce, cifar).pvalue,
        ("focal", MNIST): scipy_stats.ttest_rel(focal, CC).pvalue,
    }
    assert list(raw.values()) == sorted(raw.values())  # so that Holm multiplies by 3, 2 and 1
    adjusted = {place: cell.paired.p_holm for place, cell in cells.items() if cell.paired}
    assert adjusted == {
        place: pytest.approx(p * factor)
        for (place, p), factor in zip(raw.items(), (3, 2, 1), strict=True)
    }
    marked = {place for place, cell in cells.items() if cell.differs}
    assert marked == {place for place, p in adjusted.items() if p < 0.05}
    assert ("ce", MNIST) in marked
    assert ("focal", MNIST) not in marked


@pytest.mark.parametrize(
    ("seeds", "why"), [([6, 7, 8, 9, 10], "none shared"), ([5, 6, 7, 8, 9], "one shared")]
)
def test_two_shared_seeds_are_needed(rounds: Rounds, seeds: list[int], why: str) -> None:
    grid = named(grids(rounds(CC) + rounds(CE, seeds=seeds, loss="ce")), "table1")
    assert grid.cells["ce", MNIST].paired is None, why
    assert grid.smallest_difference is None


def test_a_column_without_its_reference_row_has_no_pairs(rounds: Rounds) -> None:
    grid = named(grids(rounds(CE, loss="ce") + rounds(CC, loss="focal")), "table1")
    assert all(cell.paired is None for cell in grid.cells.values())


@pytest.mark.parametrize(
    ("data", "size", "reference"),
    [("cifar100", 8, "batch=32"), ("cars196", 8, "batch=16"), ("mnist", 16, "batch=32")],
)
def test_batch_sizes_are_compared_with_the_one_of_their_data(
    rounds: Rounds, data: str, size: int, reference: str
) -> None:
    best = int(reference.removeprefix("batch="))
    runs = rounds(CC, data=data, batch_size=best) + rounds(CE, data=data, batch_size=size)
    grid = named(grids(runs), "table2")
    paired = grid.cells[f"batch={size}", Column(data, "vgg16")].paired
    assert paired is not None
    assert paired.reference == reference
    assert grid.cells[reference, Column(data, "vgg16")].paired is None


def test_lambdas_are_compared_with_1(rounds: Rounds) -> None:
    runs = rounds(CC) + rounds(CE, loss_options={"weight": 0.5})
    paired = named(grids(runs), "table5").cells["lambda=0.5", MNIST].paired
    assert paired is not None
    assert paired.reference == "lambda=1"


def test_equal_differences_have_no_spread(rounds: Rounds) -> None:
    constant = rounds([98.3, 98.2, 98.4]) + rounds([98.2, 98.1, 98.3], loss="ce")
    grid = named(grids(constant), "table1")
    paired = grid.cells["ce", MNIST].paired
    assert paired is not None
    assert (paired.sd, paired.p) == (0.0, 0.0)
    assert grid.smallest_difference is None
    equal = rounds([98.3, 98.2, 98.4]) + rounds([98.3, 98.2, 98.4], loss="ce")
    paired = named(grids(equal), "table1").cells["ce", MNIST].paired
    assert paired is not None
    assert (paired.sd, paired.p, paired.difference) == (0.0, 1.0, 0.0)


def test_constant_rounds_are_a_point(rounds: Rounds) -> None:
    cell = named(grids(rounds([98.0] * 3)), "table1").cells["cc", MNIST]
    assert cell.interval is not None
    assert tuple(cell.interval) == pytest.approx((98.0, 98.0))
    assert cell.p_published == 0.0


def test_table3_has_the_papers_test_of_the_rounds(rounds: Rounds) -> None:
    baseline = named(grids(rounds(CC)), "table3").cells["cc", MNIST].baseline
    assert baseline is not None
    assert (baseline.published.text, baseline.printed) == ("98.22", 3.9e-3)
    expected = scipy_stats.ttest_1samp(CC, 98.22, alternative="greater").pvalue
    assert baseline.one_sided == pytest.approx(expected)
    assert baseline.two_sided == pytest.approx(2 * expected)


def test_table3_has_the_p_values_that_the_margin_allows(rounds: Rounds) -> None:
    # 78.23 ± 0.07 against 78.18, each within 0.005: t is least where the difference is 0.04 and all
    # but one round are 0.075 away (sd 0.075), and largest where it is 0.06 and one round is 0.065
    # away and the others a quarter of that (sd 0.065 * sqrt(5) / 4).
    runs = rounds([78.2], data="cifar100", backbone="resnet18")
    cell = named(grids(runs), "table3").cells["cc", Column("cifar100", "resnet18")]
    baseline = cell.baseline
    assert baseline is not None
    least, largest = 0.04 / (0.075 / 5**0.5), 0.06 / (0.065 / 4)
    expected = [scipy_stats.t.sf(largest, 4), scipy_stats.t.sf(least, 4)]
    assert tuple(baseline.possible_one_sided) == pytest.approx(expected)
    assert tuple(baseline.possible_two_sided) == pytest.approx([2 * p for p in expected])


def test_other_tables_have_no_baseline(rounds: Rounds) -> None:
    assert named(grids(rounds(CC)), "table1").cells["cc", MNIST].baseline is None


def test_feature_ratio_is_a_mean_over_rounds(rounds: Rounds) -> None:
    runs = rounds([98.0], hidden_features=2, evaluation={"feature_ratio": 0.1})
    runs += rounds([98.0], [2], hidden_features=2, evaluation={"feature_ratio": 0.4})
    assert named(grids(runs), "figure3").cells["cc", MNIST].feature_ratio == pytest.approx(0.25)


def test_feature_ratio_undefined_in_a_round_is_undefined(rounds: Rounds) -> None:
    runs = rounds([98.0], hidden_features=2, evaluation={"feature_ratio": 0.1})
    runs += rounds([98.0], [2], hidden_features=2, evaluation={"feature_ratio": None})
    grid = named(grids(runs), "figure3")
    assert grid.cells["cc", MNIST].feature_ratio is None
    assert [text.text for text in reproduction.texts(grid)[1][1]][-1] == "–"


def test_smallest_difference_is_that_of_the_median_spread(rounds: Rounds) -> None:
    differences = {
        "ce": [-1.0, -0.8, -1.1, -0.7, -0.9],
        "focal": [0.1, -0.1, 0.2, -0.2, 0.05],
        "mc": [0.5, -0.5, 0.3, -0.3, 0.0],
    }
    runs = rounds(CC)
    for loss, shift in differences.items():
        runs += rounds([a + b for a, b in zip(CC, shift, strict=True)], loss=loss)
    found = named(grids(runs), "table1").smallest_difference
    assert found is not None
    spread = sorted(scipy_stats.tstd(shift) for shift in differences.values())[1]
    # Its power, from the noncentral t directly, is what was asked for.
    cut = scipy_stats.t.ppf(0.975, 4)
    assert scipy_stats.nct.sf(cut, 4, found / spread * 5**0.5) == pytest.approx(0.8, abs=1e-6)


# ---- bold ----------------------------------------------------------------------------------------


def ablation(rounds: Rounds, cam: Sequence[float], **fields: Any) -> list[Record]:
    return (
        rounds(CC, **fields)
        + rounds(CE, loss="ce", **fields)
        + rounds(cam, loss="ce+cam", **fields)
    )


def best(grid: Grid) -> list[str]:
    return [row for (row, _), cell in grid.cells.items() if cell.best]


def test_a_row_above_every_other_is_best(rounds: Rounds) -> None:
    cam = [97.60, 97.75, 97.62, 97.79, 97.58]
    assert best(named(grids(ablation(rounds, cam)), "table4")) == ["cc"]


def test_a_row_other_than_the_reference_can_be_best(rounds: Rounds) -> None:
    cam = [99.00, 99.10, 99.04, 99.11, 98.97]
    grid = named(grids(ablation(rounds, cam)), "table4")
    assert best(grid) == ["ce+cam"]
    assert grid.cells["ce+cam", MNIST].differs


def test_the_highest_is_not_best_while_one_other_is_not_told_from_it(rounds: Rounds) -> None:
    cam = [98.20, 98.40, 98.25, 98.30, 98.28]
    assert scipy_stats.ttest_rel(CC, cam).pvalue > 0.05
    assert best(named(grids(ablation(rounds, cam)), "table4")) == []


def test_best_is_adjusted_over_all_pairs_of_the_column(rounds: Rounds) -> None:
    # cc is below 0.05 against both others, but the second smallest of three is doubled by Holm.
    cam = [98.20, 96.92, 97.94, 96.90, 97.33]
    against_cam, against_ce, between = (
        scipy_stats.ttest_rel(a, b).pvalue for a, b in ((CC, cam), (CC, CE), (CE, cam))
    )
    assert against_ce < against_cam < 0.05 < 2 * against_cam < between
    assert best(named(grids(ablation(rounds, cam)), "table4")) == []


def test_nothing_is_best_where_a_row_was_not_run(rounds: Rounds) -> None:
    assert best(named(grids(rounds(CC) + rounds(CE, loss="ce")), "table4")) == []


def test_a_single_row_is_not_best(rounds: Rounds) -> None:
    assert best(named(grids(rounds(CC)), "table3")) == []


# ---- texts ---------------------------------------------------------------------------------------


def test_captions_say_departures_in_words(rounds: Rounds) -> None:
    runs = rounds(
        CC,
        epochs=5,
        max_steps=1000,
        train_limit=10_000,
        test_limit=1,
        evaluate_every=2,
        precision="bf16",
        learning_rate=0.05,
        final_learning_rate=0.001,
    )
    text = reproduction.caption(grids(runs)[0])
    assert (
        "Measured at 5 epochs instead of 300; ended after 1,000 steps instead of the last epoch; "
        "10,000 training images instead of all; 1 test image instead of all; "
        "2 epochs between evaluations instead of 1; in bf16 instead of fp32; "
        "at learning rate 0.05 instead of 0.1; at final learning rate 0.001 instead of 1e-05."
    ) in text


def test_captions_say_each_protocol_that_was_departed_from(rounds: Rounds) -> None:
    runs = rounds(CC, epochs=1) + rounds(CC, data="digits", backbone="convnet", epochs=1)
    assert "Measured at 1 epoch instead of 300 or 20." in reproduction.caption(grids(runs)[0])


def test_every_field_of_scale_has_words() -> None:
    from ccloss.bench.paper import SCALE

    assert set(reproduction._WORDS) == set(SCALE)


def test_captions_count_rounds_and_explain_marks(rounds: Rounds) -> None:
    text = reproduction.caption(grids(rounds(CC) + rounds([97.0], loss="ce"))[0])
    assert "Measured at the full protocol. 1 to 5 rounds a measured cell" in text
    assert "mean ± margin, the largest absolute deviation of a round from the mean" in text
    assert "95 % bootstrap interval" in text
    assert "* marks a row that differs from cc in a paired t-test" in text
    assert "four times in five" not in text  # nothing is paired, so nothing is known


def test_captions_have_the_smallest_difference(rounds: Rounds) -> None:
    grid = grids(rounds(CC) + rounds(CE, loss="ce"))[0]
    assert f"a difference of {grid.smallest_difference:.2f} percentage points" in (
        reproduction.caption(grid)
    )


def test_captions_name_the_reference_of_each_column(rounds: Rounds) -> None:
    runs = rounds(CC, data="cifar100") + rounds(CC, data="cars196")
    assert "from batch=32 (in cifar100/vgg16) and batch=16 (in cars196/vgg16) in" in (
        reproduction.caption(named(grids(runs), "table2"))
    )


def test_markdown_has_numbers_bold_and_marks(rounds: Rounds) -> None:
    cam = [97.60, 97.75, 97.62, 97.79, 97.58]
    grid = named(grids(ablation(rounds, cam)), "table4")
    lines = reproduction.to_markdown(grid).splitlines()
    table = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines[2:]]
    assert table[0] == ["loss", "mnist/vgg16 published", "mnist/vgg16 measured"]
    assert set("".join(table[1])) == set("-:")
    assert [row[:2] for row in table[2:]] == [
        ["ce", "97.43"],
        ["ce+cam", "97.66 ± 0.02"],
        ["cc", "98.32 ± 0.08"],
    ]
    assert re.fullmatch(r"97\.46 ± 0\.14 \(97\.\d\d to 97\.\d\d\)\\\*", table[2][2])
    assert re.fullmatch(r"\*\*98\.32 ± 0\.08 \(98\.\d\d to 98\.\d\d\)\*\*", table[4][2])
    assert len({len(line) for line in lines[2:]}) == 1  # aligned in the source, too


def test_one_round_is_a_bare_number_and_none_a_dash(rounds: Rounds) -> None:
    _, lines = reproduction.texts(named(grids(rounds([98.0])), "table4"))
    assert [[text.text for text in line] for line in lines] == [
        ["ce", "97.43", "–"],
        ["ce+cam", "97.66 ± 0.02", "–"],
        ["cc", "98.32 ± 0.08", "98.00"],
    ]


def test_table3_is_a_line_a_column(rounds: Rounds) -> None:
    runs = rounds([98.24, 98.40]) + rounds([95.0], data="digits", backbone="convnet")
    headers, lines = reproduction.texts(named(grids(runs), "table3"))
    assert {len(line) for line in lines} == {len(headers)}
    mnist, digits = [[text.text for text in line] for line in lines]
    one_sided = scipy_stats.ttest_1samp([98.24, 98.40], 98.22, alternative="greater").pvalue
    assert mnist[0] == "mnist/vgg16"
    assert mnist[3:7] == ["98.22", f"{one_sided:.2g}", f"{2 * one_sided:.2g}", "0.0039"]
    assert digits == ["digits/convnet", "–", "95.00", *["–"] * 6]


def test_figure3_shows_ratios_and_no_published_numbers(rounds: Rounds) -> None:
    runs = rounds([98.0], hidden_features=2, evaluation={"feature_ratio": 0.0123})
    headers, lines = reproduction.texts(grids(runs)[0])
    assert headers == [("", "loss"), ("mnist/vgg16", "measured"), ("mnist/vgg16", "feature ratio")]
    assert [text.text for text in lines[1]] == ["cc", "98.00", "0.0123"]
    assert "feature ratio" in reproduction.caption(grids(runs)[0])


STRANGE = "folder:a_b|c&d\n#1 $x^2$ {50%} ~e\\f *g* <h>"


def unescaped(text: str, specials: str) -> str:
    """Characters of ``specials`` that no backslash stands before."""
    return re.sub(rf"\\.|[^{re.escape(specials)}]", "", text)


def test_markdown_escapes_names(rounds: Rounds) -> None:
    grid = grids(rounds([98.0], data=STRANGE))[0]
    lines = reproduction.to_markdown(grid).splitlines()
    header = lines[2]
    assert r"folder:a\_b\|c\&d \#1 \$x^2\$ {50%} \~e\\f \*g\* \<h\>/vgg16 measured" in header
    assert {len(unescaped(line, "|")) for line in lines[2:]} == {4}  # three columns in every line


def test_latex_escapes_names(rounds: Rounds) -> None:
    grid = grids(rounds([98.0], data=STRANGE))[0]
    text = reproduction.to_latex(grid)
    assert (
        r"folder:a\_b\textbar{}c\&d \#1 \$x\textasciicircum{}2\$ \{50\%\} \textasciitilde{}e"
        r"\textbackslash{}f *g* \textless{}h\textgreater{}/vgg16"
    ) in text


def test_latex_is_a_whole_table(rounds: Rounds) -> None:
    cam = [97.60, 97.75, 97.62, 97.79, 97.58]
    runs = ablation(rounds, cam) + ablation(rounds, cam, data="cifar100")
    text = reproduction.to_latex(named(grids(runs), "table4"))
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert r"\begin{tabular}{lrrrr}" in text
    assert rows[0] == (
        r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{mnist/vgg16} & "
        r"\multicolumn{2}{c}{cifar100/vgg16} \\"
    )
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in body
    assert [row.count("&") for row in rows[1:]] == [4, 4, 4, 4]
    assert rows[-1].startswith(r"cc & 98.32 $\pm$ 0.08 & \textbf{98.32 $\pm$ 0.08 (98.")
    assert rows[2].count("$^{*}$") == 2
    assert "95 \\% bootstrap" in text
    assert text.isascii()
    assert unescaped(text.partition(r"\caption")[2].partition(r"\label")[0], "%#&_") == ""
    for opened, closed in ("{}", "()"):
        assert text.count(opened) == text.count(closed)


def test_csv_has_a_line_a_cell_in_full_precision(rounds: Rounds) -> None:
    runs = rounds(CC, epochs=5, train_limit=100)
    runs += rounds(CE, loss="ce", epochs=5, train_limit=100)
    grid = next(grid for grid in grids(runs) if grid.table.name == "table4")
    lines = {line["row"]: line for line in read_csv(reproduction.to_csv(grid))}
    assert list(lines) == ["ce", "ce+cam", "cc"]
    ce, cam, cc = lines.values()
    assert ce["column"] == "mnist/vgg16"
    assert ce["departures"] == "epochs=5;train_limit=100"
    assert (float(ce["published_mean"]), ce["published_margin"]) == (97.43, "")
    assert float(cc["published_margin"]) == 0.08
    assert float(ce["p_paired"]) == pytest.approx(scipy_stats.ttest_rel(CE, CC).pvalue, rel=1e-9)
    assert float(ce["mean"]) == pytest.approx(sum(CE) / 5, rel=1e-15)
    assert (cam["rounds"], cam["mean"], cam["low"], cam["p_holm"]) == ("0", "", "", "")
    assert (cc["rounds"], cc["difference"], cc["baseline_mean"]) == ("5", "", "")


def test_csv_keeps_strange_names(rounds: Rounds) -> None:
    grid = grids(rounds([98.0], data='folder:a,b"c'))[0]
    assert read_csv(reproduction.to_csv(grid))[0]["column"] == 'folder:a,b"c/vgg16'


def test_csv_of_table3_has_the_papers_test(rounds: Rounds) -> None:
    line = read_csv(reproduction.to_csv(named(grids(rounds(CC)), "table3")))[0]
    expected = scipy_stats.ttest_1samp(CC, 98.22, alternative="greater").pvalue
    assert float(line["baseline_mean"]) == 98.22
    assert float(line["p_baseline_one_sided"]) == pytest.approx(expected, rel=1e-9)


def test_each_grid_is_three_files(rounds: Rounds, tmp_path: Path) -> None:
    found = grids(rounds(CC, learning_rate=0.05))
    paths = reproduction.write(found, tmp_path)
    assert [path.name for path in paths[:3]] == [
        "table1-learning_rate-0.05.md",
        "table1-learning_rate-0.05.tex",
        "table1-learning_rate-0.05.csv",
    ]
    assert sorted(paths) == sorted((tmp_path / "tables").iterdir())
    assert len(paths) == 3 * len(found) == 15
    forms = (reproduction.to_markdown, reproduction.to_latex, reproduction.to_csv)
    assert [path.read_text() for path in paths[:3]] == [form(found[0]) for form in forms]


def test_a_file_in_the_place_of_the_folder_is_refused(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(InputError, match="is not a folder"):
        reproduction.write(grids(rounds(CC)), tmp_path)


def test_a_grid_compares_where_there_is_something_beside(rounds: Rounds) -> None:
    digits = {"data": "digits", "backbone": "convnet"}
    cc = rounds([98.0], loss="cc", **digits)
    names = ("table1", "table2", "table3", "table4", "table5")
    assert {grid.table.name: grid.compares for grid in grids(cc)} == dict.fromkeys(names, False)
    both = grids(cc + rounds([97.0], loss="ce", **digits))
    assert {grid.table.name for grid in both if grid.compares} == {"table1", "table4"}
    published = grids(rounds([98.0], loss="cc"))  # but not with this batch size, in table 2
    assert [grid.table.name for grid in published if not grid.compares] == ["table2"]
