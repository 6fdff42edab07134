"""What the numbers mean: arrays in, numbers out."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from ccloss.errors import InputError


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
