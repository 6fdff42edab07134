"""Verdicts: expected ones follow from SciPy's own tests, or from numbers made for them."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from ccloss.bench.experiment import Experiment
from ccloss.bench.paper import CLAIMS, Column
from ccloss.bench.report import claims
from ccloss.bench.report.claims import Verdict, judge
from ccloss.errors import InputError
from ccloss.training.records import Record

Rounds = Callable[..., list[Record]]

MNIST = Column("mnist", "vgg16")
CC = [98.30, 98.36, 98.31, 98.40, 98.25]
CE = [97.40, 97.52, 97.44, 97.60, 97.33]
ALIKE = [98.20, 98.40, 98.25, 98.45, 98.28]
"""Not told from CC in five rounds."""

OTHERS = ("focal", "a-softmax", "mc", "ical", "fical")

PROTOCOL: dict[str, Any] = {"data": "mnist", "backbone": "vgg16", "precision": "fp32"}


@pytest.fixture
def rounds(record: Callable[..., Record]) -> Rounds:
    """Runs of one cell, with seeds from 1 on, or those that are given.

    ``each`` has a value of a metric for every round.
    """

    def make(
        accuracies: Sequence[float],
        seeds: Sequence[int] | None = None,
        each: dict[str, Sequence[Any]] | None = None,
        **fields: Any,
    ) -> list[Record]:
        experiment = Experiment(**{**PROTOCOL, **fields}).resolve(channels=1)
        changes = experiment.to_dict()
        del changes["seed"]
        metrics = each or {}
        return [
            record(
                experiment.method,
                (seeds or range(1, len(accuracies) + 1))[place],
                accuracy,
                **changes,
                **{name: values[place] for name, values in metrics.items()},
            )
            for place, accuracy in enumerate(accuracies)
        ]

    return make


def of(name: str, records: Sequence[Record]) -> Verdict:
    return next(verdict for verdict in judge(records) if verdict.claim.name == name)


# ---- every record --------------------------------------------------------------------------------


def test_without_runs_no_claim_was_run() -> None:
    verdicts = judge([])
    assert [verdict.claim for verdict in verdicts] == list(CLAIMS)
    assert {verdict.verdict for verdict in verdicts} == {"not run"}
    assert all(verdict.comparisons == () for verdict in verdicts)
    assert verdicts[0].note == "No column has runs of cc and of ce."


def test_runs_that_no_claim_is_about_are_passed_over(rounds: Rounds) -> None:
    runs = rounds(CC, momentum=0.5) + rounds(CE, loss="ce", momentum=0.5)
    assert {verdict.verdict for verdict in judge(runs)} == {"not run"}


def test_two_runs_of_one_cell_and_seed_are_refused(rounds: Rounds) -> None:
    with pytest.raises(InputError, match=r"^cell mnist/vgg16/cc of table1 has two runs with"):
        judge(rounds(CC) + rounds([98.0]))


# ---- higher accuracy -----------------------------------------------------------------------------


def test_more_accurate_is_supported(rounds: Rounds) -> None:
    found = of("cc-over-ce", rounds(CC) + rounds(CE, loss="ce"))
    assert found.verdict == "supported"
    (only,) = found.comparisons
    assert (only.column, only.row, only.other, only.seeds) == (MNIST, "cc", "ce", (1, 2, 3, 4, 5))
    assert only.values == pytest.approx([0.90, 0.84, 0.87, 0.80, 0.92])
    assert only.mean == pytest.approx(0.866)
    assert only.p == only.p_holm == pytest.approx(scipy_stats.ttest_rel(CC, CE).pvalue)
    assert only.interval is not None
    assert 0.80 <= only.interval.low < 0.866 < only.interval.high <= 0.9201
    assert (only.lacks, only.dropped) == ("", ())
    assert found.note.startswith("The one comparison holds, by 0.866 points over 5 rounds")


def test_less_accurate_is_contradicted(rounds: Rounds) -> None:
    found = of("cc-over-ce", rounds(CE) + rounds(CC, loss="ce"))
    assert found.verdict == "contradicted"
    assert "Significantly the other way: cc against ce on mnist/vgg16 -0.866" in found.note
    assert "The one comparison does not hold" in found.note


def test_a_difference_not_told_from_none_is_not_enough(rounds: Rounds) -> None:
    found = of("cc-over-ce", rounds(CC) + rounds(ALIKE, loss="ce"))
    (only,) = found.comparisons
    p = scipy_stats.ttest_rel(CC, ALIKE).pvalue
    assert p > 0.05
    assert (found.verdict, only.p) == ("not enough data", pytest.approx(p))
    # What would have shown, by the noncentral t itself.
    spread = scipy_stats.tstd([a - b for a, b in zip(CC, ALIKE, strict=True)])
    assert only.smallest is not None
    shift = only.smallest / spread * 5**0.5
    cut = scipy_stats.t.ppf(0.975, 4)
    assert scipy_stats.nct.sf(cut, 4, shift) == pytest.approx(0.8, abs=1e-6)
    assert f"enough to show {only.smallest:.2g})" in found.note


@pytest.mark.parametrize(
    ("seeds", "lacks"),
    [
        ([6, 7, 8, 9, 10], "cc and ce share no seed"),
        ([5, 6, 7, 8, 9], "cc and ce share only 1 seed"),
    ],
)
def test_rounds_of_other_seeds_are_not_enough(rounds: Rounds, seeds: list[int], lacks: str) -> None:
    found = of("cc-over-ce", rounds(CC) + rounds(CE, seeds=seeds, loss="ce"))
    (only,) = found.comparisons
    assert (found.verdict, only.lacks) == ("not enough data", lacks)
    assert (only.p, only.p_holm, only.interval, only.smallest) == (None, None, None, None)
    assert f"Missing: {lacks} on mnist/vgg16" in found.note


def test_only_shared_seeds_are_compared(rounds: Rounds) -> None:
    found = of("cc-over-ce", rounds(CC) + rounds([0.0, *CE], [9, 1, 2, 3, 4, 5], loss="ce"))
    assert (found.verdict, found.comparisons[0].seeds) == ("supported", (1, 2, 3, 4, 5))


def test_the_row_or_its_others_alone_are_not_run(rounds: Rounds) -> None:
    assert of("cc-over-ce", rounds(CC)).verdict == "not run"
    assert of("cc-over-ce", rounds(CE, loss="ce")).verdict == "not run"
    # CC-Loss on CIFAR-100 is also batch 32 and lambda 1, which says nothing of other ones.
    runs = rounds(CC, data="cifar100")
    assert {of(name, runs).verdict for name in ("batch-32", "lambda-1")} == {"not run"}


def test_a_row_that_was_not_run_is_named(rounds: Rounds) -> None:
    runs = rounds(CC)
    for loss in OTHERS[:-1]:
        runs += rounds(CE, loss=loss)
    found = of("cc-over-others", runs)
    assert found.verdict == "not enough data"
    assert [each.holds for each in found.comparisons] == [True] * 4 + [False]
    assert "4 of 5 comparisons hold" in found.note
    assert "Missing: fical was not run on mnist/vgg16" in found.note


def test_every_other_row_supports(rounds: Rounds) -> None:
    runs = rounds(CC)
    for loss in OTHERS:
        runs += rounds(CE, loss=loss)
    found = of("cc-over-others", runs)
    assert found.verdict == "supported"
    assert tuple(each.other for each in found.comparisons) == OTHERS
    raw = scipy_stats.ttest_rel(CC, CE).pvalue
    assert [each.p_holm for each in found.comparisons] == pytest.approx([5 * raw] * 5)


def test_adjustment_can_take_a_finding_away(rounds: Rounds) -> None:
    close = [98.20, 98.34, 98.20, 98.39, 98.16]
    raw = scipy_stats.ttest_rel(CC, close).pvalue
    assert raw < 0.05 < 2 * raw
    alone = rounds(CC, loss="ce+cam") + rounds(close, loss="ce")
    assert of("attention-helps", alone).verdict == "supported"
    other = {"data": "cifar100"}
    twice = alone + rounds(CC, loss="ce+cam", **other) + rounds(close, loss="ce", **other)
    found = of("attention-helps", twice)
    assert found.verdict == "not enough data"
    assert [each.p_holm for each in found.comparisons] == pytest.approx([2 * raw] * 2)


def test_one_comparison_the_other_way_contradicts_whatever_holds(rounds: Rounds) -> None:
    runs = rounds(CC) + rounds(CE, loss="focal") + rounds([c + 1 for c in CC], loss="fical")
    found = of("cc-over-others", runs)
    assert found.verdict == "contradicted"
    assert [each.other for each in found.comparisons if each.fails] == ["fical"]
    assert [each.other for each in found.comparisons if each.holds] == ["focal"]


def test_constant_differences_are_certain(rounds: Rounds) -> None:
    higher, lower = rounds([98.3, 98.2]), rounds([98.2, 98.1], loss="ce")
    found = of("cc-over-ce", higher + lower)
    assert (found.verdict, found.comparisons[0].p) == ("supported", 0.0)
    assert found.comparisons[0].smallest is None


def test_equal_rounds_tell_nothing(rounds: Rounds) -> None:
    found = of("cc-over-ce", rounds(CC) + rounds(CC, loss="ce"))
    (only,) = found.comparisons
    assert (found.verdict, only.p, only.holds, only.fails) == ("not enough data", 1.0, False, False)
    assert "cc against ce on mnist/vgg16 +0 (adjusted p 1, 5 rounds)" in found.note


def test_mc_on_cars_with_vgg16_is_excepted(rounds: Rounds) -> None:
    cars = {"data": "cars196"}
    runs = rounds(CE, **cars) + rounds(CC, loss="mc", **cars)
    assert of("cc-over-others", runs).verdict == "not run"
    found = of("cc-over-others", runs + rounds([90.0] * 5, loss="ical", **cars))
    assert [each.other for each in found.comparisons] == ["focal", "a-softmax", "ical", "fical"]
    resnet = {**cars, "backbone": "resnet18"}
    runs = rounds(CE, **resnet) + rounds(CC, loss="mc", **resnet)
    assert of("cc-over-others", runs).verdict == "contradicted"


def test_claims_of_batch_sizes_keep_to_their_data(rounds: Rounds) -> None:
    runs = []
    for size in (8, 16, 32, 64, 128):
        for data in ("cifar100", "cars196"):
            runs += rounds(CC if size == 32 else CE, data=data, batch_size=size)
    cifar, cars = of("batch-32", runs), of("batch-16", runs)
    assert (cifar.verdict, cars.verdict) == ("supported", "contradicted")
    assert {str(each.column) for each in cifar.comparisons} == {"cifar100/vgg16"}
    assert [each.other for each in cifar.comparisons] == [
        "batch=8",
        "batch=16",
        "batch=64",
        "batch=128",
    ]
    assert {str(each.column) for each in cars.comparisons} == {"cars196/vgg16"}


def test_lambda_is_judged_where_others_were_run(rounds: Rounds) -> None:
    runs = rounds(CC) + rounds(CC, data="cifar100")
    for weight in (0, 0.5, 1.5, 2):
        runs += rounds(CE, loss_options={"weight": weight})
    found = of("lambda-1", runs)
    assert found.verdict == "supported"
    assert {each.column for each in found.comparisons} == {MNIST}


def test_attention_is_judged_apart_from_the_loss(rounds: Rounds) -> None:
    runs = rounds(CC) + rounds(CE, loss="ce+cam") + rounds(CE, loss="ce")
    assert of("cc-over-attention", runs).verdict == "supported"
    assert of("attention-helps", runs).verdict == "not enough data"


# ---- scales and data -----------------------------------------------------------------------------


def test_a_reduced_scale_is_said(rounds: Rounds) -> None:
    scale = {"epochs": 5, "train_limit": 10_000}
    found = of("cc-over-ce", rounds(CC, **scale) + rounds(CE, loss="ce", **scale))
    assert found.note.endswith(
        "Measured at 5 epochs instead of 300; 10,000 training images instead of all, "
        "so it speaks of that scale only."
    )


def test_the_full_protocol_needs_no_caveat(rounds: Rounds) -> None:
    assert "Measured" not in of("cc-over-ce", rounds(CC) + rounds(CE, loss="ce")).note


def test_scales_are_not_mixed(rounds: Rounds) -> None:
    assert of("cc-over-ce", rounds(CC) + rounds(CE, loss="ce", epochs=5)).verdict == "not run"
    runs = rounds(CC) + rounds(CE, loss="ce")
    runs += rounds(CE, epochs=5) + rounds(CC, loss="ce", epochs=5)
    found = of("cc-over-ce", runs)
    assert found.verdict == "contradicted"
    assert [(each.departures, each.holds, each.fails) for each in found.comparisons] == [
        ((), True, False),
        ((("epochs", 5),), False, True),
    ]
    assert found.note.endswith(
        "Measured at the full protocol on mnist/vgg16 and at 5 epochs instead of 300 on "
        "mnist/vgg16, so it speaks of those scales only."
    )


def test_data_that_the_paper_does_not_have_is_said(rounds: Rounds) -> None:
    digits = {"data": "digits", "backbone": "convnet"}
    found = of("cc-over-ce", rounds(CC, **digits) + rounds(CE, loss="ce", **digits))
    assert found.verdict == "supported"
    assert found.note.endswith("Not of the paper's table: digits/convnet.")


def test_long_lists_are_cut(rounds: Rounds) -> None:
    found = of("cc-over-others", rounds(CC) + rounds(CE, loss="focal"))
    assert found.note.endswith(
        "Missing: a-softmax was not run on mnist/vgg16, mc was not run on mnist/vgg16, "
        "ical was not run on mnist/vgg16, 1 more."
    )


# ---- above published -----------------------------------------------------------------------------


def test_above_published_is_the_papers_test_at_its_level(rounds: Rounds) -> None:
    expected = scipy_stats.ttest_1samp(CC, 98.22, alternative="greater").pvalue
    assert 5e-3 < expected < 0.05  # below the usual level, which is not the paper's
    found = of("p-values", rounds(CC))
    (only,) = found.comparisons
    assert (found.verdict, only.other, only.level) == ("not enough data", "published", 5e-3)
    assert only.p == pytest.approx(expected)
    assert only.values == pytest.approx([0.08, 0.14, 0.09, 0.18, 0.03])


def test_far_above_published_is_supported(rounds: Rounds) -> None:
    assert of("p-values", rounds([a + 0.1 for a in CC])).verdict == "supported"


def test_far_below_published_is_contradicted(rounds: Rounds) -> None:
    found = of("p-values", rounds(CE))
    (only,) = found.comparisons
    below = scipy_stats.ttest_1samp(CE, 98.22, alternative="less").pvalue
    assert (found.verdict, only.p_against) == ("contradicted", pytest.approx(below))
    assert only.p == pytest.approx(1 - below)


def test_a_little_below_published_is_not_enough(rounds: Rounds) -> None:
    below = [98.1, 98.3, 98.0, 98.2, 98.4]
    found = of("p-values", rounds(below))
    assert found.comparisons[0].mean == pytest.approx(-0.02)
    assert found.verdict == "not enough data"


def test_smallest_difference_above_published_is_one_sided(rounds: Rounds) -> None:
    (only,) = of("p-values", rounds(CC)).comparisons
    assert only.smallest is not None
    shift = only.smallest / scipy_stats.tstd(CC) * 5**0.5
    cut = scipy_stats.t.ppf(1 - 5e-3, 4)
    assert scipy_stats.nct.sf(cut, 4, shift) == pytest.approx(0.8, abs=1e-6)


def test_one_round_against_published_is_not_enough(rounds: Rounds) -> None:
    found = of("p-values", rounds([99.0]))
    assert (found.verdict, found.comparisons[0].lacks) == ("not enough data", "only 1 round")


def test_data_without_a_baseline_are_not_run(rounds: Rounds) -> None:
    found = of("p-values", rounds(CC, data="digits", backbone="convnet"))
    assert (found.verdict, found.note) == (
        "not run",
        "No run of cc in a column that the claim is about.",
    )


# ---- features ------------------------------------------------------------------------------------

TIGHT = [0.10, 0.12, 0.11, 0.09, 0.13]
LOOSE = [0.40, 0.47, 0.43, 0.38, 0.45]


@pytest.mark.parametrize(
    ("name", "fields"), [("features", {}), ("features-of-width-2", {"hidden_features": 2})]
)
def test_tighter_features(rounds: Rounds, name: str, fields: dict[str, Any]) -> None:
    def runs(cc: Sequence[float], ce: Sequence[float]) -> list[Record]:
        return rounds(CE, each={"feature_ratio": cc}, **fields) + rounds(
            CC, each={"feature_ratio": ce}, loss="ce", **fields
        )

    found = of(name, runs(TIGHT, LOOSE))
    (only,) = found.comparisons
    assert found.verdict == "supported"
    assert only.values == pytest.approx([0.30, 0.35, 0.32, 0.29, 0.32])
    assert only.p == pytest.approx(scipy_stats.ttest_rel(LOOSE, TIGHT).pvalue)
    assert "by 0.316 of the ratio" in found.note
    assert of(name, runs(LOOSE, TIGHT)).verdict == "contradicted"
    mixed = [0.2, 0.05, 0.16, 0.03, 0.12]
    assert scipy_stats.ttest_rel(mixed, TIGHT).pvalue > 0.05
    assert of(name, runs(TIGHT, mixed)).verdict == "not enough data"


def test_width_is_what_tells_the_two_claims_apart(rounds: Rounds) -> None:
    runs = rounds(CC, hidden_features=2) + rounds(CE, loss="ce", hidden_features=2)
    assert of("features", runs).verdict == "not run"
    assert of("cc-over-ce", runs).verdict == "not run"


def test_rounds_without_a_ratio_are_left_out_and_said(rounds: Rounds) -> None:
    runs = rounds(CC, each={"feature_ratio": [0.10, None, 0.11, 0.09, 0.13]})
    runs += rounds(CE, each={"feature_ratio": [0.40, 0.47, 0.43, None, 0.45]}, loss="ce")
    found = of("features", runs)
    (only,) = found.comparisons
    assert (found.verdict, only.seeds, only.dropped) == ("supported", (1, 3, 5), (2, 4))
    assert "Left out, as the feature ratio is undefined: 2 rounds." in found.note


@pytest.mark.parametrize(
    ("ratios", "lacks"),
    [
        ([None] * 5, "0 rounds with the feature ratio defined"),
        ([None, None, 0.1, None, None], "1 round with the feature ratio defined"),
    ],
)
def test_too_few_ratios_are_not_enough(
    rounds: Rounds, ratios: list[float | None], lacks: str
) -> None:
    runs = rounds(CC, each={"feature_ratio": ratios})
    runs += rounds(CE, each={"feature_ratio": LOOSE}, loss="ce")
    found = of("features", runs)
    assert (found.verdict, found.comparisons[0].lacks) == ("not enough data", lacks)
    assert f"Missing: {lacks} on mnist/vgg16" in found.note


# ---- harder classes ------------------------------------------------------------------------------

ACCURACIES = [99.0, 98.0, 97.0, 96.0, 95.0, 94.0]
"""Of six classes, from the easiest to the hardest."""

RISING = [[10, 11, 12, 13, 14, 15], [10, 12, 11, 13, 14, 15], [11, 10, 12, 13, 15, 14]]
"""Channels by class: rho is 1 - 6 sum d^2 / (6 * 35): 1, 1 - 12/210, 1 - 24/210."""

RHOS = [1.0, 1 - 12 / 210, 1 - 24 / 210]


def classes(rounds: Rounds, channels: Sequence[Any], accuracies: Any = None) -> list[Record]:
    each = {
        "class_accuracy": [accuracies or ACCURACIES] * len(channels),
        "class_channels": channels,
    }
    return rounds([96.5] * len(channels), each=each)


def test_harder_classes_with_more_channels_support(rounds: Rounds) -> None:
    found = of("harder-classes", classes(rounds, RISING))
    (only,) = found.comparisons
    assert (found.verdict, only.other) == ("supported", "")
    assert only.values == pytest.approx(RHOS)
    assert only.p == pytest.approx(scipy_stats.ttest_1samp(RHOS, 0).pvalue)


def test_harder_classes_with_fewer_channels_contradict(rounds: Rounds) -> None:
    found = of("harder-classes", classes(rounds, [line[::-1] for line in RISING]))
    assert found.verdict == "contradicted"
    assert "Significantly the other way: cc on mnist/vgg16 -0.943" in found.note


def test_channels_now_up_now_down_are_not_enough(rounds: Rounds) -> None:
    found = of("harder-classes", classes(rounds, [RISING[0], RISING[0][::-1], RISING[1]]))
    assert found.verdict == "not enough data"
    assert not found.comparisons[0].lacks


def test_classes_without_images_are_left_out(rounds: Rounds) -> None:
    accuracies = [*ACCURACIES, None]
    found = of("harder-classes", classes(rounds, [[*line, 0] for line in RISING], accuracies))
    assert found.comparisons[0].values == pytest.approx(RHOS)
    channels = [[*line[:5], None] for line in RISING]
    found = of("harder-classes", classes(rounds, channels))
    # Without the last class: the third run has 11 10 12 13 15, one exchange, as the second.
    assert found.comparisons[0].values == pytest.approx([1.0, 1 - 12 / 120, 1 - 12 / 120])


@pytest.mark.parametrize("undefined", [None, [7] * 6, [None] * 6, [3, *[None] * 5]])
def test_runs_without_a_correlation_are_left_out_and_said(rounds: Rounds, undefined: Any) -> None:
    found = of("harder-classes", classes(rounds, [*RISING, undefined]))
    (only,) = found.comparisons
    assert (found.verdict, only.seeds, only.dropped) == ("supported", (1, 2, 3), (4,))
    assert "Left out, as the rank correlation is undefined: 1 round." in found.note


def test_no_correlation_at_all_is_not_enough(rounds: Rounds) -> None:
    found = of("harder-classes", classes(rounds, [None, None]))
    assert found.verdict == "not enough data"
    assert found.comparisons[0].lacks == "0 rounds with the rank correlation defined"


# ---- the paper's own numbers ---------------------------------------------------------------------


def test_the_papers_numbers_that_do_not_fit() -> None:
    found = claims.published_inconsistencies()
    impossible = [line for line in found if line.startswith("Table 3 prints")]
    assert len(impossible) == 1
    # t between 0.04 sqrt(5) / 0.075 and 0.06 * 4 / 0.065, as in test_reproduction.
    ends = [scipy_stats.t.sf(t, 4) for t in (0.06 * 4 / 0.065, 0.04 * 5**0.5 / 0.075)]
    assert impossible[0] == (
        "Table 3 prints p = 0.0038 on cifar100/resnet18; Table 1's 78.23 ± 0.07 against 78.18 "
        f"allows {ends[0]:.2g} to {ends[1]:.2g} one-sided and {2 * ends[0]:.2g} to "
        f"{2 * ends[1]:.2g} two-sided."
    )
    assert [line for line in found if line.startswith("Sec. 3.3")] == [
        "Sec. 3.3 has CC-Loss 3.33 points above ce on cars196/vgg16, Table 1 3.44."
    ]
    assert [line for line in found if line.startswith("Table 1 has")] == [
        "Table 1 has mc at 92.80 on cars196/vgg16, above CC-Loss at 91.46 ± 0.09; "
        "Table 3 tests against 90.02 there."
    ]


def test_p_values_that_fit_one_sided_only_are_named() -> None:
    (found,) = [line for line in claims.published_inconsistencies() if "one-sided ones" in line]
    # Of each column: mean - baseline, margin, printed p. Two-sided, the smallest p possible has the
    # largest difference (0.01 more) and the smallest spread (margin - 0.005) * sqrt(5) / 4.
    columns = {
        "mnist/vgg16": (0.10, 0.08, 3.9e-3),
        "mnist/resnet18": (0.12, 0.09, 3.3e-3),
        "cifar100/vgg16": (0.51, 0.15, 4.7e-4),
        "cars196/vgg16": (1.44, 0.09, 2.1e-7),
        "cars196/resnet18": (1.03, 0.06, 4.3e-7),
    }
    for name, (difference, margin, printed) in columns.items():
        least = 2 * scipy_stats.t.sf((difference + 0.01) * 4 / (margin - 0.005), 4)
        assert (least > printed) == (name in found), name


# ---- files ---------------------------------------------------------------------------------------


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_markdown_is_a_line_a_claim_in_order(rounds: Rounds) -> None:
    data = "folder:a_b|c&d\n*e*"
    verdicts = judge(rounds(CC, data=data) + rounds(ALIKE, loss="ce", data=data))
    lines = claims.to_markdown(verdicts).splitlines()
    assert len(lines) == 2 + len(CLAIMS)
    assert len({len(line) for line in lines}) == 1
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}
    assert r"folder:a\_b\|c\&d \*e\*/vgg16" in lines[2]
    assert "**not enough data**" in lines[2]
    assert CLAIMS[-1].statement in lines[-1]
    assert "**not run**" in lines[4]


def test_csv_is_a_line_a_comparison(rounds: Rounds) -> None:
    runs = rounds(CC, epochs=5) + rounds(CE, loss="focal", epochs=5)
    lines = read_csv(claims.to_csv(judge(runs)))
    assert [line["verdict"] for line in lines if line["claim"] == "cc-over-ce"] == ["not run"]
    others = [line for line in lines if line["claim"] == "cc-over-others"]
    assert [line["other"] for line in others] == list(OTHERS)
    focal, softmax = others[:2]
    assert float(focal["p"]) == pytest.approx(scipy_stats.ttest_rel(CC, CE).pvalue, rel=1e-9)
    assert (focal["column"], focal["departures"]) == ("mnist/vgg16", "epochs=5")
    assert (focal["rounds"], focal["lacks"]) == ("5", "")
    assert (softmax["rounds"], softmax["p"], softmax["mean"]) == ("0", "", "")
    assert softmax["lacks"] == "a-softmax was not run"


def test_claims_are_two_files(rounds: Rounds, tmp_path: Path) -> None:
    verdicts = judge(rounds(CC) + rounds(CE, loss="ce"))
    paths = claims.write(verdicts, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "tables/claims.md",
        "tables/claims.csv",
    ]
    assert [path.read_text() for path in paths] == [
        claims.to_markdown(verdicts),
        claims.to_csv(verdicts),
    ]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(InputError, match="is not a folder"):
        claims.write(judge([]), tmp_path)
