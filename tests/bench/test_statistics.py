"""Statistics against SciPy, statsmodels and exact arithmetic."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from ccloss.bench.statistics import (
    AccuracyMargin,
    ErrorEstimate,
    accuracy_margin,
    holm,
    margin_p_range,
    mean_test,
    one_sample_p,
    power,
    rank_correlation,
)
from ccloss.errors import InputError

ALTERNATIVES = ["two-sided", "greater", "less"]

accuracies = st.lists(st.floats(0, 100), min_size=1, max_size=20)


def draws(seed, *sizes):
    random = np.random.default_rng(seed)
    return [np.round(random.normal(90, 1, size), 4) for size in sizes]


def test_accuracy_is_printed_as_in_the_paper():
    assert str(accuracy_margin([97.64, 97.66, 97.68])) == "97.66 ± 0.02"
    assert str(accuracy_margin([97.66])) == "97.66"
    assert accuracy_margin([90.0, 90.0, 96.0]) == AccuracyMargin(92.0, 4.0, 3)


@given(accuracies)
def test_margin_agrees_with_exact_arithmetic(values):
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    found = accuracy_margin(values)
    assert math.isclose(found.mean, mean, rel_tol=1e-12, abs_tol=1e-12)
    margin = max(abs(value - mean) for value in exact)
    assert math.isclose(found.margin, margin, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("values", [[], [90.0, math.nan], [math.inf], [[1.0], [2.0]]])
def test_values_must_be_finite_numbers(values):
    with pytest.raises(InputError, match="values"):
        accuracy_margin(values)


def test_import_loads_no_scipy():
    code = "import sys, ccloss.bench.statistics; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- test of a mean ------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [3, 5, 30])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_mean_test_agrees_with_scipy(rounds, confidence):
    (values,) = draws(rounds, rounds)
    found = mean_test(values - 90)
    expected = scipy.stats.ttest_1samp(values - 90, 0.0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval(confidence) == pytest.approx(
        expected.confidence_interval(confidence), rel=1e-9
    )
    assert (found.method, found.freedom) == ("paired", rounds - 1)


def test_half_an_image_is_added_to_the_variance():
    values = [0.2, 0.2, 0.4]
    found = mean_test(values, resolution=0.2)
    assert found.error == pytest.approx(math.sqrt((np.var(values, ddof=1) + 0.01) / 3))
    assert found.p_value > mean_test(values).p_value


def test_the_larger_error_estimate_is_used():
    values = [0.1, 0.3, 0.2, 0.5]
    variance = float(np.var(values, ddof=1))
    assert mean_test(values, model=ErrorEstimate(variance / 2, 20)) == mean_test(values)
    found = mean_test(values, model=ErrorEstimate(4 * variance, 20))
    assert (found.method, found.freedom) == ("blocked", 20)
    assert found.error == pytest.approx(2 * mean_test(values).error)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7], [0.2] * 5, [0.3 - 0.2, 0.2 - 0.1, 0.1]])
def test_few_or_equal_rounds_are_not_tested(values):
    assert mean_test(values, resolution=0.2) is None
    assert one_sample_p(values, 0.0) is None


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_one_sample_p_agrees_with_scipy(alternative):
    (values,) = draws(7, 5)
    expected = scipy.stats.ttest_1samp(values, 89.5, alternative=alternative).pvalue
    assert one_sample_p(values, 89.5, alternative) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("p_values", [[], [0.3], [0.04, 0.01, 0.03, 0.005], [0.02] * 4, [0, 1]])
def test_holm_agrees_with_statsmodels(p_values):
    found = holm(p_values)
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert found == pytest.approx(list(expected))


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_holm_rejects_values_outside_0_to_1(value):
    with pytest.raises(InputError, match=r"p_values\[1\]"):
        holm([0.5, value])


@pytest.mark.parametrize("size", [2, 5, 30])
def test_rank_correlation_agrees_with_scipy(size):
    a, b = draws(size, size, size)
    b[0] = b[-1]  # a tie
    if size == 2:
        assert rank_correlation(a, b) is None
    else:
        assert rank_correlation(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_rank_correlation_needs_pairs():
    with pytest.raises(InputError, match="a has 2 values and b 3"):
        rank_correlation([1, 2], [1, 2, 3])


# ---- power ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [3, 5, 30])
@pytest.mark.parametrize("effect", [0.5, 1.0, 3.0])
def test_power_agrees_with_statsmodels(rounds, effect):
    # One tail: a difference that is found with the wrong sign does not count.
    expected = TTestPower().power(effect, rounds, 0.025, alternative="larger")
    assert power(2 * effect, 2.0, rounds, 0.05) == pytest.approx(expected, abs=1e-9)


def test_power_grows_with_the_rounds():
    found = [power(0.05, 0.07, rounds, 0.05 / 13) for rounds in range(3, 31)]
    assert found == sorted(found)
    assert found[-1] < 0.8
    assert power(1.0, 0.1, 2, 0.05) == 0.0
    assert power(100.0, 0.1, 30, 0.05) == pytest.approx(1.0)


# ---- what a published "mean ± margin" leaves possible --------------------------------------------


def deviations(seed, rounds, count):
    """(count, rounds) deviations with sum 0 and largest size 1, some close to the corners."""
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((count, rounds)) ** random.choice([1, 3, 9], (count, 1))
    drawn[::3] = np.sign(drawn[::3]) + 0.01 * drawn[::3].clip(-1, 1)
    drawn -= drawn.mean(1, keepdims=True)
    drawn[np.abs(drawn).max(1) < 1e-6, :2] = [1, -1]
    drawn -= drawn.mean(1, keepdims=True)
    return drawn / np.abs(drawn).max(1, keepdims=True)


def corners(rounds):
    """The deviations with the least and the most spread."""
    least = np.array([1.0] + [-1 / (rounds - 1)] * (rounds - 1))
    half = rounds // 2
    most = np.array([1.0] * half + [-1.0] * half + [0.0] * (rounds % 2))
    return least, most


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("rounds", [3, 4, 5, 9])
@pytest.mark.parametrize("constant", [78.18, 78.23, 78.3])
def test_possible_rounds_have_possible_p_values(rounds, alternative, constant):
    mean, margin = 78.23, 0.07
    low, high = margin_p_range(
        mean, margin, constant, rounds=rounds, rounding=0, alternative=alternative
    )
    shapes = np.vstack([deviations(rounds, rounds, 2000), *corners(rounds)])
    p_values = scipy.stats.ttest_1samp(
        mean + margin * shapes, constant, axis=1, alternative=alternative
    ).pvalue
    assert np.all((low - 1e-9 <= p_values) & (p_values <= high + 1e-9))
    assert (p_values[-2:].min(), p_values[-2:].max()) == pytest.approx((low, high), rel=1e-6)


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


def test_without_margin_only_the_limits_are_possible():
    assert margin_p_range(78.23, 0, 78.18, rounding=0) == (0, 0)
    assert margin_p_range(78.23, 0, 78.23, rounding=0) == (1, 1)
    assert margin_p_range(78.23, 0, 78.23) == (0, 1)


# Mean and margin of CC-Loss (Table 1), the constant that sec. 3.7 names, the p-value of Table 3.

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
        # Two digits are printed.
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
