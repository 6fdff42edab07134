"""Comparisons of rows over shared seeds: estimate, interval and adjusted p-value.

No other module tests measured rows against each other. A *family* is the
set of comparisons of one metric in one column (data set and backbone) at one scale; p-values are
adjusted over the family (Holm). The same comparison therefore has the same p-value in a table, in a
verdict and on the page, and runs of another column or scale cannot change it.

The test is a t-test of the differences between rounds with the same seed. If a family has four or
more rows and five or more seeds, a linear model with an effect for each row and each seed estimates
the error from all of them. For comparisons of fewer than ten rounds the larger of the two error
estimates is used; :attr:`Comparison.method` names it.

Fewer than three shared seeds, or differences that are all equal, are not tested.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from ccloss.bench.statistics import MINIMUM_ROUNDS, ErrorEstimate, Interval, holm, mean_test

LEVEL = 0.04
"""An adjusted p-value below this is significant.

For normally distributed rounds a single paired test has at most about this rate of false positives.
A level below 0.05 keeps the rate of a family below 0.05 when rows spread unequally or have a few
extreme rounds on either side, as ``benchmarks/false_positives.py`` simulates it."""

SKEWED_RATE = 0.11
"""Rate of false positives of a family in which one row has occasional rounds far below its others,
from the same simulation."""

EQUIVALENCE_MARGIN = 0.3
"""Accuracies that differ by at most this many percentage points count as equivalent. It is half of
the smallest gain of CC-Loss over CE + CAM that the paper prints (0.66), rounded down."""

BLOCKED_ROWS, BLOCKED_SEEDS = 4, 5
"""Least rows and seeds of a family to which a linear model of row and seed is fitted."""

PRECISE_ROUNDS = 10
"""From this many rounds on, the differences themselves estimate their error well enough."""

Values = Mapping[int, float]
"""Seed -> value of a metric."""

Pair = tuple[str, str]
"""Two rows; the first is expected to be larger."""


@dataclass(frozen=True)
class Comparison:
    """Two rows of one column at one scale.

    Attributes:
        row: the first row.
        other: the second row; empty for values that are compared with zero.
        seeds: (rounds,) seeds that both rows have.
        differences: (rounds,) value of ``row`` minus value of ``other``.
        missing: why it is not tested, such as ``fical was not run``; empty if it is tested.
        estimate: mean of the differences; ``None`` without any.
        interval: 95 % t interval of the mean; ``None`` if not tested, as all that follow.
        bound: largest absolute end of the 90 % t interval: two one-sided tests at 0.05 (TOST) show
            that the true difference is not larger than this.
        p: two-sided p-value.
        p_adjusted: the same, adjusted over the family.
        family: number of tests in the family.
        method: ``paired`` or ``blocked``, the source of the error estimate.
        error: standard error of the mean.
    """

    row: str
    other: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    missing: str = ""
    estimate: float | None = None
    interval: Interval | None = None
    bound: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    family: int = 0
    method: str = ""
    error: float | None = None

    @property
    def sign(self) -> int:
        """1 if ``row`` is significantly larger, -1 if it is significantly smaller, else 0."""
        if self.p_adjusted is None or self.estimate is None or self.p_adjusted >= LEVEL:
            return 0
        return 1 if self.estimate > 0 else -1

    def reversed(self) -> "Comparison":
        """The second row minus the first."""
        interval = self.interval and Interval(-self.interval.high, -self.interval.low)
        return replace(
            self,
            row=self.other,
            other=self.row,
            differences=tuple(-value for value in self.differences),
            estimate=None if self.estimate is None else -self.estimate,
            interval=interval,
        )

    def is_equivalent(self, margin: float = EQUIVALENCE_MARGIN) -> bool:
        """Whether the difference is shown to be within the margin (TOST at 0.05)."""
        return self.bound is not None and self.bound <= margin

    def excludes(self, difference: float) -> bool:
        """Whether the interval excludes a published difference."""
        return self.interval is not None and not (
            self.interval.low <= difference <= self.interval.high
        )


def compare(
    rows: Mapping[str, Values], pairs: Sequence[Pair], *, resolution: float = 0.0
) -> list[Comparison]:
    """Compares the pairs of one family.

    Args:
        rows: name -> seed -> value; rows that were not run may be missing.
        pairs: rows to compare, all comparisons of the family.
        resolution: difference that one test image makes; 0 for continuous metrics.
    """
    model = _blocked_error(rows, pairs)
    return adjust(
        [_compare(row, other, rows, resolution, model) for row, other in dict.fromkeys(pairs)]
    )


def compare_with_zero(row: str, values: Values, *, resolution: float = 0.0) -> Comparison:
    """Tests whether the mean of some values is zero, before adjustment."""
    missing = "" if values else f"{row} was not run"
    return _test(Comparison(row, "", tuple(values), tuple(values.values()), missing), resolution)


def adjust(family: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with p-values adjusted over those that were tested."""
    tested = [each.p for each in family if each.p is not None]
    adjusted = iter(holm(tested))
    return [
        each if each.p is None else replace(each, p_adjusted=next(adjusted), family=len(tested))
        for each in family
    ]


def paired_differences(a: Values, b: Values) -> dict[int, float]:
    """Seed -> value of ``a`` minus value of ``b``, for the seeds that both have, in order."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def _compare(
    row: str,
    other: str,
    rows: Mapping[str, Values],
    resolution: float,
    model: ErrorEstimate | None,
) -> Comparison:
    absent = [name for name in (row, other) if not rows.get(name)]
    found = paired_differences(rows.get(row, {}), rows.get(other, {}))
    missing = f"{absent[0]} was not run" if absent else "" if found else _reason(())
    comparison = Comparison(row, other, tuple(found), tuple(found.values()), missing)
    return _test(comparison, resolution, model)


def _test(
    comparison: Comparison, resolution: float, model: ErrorEstimate | None = None
) -> Comparison:
    if comparison.missing:
        return comparison
    values = comparison.differences
    comparison = replace(comparison, estimate=fmean(values))
    few = len(values) < PRECISE_ROUNDS
    test = mean_test(values, resolution=resolution, model=model if few else None)
    if test is None:
        return replace(comparison, missing=_reason(values))
    return replace(
        comparison,
        interval=test.interval(),
        bound=max(abs(end) for end in test.interval(0.9)),
        p=test.p_value,
        method=test.method,
        error=test.error,
    )


def _reason(values: Sequence[float]) -> str:
    """Why rounds cannot be tested."""
    count = len(values)
    if count < MINIMUM_ROUNDS:
        return f"{count} shared round{'' if count == 1 else 's'}, {MINIMUM_ROUNDS} are needed"
    return "all differences are equal, so their error cannot be estimated"


def _blocked_error(rows: Mapping[str, Values], pairs: Sequence[Pair]) -> ErrorEstimate | None:
    """Error variance of a difference, from a linear model of row and seed over the family."""
    names = [
        name for name in dict.fromkeys(name for pair in pairs for name in pair) if name in rows
    ]
    counts = Counter(seed for name in names for seed in rows[name])
    names = [name for name in names if any(counts[seed] > 1 for seed in rows[name])]
    # A seed of one row alone says nothing about the error.
    cells = [
        (index, seed, rows[name][seed])
        for index, name in enumerate(names)
        for seed in rows[name]
        if counts[seed] > 1
    ]
    seeds = sorted({seed for _, seed, _ in cells})
    if len(names) < BLOCKED_ROWS or len(seeds) < BLOCKED_SEEDS:
        return None
    # One column for each row and each seed; the rank counts those that are independent.
    design = np.zeros((len(cells), len(names) + len(seeds)))
    for line, (index, seed, _) in enumerate(cells):
        design[line, [index, len(names) + seeds.index(seed)]] = 1.0
    observed = np.array([value for _, _, value in cells])
    solution, _, rank, _ = np.linalg.lstsq(design, observed)
    freedom = len(cells) - int(rank)
    squares = float(np.sum((observed - design @ solution) ** 2))
    if freedom < MINIMUM_ROUNDS - 1:
        return None
    return ErrorEstimate(2 * squares / freedom, freedom)  # a difference has two error terms
