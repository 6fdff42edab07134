"""The numbers against slow arithmetic."""

import itertools
import math
import statistics
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from ccloss.bench.statistics import (
    AccuracyMargin,
    Interval,
    accuracy_margin,
    bootstrap_interval,
    holm,
    margin_p_range,
    one_sample_test,
    paired_test,
    rank_correlation,
    smallest_difference,
    welch_test,
    wilcoxon_test,
)
from ccloss.errors import InputError

accuracies = st.lists(st.floats(0, 100), min_size=1, max_size=20)


def test_paper_style_text():
    assert str(accuracy_margin([97.64, 97.66, 97.68])) == "97.66 ± 0.02"


def test_one_round_claims_no_margin():
    assert str(accuracy_margin([97.66])) == "97.66"
    assert accuracy_margin([97.66]) == AccuracyMargin(97.66, 0.0, 1)


def test_margin_is_the_largest_deviation_not_the_half_range():
    mean, margin, rounds = accuracy_margin([90.0, 90.0, 96.0])
    assert (mean, margin, rounds) == (92.0, 4.0, 3)


def test_takes_an_array():
    assert accuracy_margin(np.array([1.0, 3.0], np.float32)) == AccuracyMargin(2.0, 1.0, 2)


@given(accuracies)
def test_agrees_with_exact_arithmetic(values):
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    margin = max(abs(value - mean) for value in exact)
    found = accuracy_margin(values)
    assert math.isclose(found.mean, mean, rel_tol=1e-12, abs_tol=1e-12)
    assert math.isclose(found.margin, margin, rel_tol=1e-9, abs_tol=1e-12)
    assert found.rounds == len(values)


@given(accuracies)
def test_every_round_lies_within_the_margin_and_one_on_it(values):
    mean, margin, _ = accuracy_margin(values)
    deviations = [abs(value - mean) for value in values]
    assert all(deviation <= margin for deviation in deviations)
    assert margin in deviations


@given(accuracies, st.randoms(use_true_random=False))
def test_order_of_rounds_does_not_matter(values, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert accuracy_margin(shuffled) == accuracy_margin(values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_finite(value):
    with pytest.raises(InputError, match=r"values\[1\] is .*leave out"):
        accuracy_margin([90.0, value])


def test_refuses_nothing():
    with pytest.raises(InputError, match="values is empty"):
        accuracy_margin([])


def test_import_waits_with_what_takes_seconds():
    code = (
        "import sys, ccloss.bench.statistics\n"
        "print({'scipy', 'statsmodels', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Tests between losses. Rounds are drawn with the four decimals of a long run's accuracy.

ALTERNATIVES = ["two-sided", "greater", "less"]


def draws(seed, *sizes):
    random = np.random.default_rng(seed)
    return [np.round(random.normal(75, random.uniform(0.05, 2), size), 4) for size in sizes]


# Counts over 10 000 test images: they tie, and their differences are not exact in binary.
counted = st.integers(7000, 8000).map(lambda count: count / 100)
paired = st.lists(st.tuples(counted, counted), min_size=2, max_size=8)


def columns(pairs):
    return [list(column) for column in zip(*pairs, strict=True)]


def student_sf(t, freedom):
    """P(T > t) by integrating the density, without SciPy's t."""
    constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    constant /= math.sqrt(freedom * math.pi)
    # x = tan(angle) sqrt(f) makes the tail a finite stretch of cos^(f - 1).
    start = math.atan(t / math.sqrt(freedom))
    area, _ = integrate.quad(
        lambda angle: math.cos(angle) ** (freedom - 1), start, math.pi / 2, epsabs=0, epsrel=1e-12
    )
    return constant * math.sqrt(freedom) * area


def sample_sd(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def test_slow_tail_is_students():
    assert student_sf(1.3, 4.5) == pytest.approx(scipy.stats.t.sf(1.3, 4.5), rel=1e-10)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("seed", range(5))
def test_one_sample_agrees_with_scipy_and_by_hand(seed, alternative):
    (values,) = draws(seed, 3 + seed)
    constant = 74.8
    found = one_sample_test(values, constant, alternative=alternative)
    theirs = scipy.stats.ttest_1samp(values, constant, alternative=alternative)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-10)
    effect = (sum(values) / len(values) - constant) / sample_sd(values)
    t = effect * math.sqrt(len(values))
    upper = student_sf(t, len(values) - 1)
    by_hand = {"greater": upper, "less": 1 - upper, "two-sided": 2 * min(upper, 1 - upper)}
    assert found.p_value == pytest.approx(by_hand[alternative], rel=1e-10)
    assert found.effect == pytest.approx(effect, rel=1e-10)
    assert found.difference == pytest.approx(values.mean() - constant, abs=1e-10)
    assert found.rounds == (len(values), 0)
    assert found.alternative == alternative


@pytest.mark.parametrize("seed", range(5))
def test_paired_agrees_with_scipy_and_by_hand(seed):
    a, b = draws(seed, 3 + seed, 3 + seed)
    found = paired_test(a, b)
    assert found.p_value == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, rel=1e-10)
    differences = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    effect = sum(differences) / len(differences) / sample_sd(differences)
    t = abs(effect) * math.sqrt(len(a))
    assert found.p_value == pytest.approx(2 * student_sf(t, len(a) - 1), rel=1e-10)
    assert found.effect == pytest.approx(effect, rel=1e-10)
    assert found.difference == pytest.approx(sum(differences) / len(a), abs=1e-10)
    assert found.rounds == (len(a), len(a))
    assert found.test == "paired t"


@pytest.mark.parametrize("seed", range(5))
def test_welch_agrees_with_scipy_and_by_hand(seed):
    a, b = draws(seed, 3 + seed, 2 + 2 * seed)
    found = welch_test(a, b)
    theirs = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue
    assert found.p_value == pytest.approx(theirs, rel=1e-10)
    difference = sum(a) / len(a) - sum(b) / len(b)
    errors = [sample_sd(side) ** 2 / len(side) for side in (a, b)]
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(side) - 1) for error, side in zip(errors, (a, b), strict=True)
    )
    t = abs(difference) / math.sqrt(sum(errors))
    assert found.p_value == pytest.approx(2 * student_sf(t, freedom), rel=1e-9)
    assert found.difference == pytest.approx(difference, abs=1e-10)
    assert found.rounds == (len(a), len(b))


@pytest.mark.parametrize("seed", range(5))
def test_hedges_g_by_hand_and_near_statsmodels_approximation(seed):
    a, b = draws(seed, 3 + seed, 5)
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(sum((len(side) - 1) * sample_sd(side) ** 2 for side in (a, b)) / freedom)
    exact = math.gamma(freedom / 2) / (math.sqrt(freedom / 2) * math.gamma((freedom - 1) / 2))
    found = welch_test(a, b).effect
    assert found == pytest.approx(exact * (a.mean() - b.mean()) / pooled, rel=1e-10)
    sides = (a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))
    assert found == pytest.approx(float(effectsize_smd(*sides)[0]), rel=0.01)


def test_hedges_correction_lasts_to_many_rounds():
    a, b = draws(0, 400, 400)  # math.gamma overflows at 172
    g = welch_test(a, b).effect
    assert g == pytest.approx(
        (1 - 3 / (4 * 798 - 1))
        * (a.mean() - b.mean())
        / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2),
        rel=1e-5,
    )


def signed_rank_by_hand(a, b):
    """P-value by trying every sign, and the rank-biserial correlation; in exact numbers."""
    found = [round(x * 10**4) - round(y * 10**4) for x, y in zip(a, b, strict=True)]
    found = [value for value in found if value]
    sizes = sorted(abs(value) for value in found)
    ranks = [
        Fraction(2 * sizes.index(abs(value)) + 1 + sizes.count(abs(value)), 2) for value in found
    ]
    balance = sum(rank if value > 0 else -rank for rank, value in zip(ranks, found, strict=True))
    as_far = [
        abs(sum(sign * rank for sign, rank in zip(signs, ranks, strict=True))) >= abs(balance)
        for signs in itertools.product((-1, 1), repeat=len(ranks))
    ]
    return sum(as_far) / len(as_far), float(balance / sum(ranks)) if ranks else None


@given(paired)
@settings(max_examples=40, deadline=None)
def test_wilcoxon_tries_every_sign(pairs):
    a, b = columns(pairs)
    found = wilcoxon_test(a, b)
    p_value, effect = signed_rank_by_hand(a, b)
    assert found.p_value == pytest.approx(p_value, rel=1e-10)
    assert found.effect == (None if effect is None else pytest.approx(effect, abs=1e-12))
    assert found.test == "Wilcoxon signed rank, exact"


@pytest.mark.parametrize("size", [5, 20, 50])
def test_wilcoxon_without_ties_agrees_with_scipy(size):
    a, b = draws(size, size, size)
    assert len(set(np.round(np.abs(a - b), 9))) == size
    found = wilcoxon_test(a, b)
    theirs = scipy.stats.wilcoxon(a, b, method="exact").pvalue
    assert found.p_value == pytest.approx(theirs, rel=1e-10)
    assert found.test == "Wilcoxon signed rank, exact"


@pytest.mark.parametrize("steps", [np.arange(11) % 3 + 1.0, np.arange(1.0, 52)])
def test_wilcoxon_is_approximate_where_there_are_too_many_signs(steps):
    differences = np.where(np.arange(len(steps)) % 4, steps, -steps)
    found = wilcoxon_test(70 + differences, np.full(len(steps), 70.0))
    assert found.test == "Wilcoxon signed rank, approximate"
    ranks = scipy.stats.rankdata(steps)
    # The signs are fair coins: their ranked sum has mean 0 and the squared ranks as variance.
    z = abs(np.sum(ranks * np.sign(differences))) / math.sqrt(np.sum(ranks**2))
    assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-10)


def test_five_rounds_cannot_reach_one_in_twenty_by_signed_ranks():
    b = [70.0, 70.1, 70.2, 70.3, 70.4]
    assert wilcoxon_test([90.1, 90.3, 90.6, 90.9, 91.3], b).p_value == 0.0625
    assert wilcoxon_test([value + 0.1 for value in b], b).p_value == 0.0625  # all of them tie
    assert wilcoxon_test([*range(80, 86)], [70.0] * 6).p_value == 0.03125


def test_signed_ranks_tie_what_binary_tells_apart():
    a, b = [0.3, 0.2, 0.9, 0.4], [0.2, 0.3, 0.4, 0.3]
    assert 0.3 - 0.2 != 0.4 - 0.3
    assert wilcoxon_test(a, b).effect == pytest.approx(0.6)  # 2 + 2 + 4 - 2 of 10


@pytest.mark.parametrize("test", [paired_test, wilcoxon_test, welch_test])
@given(pairs=paired)
@settings(max_examples=25, deadline=None)
def test_swapping_sides_turns_the_difference_and_keeps_the_p_value(test, pairs):
    a, b = columns(pairs)
    there, back = test(a, b), test(b, a)
    assert back.p_value == pytest.approx(there.p_value, rel=1e-9)
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)
    assert (back.effect is None) == (there.effect is None)
    if there.effect is not None:
        assert back.effect == pytest.approx(-there.effect, rel=1e-9, abs=1e-12)
    if test is not welch_test:  # the same resamples serve both ways
        turned = (-back.interval.high, -back.interval.low)
        assert turned == pytest.approx(there.interval, abs=1e-9)


@pytest.mark.parametrize("test", [paired_test, wilcoxon_test, welch_test])
@given(pairs=paired, shift=st.integers(-60, 20))
@settings(max_examples=25, deadline=None)
def test_where_both_lie_does_not_matter(test, pairs, shift):
    a, b = columns(pairs)
    here = test(a, b)
    there = test([value + shift for value in a], [value + shift for value in b])
    assert there.p_value == pytest.approx(here.p_value, rel=1e-9)
    assert there.difference == pytest.approx(here.difference, abs=1e-10)
    assert there.interval == pytest.approx(here.interval, abs=1e-9)
    assert (there.effect is None) == (here.effect is None)
    assert (there.effect or 0) == pytest.approx(here.effect or 0, rel=1e-9, abs=1e-10)


@given(paired)
@settings(max_examples=25, deadline=None)
def test_paired_is_the_one_sample_test_of_the_differences(pairs):
    a, b = columns(pairs)
    differences = [x - y for x, y in pairs]
    one, two = one_sample_test(differences, 0), paired_test(a, b)
    assert one[1:4] == two[1:4]


@given(st.lists(counted, min_size=2, max_size=8), counted)
@settings(max_examples=25, deadline=None)
def test_one_sided_p_values_add_up(values, constant):
    greater, less, both = (
        one_sample_test(values, constant, alternative=alternative).p_value
        for alternative in ("greater", "less", "two-sided")
    )
    assert greater + less == pytest.approx(1)
    assert both == pytest.approx(2 * min(greater, less), rel=1e-9)


# Where nothing spreads

TENTHS = [0.3, 0.2, 0.7, 0.9]  # their differences from TENTHS + 0.1 are unequal in the last bits


@pytest.mark.parametrize("test", [paired_test, welch_test])
def test_no_difference_at_all_has_p_one(test):
    found = test([70.1] * 5, [70.1] * 5)
    assert found[1:5] == (0.0, Interval(0.0, 0.0), 1.0, None)


def test_equal_rounds_that_spread_have_p_one():
    assert paired_test(TENTHS, TENTHS)[1:5] == (0.0, Interval(0.0, 0.0), 1.0, None)
    assert wilcoxon_test(TENTHS, TENTHS)[1:5] == (0.0, Interval(0.0, 0.0), 1.0, None)
    assert welch_test(TENTHS, TENTHS)[3:5] == (1.0, 0.0)


def test_the_same_difference_every_time_is_the_limit():
    a = [value + 0.1 for value in TENTHS]
    assert len({x - y for x, y in zip(a, TENTHS, strict=True)}) > 1
    found = paired_test(a, TENTHS)
    assert (found.p_value, found.effect) == (0.0, None)
    assert found.difference == pytest.approx(0.1)
    assert found.interval == (found.difference, found.difference)
    assert welch_test([70.1] * 3, [70.0] * 4)[3:5] == (0.0, None)


@pytest.mark.parametrize(
    ("value", "expected"), [(70.1, (0.0, 0.0, 1.0)), (70, (1, 0.5, 0.5)), (69.9, (0.0, 1.0, 0.0))]
)
def test_constant_rounds_against_a_constant(value, expected):
    found = [
        one_sample_test([value] * 5, 70, alternative=alternative) for alternative in ALTERNATIVES
    ]
    assert tuple(one.p_value for one in found) == expected
    assert [one.effect for one in found] == [None] * 3


def test_rounding_alone_is_no_difference():
    assert 0.1 + 0.2 != 0.3
    assert one_sample_test([0.1 + 0.2] * 3, 0.3).p_value == 1.0


def test_welch_with_one_constant_side_is_a_one_sample_test():
    a = [70.1, 70.4, 70.2]
    found = welch_test(a, [70.1] * 5)
    assert found.p_value == pytest.approx(one_sample_test(a, 70.1).p_value, rel=1e-10)
    assert found.interval == pytest.approx(one_sample_test(a, 70.1).interval, abs=1e-9)


@given(st.integers(1, 1000), st.integers(-1000, 1000))
@settings(max_examples=25, deadline=None)
def test_p_goes_to_its_limit_as_spread_does(step, shift):
    tiny = one_sample_test([70 + shift, 70 + shift + step * 1e-9], 70).p_value
    limit = one_sample_test([70 + shift] * 2, 70).p_value
    assert tiny == pytest.approx(limit, abs=1e-5) or shift == 0


# Refusals

TESTS_OF_PAIRS = [paired_test, wilcoxon_test, rank_correlation]


@pytest.mark.parametrize("test", [*TESTS_OF_PAIRS, welch_test])
@pytest.mark.parametrize("side", ["a", "b"])
def test_tests_refuse_one_round_and_what_is_not_finite(test, side):
    good = {"a": [1.0, 2.0], "b": [2.0, 5.0]}
    with pytest.raises(InputError, match=rf"^{side} has 1 round; .* 2 or more: run more --rounds$"):
        test(**{**good, side: [1.0]})
    with pytest.raises(InputError, match=rf"^{side} has 0 rounds; "):
        test(**{**good, side: []})
    for value in (math.nan, math.inf, None):
        with pytest.raises(InputError, match=rf"^{side}\[1\] is (nan|inf); leave out"):
            test(**{**good, side: [1.0, value]})
    with pytest.raises(InputError, match=rf"^{side} has shape \(2, 1\); give one row"):
        test(**{**good, side: [[1.0], [2.0]]})


@pytest.mark.parametrize("test", TESTS_OF_PAIRS)
def test_pairs_need_both_sides(test):
    with pytest.raises(InputError, match=r"^a has 3 values and b 2; .*welch_test$"):
        test([1, 2, 3], [1, 2])


@pytest.mark.parametrize("test", [lambda values: one_sample_test(values, 1), bootstrap_interval])
def test_one_sample_refuses_one_round(test):
    with pytest.raises(InputError, match=r"^values has 1 round; a test needs 2 or more"):
        test([1.0])


def test_one_sample_refuses_bad_arguments():
    with pytest.raises(InputError, match=r"^constant is nan; give a finite number"):
        one_sample_test([1, 2], math.nan)
    with pytest.raises(InputError, match=r"^alternative is 'larger'; give one of two-sided, gr"):
        one_sample_test([1, 2], 1, alternative="larger")


# Holm

p_values = st.lists(st.floats(0, 1), max_size=12)


def holm_by_hand(raw):
    """Each p-value by the most demanding step up to it."""
    return [
        max(min(1, p * sum(other >= p for other in raw)) for p in raw if p <= own) for own in raw
    ]


@given(p_values)
@settings(deadline=None)
def test_holm_by_hand_raises_p_values_and_keeps_their_order(raw):
    adjusted = holm(raw)
    assert adjusted == pytest.approx(holm_by_hand(raw), rel=1e-10)
    assert all(p <= one <= 1 for one, p in zip(adjusted, raw, strict=True))
    in_order = [adjusted[place] for place in np.argsort(raw, kind="stable")]
    assert in_order == sorted(in_order)


def test_holm_agrees_with_statsmodels_in_the_order_given():
    assert holm([0.04, 0.001, 0.03, 0.5]) == pytest.approx((0.09, 0.004, 0.09, 0.5))
    rng = np.random.default_rng(4)
    for tests in (1, 2, 7, 40):
        raw = np.round(rng.random(tests) ** 4, 2)  # small ones, and ties among them
        assert holm(raw) == pytest.approx(multipletests(raw, method="holm")[1], abs=1e-10)


def test_holm_of_nothing_and_of_one():
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, None])
def test_holm_refuses_what_is_no_p_value(value):
    with pytest.raises(InputError, match=r"^p_values\[1\] is"):
        holm([0.1, value])


# Bootstrap

# Sums of these are exact in binary, and so are their means where a power of two is averaged.
EXACT = [75.25, 75.5, 74.75, 76.125, 75.0, 75.375, 74.5, 77.0]


def bca_by_hand(values, confidence, seed):
    """Efron's interval of a mean, from the same resamples, in exact numbers."""
    n = len(values)
    mean = sum(values) / n
    places = np.random.default_rng(seed).integers(0, n, (9999, n))
    means = np.sort(np.asarray(values)[places].mean(1))
    normal = statistics.NormalDist()
    below = (np.sum(means < mean) + np.sum(means <= mean)) / 2 / len(means)
    bias = normal.inv_cdf(float(below))
    third = sum((value - mean) ** 3 for value in values)
    acceleration = third / (6 * sum((value - mean) ** 2 for value in values) ** 1.5)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(tail)
        place = normal.cdf(bias + z / (1 - acceleration * z)) * (len(means) - 1)
        low = math.floor(place)
        ends.append(means[low] + (place - low) * (means[low + 1] - means[low]))
    return tuple(ends)


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize(("confidence", "seed"), [(0.95, 0), (0.8, 3)])
def test_bootstrap_agrees_with_scipy_and_by_hand(size, confidence, seed):
    values = EXACT[:size]
    found = bootstrap_interval(values, confidence=confidence, seed=seed)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, rng=np.random.default_rng(seed)
    ).confidence_interval
    assert found == pytest.approx(tuple(theirs), abs=1e-10)
    assert found == pytest.approx(bca_by_hand(values, confidence, seed), abs=1e-10)


def test_welch_interval_agrees_with_scipy():
    a, b = EXACT[:4], EXACT
    theirs = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), rng=np.random.default_rng(0)
    ).confidence_interval
    assert welch_test(a, b).interval == pytest.approx(tuple(theirs), abs=1e-10)


def test_intervals_of_tests_are_those_of_their_differences():
    a, b = draws(4, 6, 6)
    expected = bootstrap_interval([x - y for x, y in zip(a, b, strict=True)])
    assert paired_test(a, b).interval == expected
    assert wilcoxon_test(a, b).interval == expected
    assert one_sample_test(a, 75).interval == bootstrap_interval(a - 75)


@given(st.lists(counted, min_size=2, max_size=8), st.integers(-50, 20))
@settings(max_examples=25, deadline=None)
def test_interval_holds_the_mean_and_moves_with_the_rounds(values, shift):
    low, high = bootstrap_interval(values)
    assert min(values) - 1e-9 <= low <= statistics.fmean(values) + 1e-9
    assert statistics.fmean(values) - 1e-9 <= high <= max(values) + 1e-9
    moved = bootstrap_interval([value + shift for value in values])
    assert moved == pytest.approx((low + shift, high + shift), abs=1e-9)


def test_interval_is_seeded_and_wider_with_confidence():
    (values,) = draws(0, 7)
    assert bootstrap_interval(values) == bootstrap_interval(values, seed=0)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    narrow, wide = bootstrap_interval(values, confidence=0.5), bootstrap_interval(values)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_of_constant_rounds_is_a_point():
    low, high = bootstrap_interval([70.1] * 7)
    assert low == high == pytest.approx(70.1, abs=1e-12)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_interval_refuses_a_confidence_out_of_range(confidence):
    with pytest.raises(InputError, match=r"^confidence is .*; give a number between 0 and 1"):
        bootstrap_interval([1, 2], confidence=confidence)


# Smallest difference


def power_by_hand(shift, freedom, alpha):
    """P(noncentral T > its critical value): the normal's chance, over the chi-squared below."""
    critical = scipy.stats.t.isf(alpha / 2, freedom)

    def density(chi):  # of sqrt(chi squared)
        log = (freedom - 1) * math.log(chi) - chi**2 / 2
        log -= (freedom / 2 - 1) * math.log(2) + math.lgamma(freedom / 2)
        return math.exp(log)

    def part(chi):
        return density(chi) * scipy.stats.norm.sf(critical * chi / math.sqrt(freedom) - shift)

    middle = math.sqrt(freedom)
    ends = max(middle - 9, 1e-300), middle + 9
    return integrate.quad(part, *ends, points=[middle], epsabs=1e-13, limit=200)[0]


SIZES = [(2, 0.8, 0.05), (3, 0.95, 0.01), (5, 0.8, 0.05), (5, 0.99, 0.01), (40, 0.9, 0.001)]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("rounds", "power", "alpha"), SIZES)
def test_power_at_the_smallest_difference(rounds, power, alpha, paired):
    spread = 0.3
    found = smallest_difference(spread, rounds, power=power, alpha=alpha, paired=paired)
    freedom = rounds - 1 if paired else 2 * rounds - 2
    shift = found / spread * math.sqrt(rounds if paired else rounds / 2)
    assert power_by_hand(shift, freedom, alpha) == pytest.approx(power, abs=1e-10)
    critical = scipy.stats.t.isf(alpha / 2, freedom)
    assert scipy.stats.nct.sf(critical, freedom, shift) == pytest.approx(power, abs=1e-10)


@pytest.mark.parametrize(("paired", "solver"), [(True, TTestPower()), (False, TTestIndPower())])
def test_smallest_difference_agrees_with_statsmodels_solver(paired, solver):
    rounds = {"nobs" if paired else "nobs1": 5}
    theirs = solver.solve_power(alpha=0.05, power=0.8, **rounds)
    assert smallest_difference(1, 5, paired=paired) == pytest.approx(theirs, rel=1e-6)


def test_smallest_difference_of_five_rounds():
    assert smallest_difference(0.1, 5) == pytest.approx(0.1682, abs=1e-4)
    assert smallest_difference(0.1, 5, paired=False) == pytest.approx(0.2024, abs=1e-4)


@given(st.integers(2, 60), st.floats(0.01, 5), st.booleans())
@settings(max_examples=20, deadline=None)
def test_more_rounds_show_smaller_differences(rounds, spread, paired):
    here = smallest_difference(spread, rounds, paired=paired)
    assert 0 < smallest_difference(spread, rounds + 1, paired=paired) < here
    assert here < smallest_difference(spread, rounds, power=0.81, paired=paired)
    assert here < smallest_difference(spread, rounds, alpha=0.049, paired=paired)
    twice = smallest_difference(2 * spread, rounds, paired=paired)
    assert twice == pytest.approx(2 * here, rel=1e-9)


def test_any_difference_shows_where_nothing_spreads():
    assert smallest_difference(0, 5) == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"spread": -1}, "^spread is -1; a standard deviation is 0 or more"),
        ({"spread": math.nan}, "^spread is nan; give a finite number"),
        ({"rounds": 1}, "^rounds is 1; a spread needs 2 or more"),
        ({"power": 1}, "^power is 1; give a number between 0 and 1"),
        ({"alpha": 0}, "^alpha is 0; give a number between 0 and 1"),
        ({"power": 0.05}, "^power is 0.05 and alpha 0.05; ask for a power above alpha"),
    ],
)
def test_smallest_difference_refuses(changed, says):
    with pytest.raises(InputError, match=says):
        smallest_difference(**{"spread": 1.0, "rounds": 5, **changed})


# Rank correlation


def rank_correlation_by_hand(a, b):
    """Rho, and the share of orders of b as strongly related; in whole numbers until the end."""

    def doubled(values):
        n = len(values)
        return [
            2 * sum(y < x for y in values) + sum(y == x for y in values) + 1 - (n + 1)
            for x in values
        ]

    first, second = doubled(a), doubled(b)
    scale = math.sqrt(sum(x * x for x in first) * sum(y * y for y in second))
    together = sum(x * y for x, y in zip(first, second, strict=True))
    as_strong = [
        abs(sum(x * y for x, y in zip(first, order, strict=True))) >= abs(together)
        for order in itertools.permutations(second)
    ]
    return together / scale, sum(as_strong) / len(as_strong)


small = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=6)


@given(small)
@example([(0, 2), (1, 2), (2, 1), (0, 0), (1, 0)])  # rho is 0, and so no order is weaker
@settings(max_examples=40, deadline=None)
def test_rank_correlation_tries_every_order(pairs):
    a, b = columns(pairs)
    found = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found == (None, None)
    else:
        assert found == pytest.approx(rank_correlation_by_hand(a, b), abs=1e-10)
        assert rank_correlation(b, a) == pytest.approx(found, abs=1e-10)
        assert rank_correlation([-x for x in a], b).rho == pytest.approx(-found.rho)


@pytest.mark.parametrize("size", [8, 30])
def test_rank_correlation_of_many_agrees_with_scipy_and_by_hand(size):
    a, b = draws(size, size, size)
    found = rank_correlation(a, b)
    assert found == pytest.approx(tuple(scipy.stats.spearmanr(a, b)), rel=1e-10)
    steps = scipy.stats.rankdata(a) - scipy.stats.rankdata(b)
    rho = 1 - 6 * np.sum(steps**2) / (size * (size**2 - 1))
    assert found.rho == pytest.approx(rho, rel=1e-10)
    t = abs(rho) * math.sqrt((size - 2) / (1 - rho**2))
    assert found.p_value == pytest.approx(2 * student_sf(t, size - 2), rel=1e-9)


def test_perfect_orders_of_few_prove_little():
    assert rank_correlation([1, 2, 3], [1, 3, 9]) == pytest.approx((1, 1 / 3))
    assert rank_correlation([1, 2, 3, 4, 5], [9, 8, 7, 6, 1]) == pytest.approx((-1, 2 / 120))


# What a published "mean ± margin" leaves possible


def deviations(seed, rounds, count):
    """(count, rounds) that sum to 0 and whose largest is 1 in size; some close to the corners."""
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((count, rounds)) ** random.choice([1, 3, 9], (count, 1))
    drawn[::3] = np.sign(drawn[::3]) + 0.01 * drawn[::3].clip(-1, 1)
    drawn -= drawn.mean(1, keepdims=True)
    drawn[np.abs(drawn).max(1) < 1e-6, :2] = [1, -1]
    drawn -= drawn.mean(1, keepdims=True)
    return drawn / np.abs(drawn).max(1, keepdims=True)


def corners(rounds):
    """The deviations that spread least and most."""
    least = np.array([1.0] + [-1 / (rounds - 1)] * (rounds - 1))
    half = rounds // 2
    most = np.array([1.0] * half + [-1.0] * half + [0.0] * (rounds % 2))
    return least, most


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("rounds", [2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("constant", [78.18, 78.23, 78.3])
def test_possible_rounds_have_possible_p_values_and_the_ends_are_attained(
    rounds, alternative, constant
):
    mean, margin = 78.23, 0.07
    low, high = margin_p_range(
        mean, margin, constant, rounds=rounds, rounding=0, alternative=alternative
    )
    values = mean + margin * deviations(rounds, rounds, 2000)
    p_values = scipy.stats.ttest_1samp(values, constant, axis=1, alternative=alternative).pvalue
    assert np.all((low - 1e-9 <= p_values) & (p_values <= high + 1e-9))
    ends = [
        one_sample_test(mean + margin * corner, constant, alternative=alternative).p_value
        for corner in corners(rounds)
    ]
    assert (min(ends), max(ends)) == pytest.approx((low, high), rel=1e-8)


@pytest.mark.parametrize("rounds", [3, 4, 5])
def test_an_optimiser_finds_no_wider_spread(rounds):
    for sign in (1, -1):
        best = min(
            (
                optimize.minimize(
                    lambda rest, sign=sign: sign * (1 + np.sum(rest**2)),
                    start[1:],
                    bounds=[(-1, 1)] * (rounds - 1),
                    constraints={"type": "eq", "fun": lambda rest: 1 + np.sum(rest)},
                    method="SLSQP",
                )
                for start in deviations(1, rounds, 20)
            ),
            key=lambda found: found.fun if found.success else math.inf,
        )
        corner = corners(rounds)[0 if sign == 1 else 1]
        assert sign * best.fun == pytest.approx(np.sum(corner**2), abs=1e-5)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("constant", [78.18, 78.225, 78.3])
def test_rounding_widens_to_the_corners_of_what_was_printed(constant, alternative):
    mean, margin, half = 78.23, 0.07, 0.005
    low, high = margin_p_range(mean, margin, constant, alternative=alternative)
    random = np.random.default_rng(5)
    off = random.uniform(-half, half, (3, 4000, 1))
    off[:, ::4] = half * random.choice([-1, 0, 1], (3, 1000, 1))
    shapes = np.vstack([deviations(2, 5, 2000), np.repeat(corners(5), 1000, axis=0)])
    shapes = random.permutation(shapes)
    values = mean + off[0] - (constant + off[1]) + (margin + off[2]) * shapes
    p_values = scipy.stats.ttest_1samp(values, 0, axis=1, alternative=alternative).pvalue
    assert np.all((low - 1e-9 <= p_values) & (p_values <= high + 1e-9))
    assert p_values.min() == pytest.approx(low, rel=1e-2, abs=1e-4)
    assert p_values.max() == pytest.approx(high, rel=1e-2)


@given(
    counted,
    st.integers(0, 50).map(lambda margin: margin / 100),
    counted,
    st.integers(2, 9),
    st.sampled_from(ALTERNATIVES),
)
def test_range_is_a_range_and_rounding_only_widens_it(mean, margin, constant, rounds, alternative):
    wanted = {"rounds": rounds, "alternative": alternative}
    word = margin_p_range(mean, margin, constant, rounding=0, **wanted)
    wide = margin_p_range(mean, margin, constant, **wanted)
    assert 0 <= wide.low <= word.low <= word.high <= wide.high <= 1


def test_no_margin_leaves_the_limits():
    assert margin_p_range(78.23, 0, 78.18, rounding=0) == (0, 0)
    assert margin_p_range(78.23, 0, 78.23, rounding=0) == (1, 1)
    assert margin_p_range(78.18, 0, 78.23, rounding=0, alternative="greater") == (1, 1)
    assert margin_p_range(78.23, 0, 78.23) == (0, 1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mean": math.nan}, "^mean is nan; give a finite number"),
        ({"margin": -0.1}, "^margin is -0.1; it is a distance: 0 or more"),
        ({"constant": math.inf}, "^constant is inf; give a finite number"),
        ({"rounding": -1}, "^rounding is -1; it is a distance: 0 or more"),
        ({"rounds": 1}, "^rounds is 1; a spread needs 2 or more"),
        ({"alternative": "both"}, "^alternative is 'both'; give one of two-sided, greater, less"),
    ],
)
def test_range_refuses(changed, says):
    with pytest.raises(InputError, match=says):
        margin_p_range(**{"mean": 78.23, "margin": 0.07, "constant": 78.18, **changed})


# Against the paper's own numbers. Table 1 gives CC's mean ± margin and the number that sec. 3.7
# names as the constant (FICAL's; A-softmax's for VGG16 on Cars-196); Table 3 the p-value.

TABLE_3 = {
    "VGG16, MNIST": (98.32, 0.08, 98.22, 3.9e-3),
    "VGG16, CIFAR-100": (75.49, 0.15, 74.98, 4.7e-4),
    "VGG16, Cars-196": (91.46, 0.09, 90.02, 2.1e-7),
    "ResNet18, MNIST": (98.52, 0.09, 98.40, 3.3e-3),
    "ResNet18, CIFAR-100": (78.23, 0.07, 78.18, 3.8e-3),
    "ResNet18, Cars-196": (88.41, 0.06, 87.38, 4.3e-7),
}


def entries_that_fit(**wanted):
    fitting = set()
    for entry, (mean, margin, constant, published) in TABLE_3.items():
        low, high = margin_p_range(mean, margin, constant, **wanted)
        # Two digits were printed: what rounds to them fits.
        half = 0.05 * 10 ** math.floor(math.log10(published))
        if low - half <= published <= high + half:
            fitting.add(entry)
    return fitting


@pytest.mark.parametrize("rounding", [0, 0.005])
def test_table_3_is_one_sided_but_for_an_entry_that_fits_no_rounds(rounding):
    fitting = entries_that_fit(alternative="greater", rounding=rounding)
    assert set(TABLE_3) - fitting == {"ResNet18, CIFAR-100"}


@pytest.mark.parametrize("rounding", [0, 0.005])
def test_table_3_is_not_two_sided(rounding):
    fitting = entries_that_fit(alternative="two-sided", rounding=rounding)
    assert fitting == {"VGG16, CIFAR-100", "ResNet18, Cars-196"}


def test_the_entry_that_does_not_fit():
    mean, margin, constant, published = TABLE_3["ResNet18, CIFAR-100"]
    one_sided = margin_p_range(mean, margin, constant, rounding=0, alternative="greater")
    assert one_sided == pytest.approx((0.0230, 0.0927), abs=5e-5)
    widest = margin_p_range(mean, margin, constant, alternative="greater")
    assert widest == pytest.approx((0.0105, 0.149), abs=5e-4)
    assert widest.low > 2 * published  # the paper's 0.005 is out of reach as well


def test_the_best_other_number_was_not_always_the_constant():
    # Table 1's MC Loss: above FICAL for ResNet18 on MNIST, and above CC for VGG16 on Cars-196.
    mnist = margin_p_range(98.52, 0.09, 98.45, alternative="greater")
    assert mnist.low > 5e-3  # "all the p-values are below 5e-3" does not hold against it
    cars = margin_p_range(91.46, 0.09, 92.80, alternative="greater")
    assert cars.low > 0.999
