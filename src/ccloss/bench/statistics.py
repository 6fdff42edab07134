"""What the numbers mean: arrays in, numbers out.

SciPy and statsmodels do the computing; they are imported where they are used, for they take
seconds. What is ours is the checking, and what to say where a test has no spread to work with:

* every difference is 0: t = 0, so p = 1 (0.5 one-sided), and there is no effect size;
* every difference is the same and not 0: the limit of t to infinity, so p = 0 (1 on the wrong side
  of a one-sided test), and there is no effect size.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ccloss.errors import InputError

Alternative = Literal["two-sided", "greater", "less"]
"""What a test looks for: any difference, a mean above the other, or a mean below it."""

Array = NDArray[np.float64]

CONFIDENCE = 0.95

BOOTSTRAPS = 9999
"""Resamples of a bootstrap interval."""

NO_SPREAD = 64 * float(np.finfo(np.float64).eps)
"""Values closer than this, relative to their size, differ by rounding alone."""

EQUAL_DECIMALS = 9
"""Accuracies are counts over images: differences equal to this many decimals are equal."""

EXACT_ROUNDS = 50
"""Wilcoxon's distribution without ties is counted up to so many rounds..."""

EXACT_TIED_ROUNDS = 10
"""... and with ties, where all 2^n signs have to be tried, up to so many."""

EXACT_PAIRS = 7
"""All n! orders are tried for a rank correlation of up to so many pairs."""


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
        if self.rounds == 1:  # one round says nothing about the spread
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {self.margin:.2f}"


def accuracy_margin(values: Sequence[float]) -> AccuracyMargin:
    """Mean accuracy and the largest absolute deviation of a round from it (sec. 3.2).

    Args:
        values: (rounds,) accuracies, in %.

    Raises:
        InputError: there is no value, or one of them is not finite.
    """
    rounds = [float(value) for value in values]
    if not rounds:
        raise InputError("values is empty; accuracy ± margin needs the accuracy of a round or more")
    for place, value in enumerate(rounds):
        if not math.isfinite(value):
            raise InputError(f"values[{place}] is {value}; leave out rounds that did not finish")
    mean = fmean(rounds)
    return AccuracyMargin(mean, max(abs(value - mean) for value in rounds), len(rounds))


class Interval(NamedTuple):
    """From low to high, both included."""

    low: float
    high: float


class Comparison(NamedTuple):
    """One test between the rounds of a and those of b.

    Attributes:
        test: name of the test.
        difference: mean of a minus mean of b, in percentage points.
        interval: 95 % bootstrap interval of that difference, in percentage points.
        p_value: of the test's alternative.
        effect: size of the difference without a unit; which one is said at the test. ``None``
            where nothing spreads, so that there is nothing to measure it in.
        rounds: rounds of a and of b; b has 0 where it is a published number.
        alternative: what the test looks for.
    """

    test: str
    difference: float
    interval: Interval
    p_value: float
    effect: float | None
    rounds: tuple[int, int]
    alternative: Alternative = "two-sided"


class Correlation(NamedTuple):
    """A rank correlation; both are ``None`` where one side is constant.

    Attributes:
        rho: Spearman's, from -1 to 1.
        p_value: two-sided.
    """

    rho: float | None
    p_value: float | None


def one_sample_test(
    values: Sequence[float], constant: float, *, alternative: Alternative = "two-sided"
) -> Comparison:
    """The paper's own test (sec. 3.7, Table 3): rounds of a loss against a published mean.

    It is here to check the paper, and it is a weak test. The constant has a spread of its own, and
    the test ignores it. The other loss was not run again with the same seeds and the same code. So
    it asks whether our accuracy is exactly that number, and not whether our loss is better; and as
    rounds spread little, any difference in protocol (a resize, a library, a schedule) gets a tiny
    p-value. Where the other loss can be run again, use :func:`paired_test`.

    Args:
        values: (rounds,) accuracies, in %.
        constant: published mean accuracy, in %.
        alternative: ``"greater"`` asks whether the rounds lie above the constant.

    Returns:
        The effect is Cohen's d: difference over the sample standard deviation (ddof 1).

    Raises:
        InputError: fewer than 2 rounds, a value that is not finite, or an unknown alternative.
    """
    rounds = _rounds("values", values)
    constant = _number("constant", constant)
    _check_alternative(alternative)
    differences = rounds - constant
    unit = max(_size(rounds), abs(constant))
    p_value, effect = _t_test(differences, unit, alternative)
    return Comparison(
        "one-sample t",
        fmean(differences),
        _bootstrap((differences,), unit, CONFIDENCE, seed=0),
        p_value,
        effect,
        (len(rounds), 0),
        alternative,
    )


def paired_test(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Two-sided t-test of the differences a[i] - b[i] between rounds that share seed i.

    Args:
        a: (rounds,) accuracies, in %.
        b: (rounds,) accuracies of the other loss, in %, in the same order of seeds.

    Returns:
        The effect is d_z: mean difference over the standard deviation (ddof 1) of the differences.

    Raises:
        InputError: fewer than 2 rounds, different numbers of them, or a value that is not finite.
    """
    first, second = _pairs(a, b)
    differences = first - second
    unit = max(_size(first), _size(second))
    p_value, effect = _t_test(differences, unit, "two-sided")
    return Comparison(
        "paired t",
        fmean(differences),
        _bootstrap((differences,), unit, CONFIDENCE, seed=0),
        p_value,
        effect,
        (len(first), len(second)),
    )


def welch_test(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Two-sided t-test of rounds that share no seeds; the variances may differ (Welch 1947).

    Args:
        a: (rounds,) accuracies, in %.
        b: (rounds of b,) accuracies of the other loss, in %.

    Returns:
        The effect is Hedges' g (1981): difference over the pooled standard deviation, times the
        exact correction for small samples G(f/2) / (sqrt(f/2) G((f-1)/2)), f = n_a + n_b - 2.

    Raises:
        InputError: fewer than 2 rounds on a side, or a value that is not finite.
    """
    first, second = _rounds("a", a), _rounds("b", b)
    unit = max(_size(first), _size(second))
    p_value, effect = _welch(first, second, unit)
    return Comparison(
        "Welch t",
        fmean(first) - fmean(second),
        _bootstrap((first, second), unit, CONFIDENCE, seed=0),
        p_value,
        effect,
        (len(first), len(second)),
    )


def wilcoxon_test(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Two-sided signed-rank test of rounds that share seed i: no normal distribution is assumed.

    With 5 rounds the smallest p-value there is is 2 / 2^5 = 0.0625: five rounds cannot reach 0.05,
    however large the difference. 6 rounds can.

    Rounds without a difference are left out, as Wilcoxon did. The p-value is exact up to 50 rounds,
    or up to 10 where differences tie and every one of the 2^n signs is tried; it is the normal
    approximation above that. The name of the test says which.

    Args:
        a: (rounds,) accuracies, in %.
        b: (rounds,) accuracies of the other loss, in %, in the same order of seeds.

    Returns:
        The effect is the matched-pairs rank-biserial correlation (Kerby 2014): ranks where a is
        above less those where b is, over all ranks; from -1 to 1.

    Raises:
        InputError: fewer than 2 rounds, different numbers of them, or a value that is not finite.
    """
    first, second = _pairs(a, b)
    differences = first - second
    kind, p_value, effect = _signed_rank(differences)
    return Comparison(
        f"Wilcoxon signed rank, {kind}",
        fmean(differences),
        _bootstrap((differences,), max(_size(first), _size(second)), CONFIDENCE, seed=0),
        p_value,
        effect,
        (len(first), len(second)),
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values of a table, adjusted so that one false finding in all of it is as rare as said.

    Args:
        p_values: (tests,) raw p-values, each from 0 to 1; leave out tests that were not made.

    Returns:
        (tests,) adjusted p-values (Holm 1979), in the order given.

    Raises:
        InputError: one of them is no number from 0 to 1.
    """
    raw = _rounds("p_values", p_values, needed=0)
    for place, value in enumerate(raw):
        if not 0 <= value <= 1:
            raise InputError(f"p_values[{place}] is {value}; a p-value lies from 0 to 1")
    # By hand: statsmodels collects garbage at each call, which a page makes by the dozen, and takes
    # a tenth of a second.
    order = np.argsort(raw, kind="stable")
    steps = np.arange(len(raw), 0, -1) * raw[order]
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return tuple(float(value) for value in adjusted)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Bootstrap interval of the mean of the rounds (BCa; Efron 1987), in the unit of the values.

    BCa is defined for the mean of any values that differ; where they do not differ, the interval
    is the point that they all are. Few rounds say little about their own spread: of 5 normal
    rounds the 95 % interval holds the true mean about 84 times in 100, of 20 rounds about 92 times.

    Args:
        values: (rounds,) accuracies, in %.
        confidence: share of intervals that should hold the true mean, between 0 and 1.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        InputError: fewer than 2 rounds, a value that is not finite, or a confidence out of range.
    """
    rounds = _rounds("values", values)
    return _bootstrap((rounds,), _size(rounds), _share("confidence", confidence), seed)


def smallest_difference(
    spread: float, rounds: int, *, power: float = 0.8, alpha: float = 0.05, paired: bool = True
) -> float:
    """Smallest true mean difference that so many rounds show, in percentage points.

    "Show" is to find it, on its right side, in a two-sided t-test at ``alpha`` with a chance of
    ``power`` (Cohen 1988: noncentral t). A difference found on the wrong side does not count.

    Args:
        spread: standard deviation in percentage points: of the differences where ``paired``, of
            the rounds of each loss otherwise.
        rounds: number of pairs, or of rounds of each of the two losses.
        power: chance of finding the difference, above ``alpha`` and below 1.
        alpha: chance of finding a difference where there is none, between 0 and 1.
        paired: whether the two losses share their seeds.

    Raises:
        InputError: an argument is out of its range.
    """
    if _number("spread", spread) < 0:
        raise InputError(f"spread is {spread}; a standard deviation is 0 or more")
    _check_count("rounds", rounds)
    _share("alpha", alpha)
    if _share("power", power) <= alpha:
        raise InputError(f"power is {power} and alpha {alpha}; ask for a power above alpha")
    return float(spread * _effect_at(power, _power_of_effect(rounds, alpha, paired), rounds))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> Correlation:
    """Spearman's rank correlation of paired values: whether they rise together.

    The p-value is exact (every order of b is tried) up to 7 pairs, where the t approximation is
    far off: it would give p = 0 for any two perfect orders. Above 7 pairs it is the approximation.

    Args:
        a: (pairs,) values in any unit.
        b: (pairs,) values in any unit.

    Raises:
        InputError: fewer than 2 pairs, different numbers of values, or one that is not finite.
    """
    first, second = _pairs(a, b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:  # nothing to rank
        return Correlation(None, None)
    from scipy import stats

    found = stats.spearmanr(first, second)
    if len(first) > EXACT_PAIRS:
        return Correlation(float(found.statistic), float(found.pvalue))
    # Twice the centred ranks are whole numbers, so that equally strong orders are exactly equal.
    here, there = (2 * stats.rankdata(values) - len(values) - 1 for values in (first, second))

    def strength(order: Array, axis: int) -> Array:
        return np.asarray(np.abs((order * there).sum(axis=axis)))

    exact = stats.permutation_test(
        (here,),
        strength,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=math.factorial(EXACT_PAIRS),
        alternative="greater",
    )
    return Correlation(float(found.statistic), float(exact.pvalue))


def margin_p_range(
    mean: float,
    margin: float,
    constant: float,
    *,
    rounds: int = 5,
    rounding: float = 0.005,
    alternative: Alternative = "two-sided",
) -> Interval:
    """P-values of :func:`one_sample_test` that a published "mean ± margin" leaves possible.

    The margin m is the largest absolute deviation of n rounds from their mean, so it bounds their
    standard deviation (ddof 1). The deviations sum to 0 and one of them is m. Their squares sum to
    the least where the others share the rest, -m / (n - 1) each: m^2 n / (n - 1). They sum to the
    most at a corner, where all are m or -m but for a 0 if n is odd: m^2 n for even n, and
    m^2 (n - 1) for odd n. With 5 rounds the standard deviation is 0.559 m to m. A published p-value
    outside the range did not come from the published numbers by this test.

    Args:
        mean: published mean accuracy, in %.
        margin: published margin, in percentage points.
        constant: the published mean that it is tested against, in %.
        rounds: number of rounds behind the mean.
        rounding: how far each of the three may be from what was printed: half a unit of the last
            decimal; 0 takes them at their word.
        alternative: as in :func:`one_sample_test`.

    Returns:
        The smallest and the largest p-value; rounds exist that attain each of them.

    Raises:
        InputError: an argument is not finite or out of its range.
    """
    difference = _number("mean", mean) - _number("constant", constant)
    for name, value in (("margin", margin), ("rounding", rounding)):
        if _number(name, value) < 0:
            raise InputError(f"{name} is {value}; it is a distance: 0 or more")
    _check_count("rounds", rounds)
    _check_alternative(alternative)
    least, most = _spread_of_margin(rounds)
    spreads = max(margin - rounding, 0.0) * least, (margin + rounding) * most
    # t rises with the difference and goes one way with the spread: its extremes lie at corners.
    low = min(_t_value(difference - 2 * rounding, spread, rounds) for spread in spreads)
    high = max(_t_value(difference + 2 * rounding, spread, rounds) for spread in spreads)
    ends = [_p_of_t(t, rounds - 1, alternative) for t in (low, high)]
    if alternative == "two-sided" and low <= 0 <= high:
        ends.append(1.0)
    return Interval(min(ends), max(ends))


def _rounds(name: str, values: Sequence[float], needed: int = 2) -> Array:
    """(rounds,) float64, checked."""
    rounds = np.asarray(values, dtype=np.float64)
    if rounds.ndim != 1:
        raise InputError(f"{name} has shape {rounds.shape}; give one row of numbers")
    for place, value in enumerate(rounds):
        if not math.isfinite(value):
            raise InputError(f"{name}[{place}] is {value}; leave out what did not finish")
    if len(rounds) < needed:
        count = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
        raise InputError(f"{name} has {count}; a test needs {needed} or more: run more --rounds")
    return rounds


def _pairs(a: Sequence[float], b: Sequence[float]) -> tuple[Array, Array]:
    first, second = _rounds("a", a), _rounds("b", b)
    if len(first) != len(second):
        raise InputError(
            f"a has {len(first)} values and b {len(second)}; "
            "pairs need both of each seed: run the missing rounds, or use welch_test"
        )
    return first, second


def _number(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}; give a finite number")
    return float(value)


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name} is {value}; give a number between 0 and 1, such as 0.95")
    return value


def _check_count(name: str, value: int) -> None:
    if value < 2:
        raise InputError(f"{name} is {value}; a spread needs 2 or more")


def _check_alternative(alternative: str) -> None:
    known = get_args(Alternative)
    if alternative not in known:
        raise InputError(f"alternative is {alternative!r}; give one of {', '.join(known)}")


def _size(values: Array) -> float:
    return float(np.abs(values).max())


def _zero(value: float, unit: float) -> bool:
    """Whether a difference of numbers as large as ``unit`` is rounding alone.

    0.3 - 0.2 and 0.2 - 0.1 differ in their last bits; taken for spread, that gives a t-value of
    1e15 where the limit is meant, and any p-value at all where the difference is 0.
    """
    return abs(value) <= NO_SPREAD * max(unit, 1.0)  # percentage points: no image weighs 1e-14


def _constant(values: Array, unit: float) -> bool:
    return _zero(float(np.ptp(values)), unit)


def _t_value(difference: float, spread: float, rounds: int) -> float:
    """T of a mean difference, with its limits where nothing spreads."""
    if difference == 0:
        return 0.0
    if spread == 0:
        return math.copysign(math.inf, difference)
    return difference / (spread / math.sqrt(rounds))


def _p_of_t(t: float, freedom: float, alternative: Alternative) -> float:
    from scipy.stats import t as distribution

    if alternative == "two-sided":
        return float(2 * distribution.sf(abs(t), freedom))
    return float(distribution.sf(t if alternative == "greater" else -t, freedom))


def _no_spread_p(difference: float, unit: float, alternative: Alternative) -> float:
    difference = 0.0 if _zero(difference, unit) else difference
    return _p_of_t(_t_value(difference, 0.0, 2), 1, alternative)  # 0 and infinity need no n


def _t_test(
    differences: Array, unit: float, alternative: Alternative
) -> tuple[float, float | None]:
    """P-value and standardised mean of differences between numbers as large as ``unit``."""
    mean = fmean(differences)
    if _constant(differences, unit):
        return _no_spread_p(mean, unit, alternative), None
    from scipy import stats

    found = stats.ttest_1samp(differences, 0.0, alternative=alternative)
    return float(found.pvalue), mean / float(np.std(differences, ddof=1))


def _welch(a: Array, b: Array, unit: float) -> tuple[float, float | None]:
    """P-value and Hedges' g."""
    difference = fmean(a) - fmean(b)
    spread_a, spread_b = (
        0.0 if _constant(side, unit) else float(np.std(side, ddof=1)) for side in (a, b)
    )
    if spread_a == spread_b == 0:
        return _no_spread_p(difference, unit, "two-sided"), None
    from scipy import stats

    # From the moments: from the values, SciPy warns where one side alone is constant.
    found = stats.ttest_ind_from_stats(
        fmean(a), spread_a, len(a), fmean(b), spread_b, len(b), equal_var=False
    )
    freedom = len(a) + len(b) - 2
    squares = (len(a) - 1) * spread_a**2 + (len(b) - 1) * spread_b**2
    gammas = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2))
    correction = gammas / math.sqrt(freedom / 2)
    return float(found.pvalue), correction * difference / math.sqrt(squares / freedom)


def _signed_rank(differences: Array) -> tuple[str, float, float | None]:
    """How the p-value was found, the p-value, and the rank-biserial correlation."""
    from scipy import stats

    # Equal differences must tie: left to their last bits, rounding would rank them.
    differences = np.round(differences, EQUAL_DECIMALS)
    differences = differences[differences != 0]
    n = len(differences)
    if n == 0:
        return "exact", 1.0, None
    ties = len(np.unique(np.abs(differences))) < n
    method: Any
    if not ties and n <= EXACT_ROUNDS:
        kind, method = "exact", "exact"
    elif n <= EXACT_TIED_ROUNDS:
        kind, method = "exact", stats.PermutationMethod(n_resamples=2**n)
    else:
        kind, method = "approximate", "asymptotic"
    ranks = stats.rankdata(np.abs(differences))
    effect = float(np.sum(ranks * np.sign(differences)) / np.sum(ranks))
    return kind, float(stats.wilcoxon(differences, method=method).pvalue), effect


def _bootstrap(samples: tuple[Array, ...], unit: float, confidence: float, seed: int) -> Interval:
    """BCa interval of the mean of the first sample, less that of the second if there is one."""
    means = [fmean(sample) for sample in samples]
    middle = means[0] - sum(means[1:])
    if all(_constant(sample, unit) for sample in samples):
        return Interval(middle, middle)
    from scipy import stats

    def statistic(*drawn: Array, axis: int) -> Array:
        parts = [np.mean(part, axis=axis) for part in drawn]
        # BCa counts the resamples on either side of the mean, and many are exactly on it (each
        # reordering of the rounds is): rounding keeps the last bits from choosing their side.
        return np.asarray(np.round(parts[0] - sum(parts[1:]), 12))

    scale = max(float(np.ptp(sample)) for sample in samples)
    found = stats.bootstrap(
        [(sample - mean) / scale for sample, mean in zip(samples, means, strict=True)],
        statistic,
        n_resamples=BOOTSTRAPS,
        confidence_level=confidence,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(middle + scale * float(found.low), middle + scale * float(found.high))


def _power_of_effect(rounds: int, alpha: float, paired: bool) -> Callable[[float], float]:
    """Standardised difference -> chance that a two-sided test finds it on its right side."""
    from statsmodels.stats.power import TTestIndPower, TTestPower

    test = TTestPower() if paired else TTestIndPower()
    # One tail at alpha / 2. With both, statsmodels' other tail is NaN for many large effects.
    return lambda effect: float(test.power(effect, rounds, alpha / 2, alternative="larger"))


def _effect_at(power: float, power_of: Callable[[float], float], rounds: int) -> float:
    """The effect at which a rising power gets where it should.

    statsmodels' ``solve_power`` stops within 1e-5, and at few rounds it has been seen to give back
    the end of its bracket, 10.0, as if it were the answer.
    """
    from scipy.optimize import brentq

    high = 1 / math.sqrt(rounds)
    while power_of(high) < power:
        high *= 2
    return float(brentq(lambda effect: power_of(effect) - power, 0.0, high, xtol=1e-14, rtol=1e-13))


def _spread_of_margin(rounds: int) -> tuple[float, float]:
    """Least and most standard deviation (ddof 1) of rounds whose margin is 1."""
    least = math.sqrt(rounds) / (rounds - 1)
    most = 1.0 if rounds % 2 else math.sqrt(rounds / (rounds - 1))
    return least, most
