"""The numbers against slow arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccloss.errors import InputError
from ccloss.stats import AccuracyMargin, accuracy_margin

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
