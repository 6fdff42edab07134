"""Tests, intervals and power: arrays in, numbers out.

SciPy is imported where it is used because it takes a second to load.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccloss.errors import InputError

Alternative = Literal["two-sided", "greater", "less"]

Array = NDArray[np.float64]

CONFIDENCE = 0.95

POWER = 0.8
"""Chance with which a difference should be found (Cohen 1988)."""

MINIMUM_ROUNDS = 3
"""Fewer rounds are not tested: two rounds of equal, discrete differences give p = 0."""

EQUAL = 1e-9
"""Accuracies are counts over images: values that differ by less than this are equal."""


class AccuracyMargin(NamedTuple):
    """The paper's "accuracy ± margin".

    Attributes:
        mean: mean accuracy of the rounds, in %.
        margin: largest absolute deviation of a round from the mean, in percentage points.
        rounds: number of rounds.
    """

    mean: float
    margin: float
    rounds: int

    def __str__(self) -> str:
        if self.rounds == 1:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {self.margin:.2f}"


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


class ErrorEstimate(NamedTuple):
    """The error variance of one value, from a model of several rows.

    Attributes:
        variance: residual variance.
        freedom: residual degrees of freedom.
    """

    variance: float
    freedom: int


class MeanTest(NamedTuple):
    """A t-test of whether a mean is zero.

    Attributes:
        mean: the estimate.
        error: its standard error.
        freedom: degrees of freedom of the error.
        method: ``paired`` if the error is that of the values, ``blocked`` if it is the model's.
    """

    mean: float
    error: float
    freedom: int
    method: Literal["paired", "blocked"]

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return _p_of_t(self.mean / self.error, self.freedom, "two-sided")

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The t interval of the mean."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        return Interval(self.mean - half, self.mean + half)


def accuracy_margin(values: Sequence[float]) -> AccuracyMargin:
    """Mean accuracy and the largest absolute deviation of a round from it (sec. 3.2).

    Args:
        values: (rounds,) accuracies, in %.

    Raises:
        InputError: there is no value, or one of them is not finite.
    """
    rounds = _array("values", values).tolist()
    mean = fmean(rounds)
    return AccuracyMargin(mean, max(abs(value - mean) for value in rounds), len(rounds))


def mean_test(
    values: Sequence[float], *, resolution: float = 0.0, model: ErrorEstimate | None = None
) -> MeanTest | None:
    """A t-test of the mean of some rounds against zero.

    Differences of accuracies are discrete. The square of half the difference that one image makes
    is added to the variance, so that a few equal differences do not look like a precise
    measurement.

    Args:
        values: (rounds,) differences.
        resolution: difference that one image makes; 0 for continuous values.
        model: error variance of one difference from a model of more rows. It is used where it
            exceeds the variance of the values, which keeps the test valid if rows spread unequally.

    Returns:
        ``None`` for fewer than three rounds, and for values that are all equal.

    Raises:
        InputError: there is no value, or one of them is not finite.
    """
    rounds = _array("values", values)
    if len(rounds) < MINIMUM_ROUNDS or np.ptp(rounds) < EQUAL:
        return None
    variance, freedom = float(np.var(rounds, ddof=1)), len(rounds) - 1
    method: Literal["paired", "blocked"] = "paired"
    if model is not None and model.variance > variance:
        variance, freedom, method = model.variance, model.freedom, "blocked"
    error = math.sqrt((variance + (resolution / 2) ** 2) / len(rounds))
    return MeanTest(fmean(rounds.tolist()), error, freedom, method)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95 % t interval of a mean; ``None`` below three rounds and without spread."""
    test = mean_test(values) if values else None
    return test and test.interval()


def one_sample_p(
    values: Sequence[float], constant: float, alternative: Alternative = "two-sided"
) -> float | None:
    """P-value of the paper's own test (sec. 3.7, Table 3): rounds against a published mean.

    The test is weak: it takes the published mean for an exact constant, and any difference in the
    protocol gives a small p-value. Compare rows that were both run with :func:`mean_test`.

    Args:
        values: (rounds,) accuracies, in %.
        constant: published mean accuracy, in %.
        alternative: ``greater`` asks whether the rounds are above the constant.

    Returns:
        ``None`` for fewer than three rounds, and for values that are all equal.
    """
    test = mean_test([value - constant for value in values])
    if test is None:
        return None
    return _p_of_t(test.mean / test.error, test.freedom, alternative)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted for the number of tests (Holm 1979), in the order given.

    Args:
        p_values: (tests,) p-values, each from 0 to 1; leave out tests that were not made.

    Raises:
        InputError: one of them is not from 0 to 1.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    for position, value in enumerate(raw):
        if not 0 <= value <= 1:
            raise InputError(f"p_values[{position}] is {value}; a p-value is from 0 to 1")
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    steps = np.arange(len(raw), 0, -1) * raw[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return tuple(adjusted.tolist())


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation of paired values; ``None`` if one side is constant.

    Raises:
        InputError: the numbers of values differ, or one of them is not finite.
    """
    first, second = _array("a", a), _array("b", b)
    if len(first) != len(second):
        raise InputError(f"a has {len(first)} values and b {len(second)}; give pairs")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def power(difference: float, spread: float, rounds: int, alpha: float) -> float:
    """Chance that a two-sided paired t-test finds a true difference, with its sign.

    Args:
        difference: true mean difference, positive.
        spread: standard deviation of the differences, positive.
        rounds: number of pairs.
        alpha: level of the test.
    """
    from scipy.special import nctdtr, stdtrit

    if rounds < MINIMUM_ROUNDS:
        return 0.0
    shift = math.sqrt(rounds) * difference / spread
    if shift > 30:  # the noncentral t distribution overflows
        return 1.0
    return 1 - float(nctdtr(rounds - 1, shift, stdtrit(rounds - 1, 1 - alpha / 2)))


def margin_p_range(
    mean: float,
    margin: float,
    constant: float,
    *,
    rounds: int = 5,
    rounding: float = 0.005,
    alternative: Alternative = "two-sided",
) -> Interval:
    """P-values of the one-sample test that a published "mean ± margin" leaves possible.

    The margin m is the largest absolute deviation of n rounds from their mean, so it bounds their
    standard deviation. The deviations sum to 0 and one of them is m. Their squares sum to the least
    where the others share the rest, m^2 n / (n - 1), and to the most where all are m or -m: m^2 n
    for even n, m^2 (n - 1) for odd n. A published p-value outside the range does not follow from
    the published numbers by this test.

    Args:
        mean: published mean accuracy, in %.
        margin: published margin, in percentage points.
        constant: the published mean that it is tested against, in %.
        rounds: number of rounds behind the mean.
        rounding: half a unit of the last printed decimal.
        alternative: as in :func:`one_sample_p`.

    Returns:
        The smallest and the largest p-value; rounds exist that attain each of them.
    """
    difference = mean - constant
    least = math.sqrt(rounds) / (rounds - 1)
    most = 1.0 if rounds % 2 else math.sqrt(rounds / (rounds - 1))
    spreads = max(margin - rounding, 0.0) * least, (margin + rounding) * most
    # t increases with the difference and is monotonic in the spread: its extremes are at corners.
    low = min(_t(difference - 2 * rounding, spread, rounds) for spread in spreads)
    high = max(_t(difference + 2 * rounding, spread, rounds) for spread in spreads)
    ends = [_p_of_t(t, rounds - 1, alternative) for t in (low, high)]
    if alternative == "two-sided" and low <= 0 <= high:
        ends.append(1.0)
    return Interval(min(ends), max(ends))


def _array(name: str, values: Sequence[float]) -> Array:
    """(values,) float64, at least one, all finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"{name} must be a list of numbers, got shape {array.shape}")
    for position, value in enumerate(array):
        if not math.isfinite(value):
            raise InputError(f"{name}[{position}] is {value}; leave out what did not finish")
    return array


def _t(difference: float, spread: float, rounds: int) -> float:
    if difference == 0:
        return 0.0
    if spread == 0:
        return math.copysign(math.inf, difference)
    return difference / (spread / math.sqrt(rounds))


def _p_of_t(t: float, freedom: float, alternative: Alternative) -> float:
    from scipy.special import stdtr

    if alternative == "two-sided":
        return float(2 * stdtr(freedom, -abs(t)))
    return float(stdtr(freedom, -t if alternative == "greater" else t))
