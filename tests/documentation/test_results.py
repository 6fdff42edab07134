"""docs/results.md: rebuilt from the records, and its numbers recomputed with NumPy and SciPy."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"

PAIRS = (
    ("cc", "ce+cam"),
    ("cc reduction=mean", "ce+cam"),
    ("cc", "cc reduction=mean"),
    ("ce+cam", "ce"),
)

Rows = dict[str, dict[int, float]]


def accuracies(campaign: str, **fields: Any) -> Rows:
    """Method -> seed -> accuracy, from the lines of a campaign file."""
    rows: Rows = {}
    for line in (RESULTS / f"{campaign}.jsonl").read_text().splitlines():
        record = json.loads(line)["record"]
        experiment = record["experiment"]
        if all(experiment[name] == value for name, value in fields.items()):
            seed = experiment["seed"]
            rows.setdefault(record["method"], {})[seed] = record["evaluation"]["accuracy"]
    return rows


def differences(rows: Rows, row: str, other: str) -> np.ndarray:
    seeds = sorted(rows[row].keys() & rows[other].keys())
    return np.array([rows[row][seed] - rows[other][seed] for seed in seeds])


def blocked(rows: Rows) -> tuple[float, int]:
    """Error variance of a difference and its degrees of freedom, by sums of squares.

    All rows have the same seeds, so the residuals follow from the means of rows and seeds.
    """
    values = np.array([[each[seed] for seed in sorted(each)] for each in rows.values()])
    residuals = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    return 2 * float((residuals**2).sum()) / freedom, freedom


def family(rows: Rows, pairs: Sequence[tuple[str, str]], images: int) -> list[list[str]]:
    """Estimate, interval, p and adjusted p of each pair, as printed."""
    drawn = []
    for row, other in pairs:
        values = differences(rows, row, other)
        variance, freedom = values.var(ddof=1), len(values) - 1
        if len(rows) >= 4 and 5 <= len(values) < 10 and blocked(rows)[0] > variance:
            variance, freedom = blocked(rows)
        error = ((variance + (50 / images) ** 2) / len(values)) ** 0.5
        low, high = stats.t.interval(0.95, freedom, values.mean(), error)
        p = 2 * stats.t.sf(abs(values.mean() / error), freedom)
        drawn.append((values.mean(), low, high, p))
    raw = np.array([each[3] for each in drawn])
    order = raw.argsort()
    adjusted = np.empty_like(raw)
    steps = np.arange(len(raw), 0, -1) * raw[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [
        [f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", f"{p:.2g}", f"{each:.2g}"]
        for (mean, low, high, p), each in zip(drawn, adjusted, strict=True)
    ]


def lines(after: str) -> dict[str, list[str]]:
    """The first table after a text: first cells -> the other cells."""
    body = re.search(r"\|.*?\n\n", PAGE[PAGE.index(after) :] + "\n", re.DOTALL)
    assert body is not None
    cells = [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")]
        for line in body.group().strip().splitlines()
    ]
    return {line[0]: line[1:] for line in cells[2:]}


def shown(cell: str) -> str:
    """A cell without the marks of significance."""
    return cell.replace("*", "")


def accuracy(values: Sequence[float]) -> str:
    array = np.array(values)
    low, high = stats.ttest_1samp(array, 0).confidence_interval()
    margin = np.abs(array - array.mean()).max()
    return f"{array.mean():.2f} ± {margin:.2f} ({low:.2f} to {high:.2f})"


@pytest.fixture
def write_results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_results

    return write_results


def test_the_page_is_that_of_the_records(write_results: Any) -> None:
    assert write_results.text() == PAGE


@pytest.mark.parametrize(("path", "campaign"), [("docs/losses.md", "losses")])
def test_tables_of_methods_are_those_of_their_records(
    write_results: Any, path: str, campaign: str
) -> None:
    document = (ROOT / path).read_text()
    assert f"<!-- {campaign}:" in document
    assert write_results.with_table(document, campaign) == document


@pytest.mark.parametrize(
    ("heading", "campaign", "rows"),
    [
        ("## MNIST at a smaller scale", "mnist", ("ce", "ce+cam", "cc")),
        ("## The paper's tables on the digits", "digits-paper", ("ce", "focal", "mc", "fical")),
    ],
)
def test_accuracies_and_intervals(heading: str, campaign: str, rows: Sequence[str]) -> None:
    fields = {"batch_size": 32, "hidden_features": 512 if campaign == "mnist" else 64}
    found = accuracies(campaign, **fields)
    part = PAGE[PAGE.index(heading) :]
    for row in rows:
        assert accuracy(list(found[row].values())) in shown(part)


def test_differences_on_mnist() -> None:
    rows = accuracies("mnist")
    pairs = [("ce+cam", "ce"), ("cc", "ce"), ("cc", "ce+cam")]
    for pair, (mean, interval, _, adjusted) in zip(pairs, family(rows, pairs, 10_000), strict=True):
        expected = f"{pair[0]} minus {pair[1]}: {mean} points (95 % interval {interval}, "
        assert f"{expected}adjusted p {adjusted} in a family of 3, 5 rounds" in PAGE
    gap = differences(rows, "cc", "ce+cam")
    half = stats.t.isf(0.025, 4) * (gap.var(ddof=1) / 5 + 0.005**2 / 5) ** 0.5
    assert gap.mean() + half < 0.66
    assert "excludes the published +0.66" in PAGE


def test_bf16_and_fp32() -> None:
    rows = {f"{name} fp32": each for name, each in accuracies("mnist").items()}
    rows |= {f"{name} bf16": each for name, each in accuracies("mnist-bf16").items()}
    names = ("ce", "ce+cam", "cc")
    expected = family(rows, [(f"{name} bf16", f"{name} fp32") for name in names], 10_000)
    table = lines("### The same in bf16")
    for name, numbers in zip(names, expected, strict=True):
        means = [
            f"{np.mean(list(rows[f'{name} {each}'].values())):.2f}" for each in ("fp32", "bf16")
        ]
        assert table[name] == [*means, *numbers]


@pytest.mark.parametrize("size", [96, 256, 1297])
def test_few_training_images(size: int) -> None:
    rows = accuracies("small-sample", train_limit=size)
    means = lines("Mean accuracy (%) on the 500 test images")[f"{size:,}"]
    methods = ("ce", "ce+cam", "cc", "cc reduction=mean")
    assert means == [f"{np.mean(list(rows[name].values())):.2f}" for name in methods]
    part = PAGE[PAGE.index("Differences by seed;") :]
    for (row, other), numbers in zip(PAIRS, family(rows, PAIRS, 500), strict=True):
        cells = [f"{size:,}", f"{row} − {other}", *numbers]
        pattern = r"\|\s*" + r"\s*\|\s*".join(map(re.escape, cells)) + r"\s*\|"
        assert re.search(pattern, part), cells
