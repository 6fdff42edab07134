"""Comparisons against SciPy and statsmodels, and the simulated error rates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from ccloss.bench.comparisons import LEVEL, adjust, compare, compare_with_zero

RATES = Path(__file__).parents[2] / "benchmarks" / "results" / "false_positives.json"


def rows_of(count: int, rounds: int, seed: int = 0) -> dict[str, dict[int, float]]:
    random = np.random.default_rng(seed)
    values = random.normal(90, 1, (count, rounds)).round(2)
    return {f"row {number}": dict(enumerate(row.tolist())) for number, row in enumerate(values)}


def test_a_pair_agrees_with_scipy() -> None:
    rows = rows_of(2, 5)
    (found,) = compare(rows, [("row 0", "row 1")])
    expected = scipy.stats.ttest_rel(*(list(row.values()) for row in rows.values()))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p_adjusted == found.p
    assert found.interval == pytest.approx(expected.confidence_interval())
    bound = max(abs(end) for end in expected.confidence_interval(0.9))
    assert found.bound == pytest.approx(bound)
    assert found.is_equivalent(bound + 1e-9)
    assert not found.is_equivalent(bound - 1e-9)


def test_only_shared_seeds_are_compared() -> None:
    rows = {"a": {1: 3.0, 2: 4.0, 5: 6.5, 9: 1.0}, "b": {2: 1.0, 5: 2.0, 1: 3.0, 7: 8.0}}
    (found,) = compare(rows, [("a", "b")])
    assert (found.seeds, found.differences) == ((1, 2, 5), (0.0, 3.0, 4.5))


def test_p_values_are_adjusted_over_the_family() -> None:
    rows = rows_of(3, 6)
    pairs = [("row 0", "row 1"), ("row 0", "row 2"), ("row 0", "absent")]
    found = compare(rows, pairs)
    raw = [each.p for each in found[:2]]
    assert [each.p_adjusted for each in found[:2]] == pytest.approx(
        multipletests(raw, method="holm")[1]
    )
    assert found[0].family == 2
    assert (found[2].missing, found[2].p_adjusted) == ("absent was not run", None)


@pytest.mark.parametrize("missing", [0, 3])
def test_the_blocked_model_agrees_with_statsmodels(missing: int) -> None:
    """Error variance of a linear model with row and seed, also with missing runs."""
    rows = rows_of(5, 6, seed=3)
    for number in range(missing):
        del rows["row 4"][number]
    rows["row 1"] = {seed: value + 0.01 for seed, value in rows["row 0"].items()}
    rows["row 1"][0] += 0.05
    found = compare(rows, [("row 0", f"row {number}") for number in range(1, 5)])[0]
    data = {
        "row": [row for row, values in rows.items() for _ in values],
        "seed": [seed for values in rows.values() for seed in values],
        "value": [value for values in rows.values() for value in values.values()],
    }
    model = ols("value ~ C(row) + C(seed)", pd.DataFrame(data)).fit()
    assert found.method == "blocked"
    assert found.error == pytest.approx((2 * model.mse_resid / 6) ** 0.5)
    t = found.estimate / found.error
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), model.df_resid))


@pytest.mark.parametrize(
    ("count", "rounds"), [(3, 6), (6, 4), (6, 12)], ids=["few rows", "few seeds", "many seeds"]
)
def test_otherwise_the_differences_give_the_error(count: int, rounds: int) -> None:
    rows = rows_of(count, rounds)
    found = compare(rows, [("row 0", f"row {number}") for number in range(1, count)])
    assert {each.method for each in found} == {"paired"}


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([1, 2], [0, 3], "2 shared rounds, 3 are needed"),
        ([1.1, 2.1, 3.1], [1, 2, 3], "all differences are equal"),
        ([1, 2, 3], [1, 2, 3], "all differences are equal"),
    ],
)
def test_no_test_without_rounds_or_spread(a: list[float], b: list[float], reason: str) -> None:
    rows = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}
    (found,) = compare(rows, [("a", "b")], resolution=0.2)
    assert reason in found.missing
    assert (found.p, found.interval, found.bound, found.sign) == (None, None, None, 0)
    assert found.estimate is not None


def test_values_are_compared_with_zero() -> None:
    found = adjust([compare_with_zero("cc", {1: 0.2, 2: 0.3, 3: 0.35})])[0]
    assert found.p == pytest.approx(scipy.stats.ttest_1samp([0.2, 0.3, 0.35], 0).pvalue)
    assert found.sign == 1
    assert compare_with_zero("cc", {}).missing == "cc was not run"


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 99))
def test_order_of_rows_and_sign_do_not_matter(count: int, rounds: int, seed: int) -> None:
    rows = rows_of(count, rounds, seed)
    pairs = [("row 0", name) for name in list(rows)[1:]]
    found = compare(rows, pairs)
    swapped = compare(dict(reversed(rows.items())), [(b, a) for a, b in pairs])
    for one, other in zip(found, swapped, strict=True):
        assert one.missing.split(",")[0] == other.missing.split(",")[0]
        if not one.missing:
            assert one.estimate == pytest.approx(-(other.estimate or 0))
            assert one.p_adjusted == pytest.approx(other.p_adjusted)
            assert one.sign == -other.sign


def test_simulated_false_positives_stay_below_5_percent() -> None:
    """The committed rates, for the spreads of the records and for held-out families."""
    content = json.loads(RATES.read_text())
    assert content["level"] == LEVEL
    families = [
        family
        for group in ("records", "held out")
        for family in content["false_positives"][group].values()
    ]
    assert len(families) >= 15
    for family in families:
        assert list(family["rates"]) == [str(rounds) for rounds in range(2, 11)]
        assert family["rates"]["2"]["family"] == 0
        assert all(rate["family"] <= 0.05 for rate in family["rates"].values())
    assert content["power"]["0.66"]["5"] < content["power"]["0.66"]["10"]
