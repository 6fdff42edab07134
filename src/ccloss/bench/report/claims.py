"""Verdicts on what the paper claims, from measured runs.

A claim is broken into comparisons: one pair of rows in one column, among runs that depart from the
paper's protocol in the same way. Each is a t-test over rounds, paired by seed where two rows are
compared, two-sided at 0.05; but for the claim about Table 3, whose test is the paper's own: one
sample, one-sided, at 5e-3. P-values are adjusted over the claim's comparisons (Holm).

A column counts as run for a claim where its row was run, and one of the rows that it is compared
with, if there are any. The verdict is then

* **not run**: no column was;
* **contradicted**: a comparison is significant in the wrong direction;
* **supported**: in every column that was run, each comparison that the claim makes has two rounds
  or more and is significant in the claimed direction;
* **not enough data**: anything else. The note says what is missing: rows, rounds, or a difference
  large enough to be told from none.

So a verdict speaks of the columns that were run, at the scale at which they were.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from ccloss.bench import statistics as stats
from ccloss.bench.paper import (
    BASELINES,
    CLAIMS,
    P_VALUES,
    TABLE1,
    TABLES,
    THRESHOLD,
    Claim,
    Column,
    Published,
)
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.reproduction import (
    LEVEL,
    Departures,
    Place,
    Rounds,
    departures_text,
    p_text,
    place,
    possible_p,
    scale,
)
from ccloss.bench.report.text import csv_text, escape_markdown, markdown_table
from ccloss.training.records import Record

EXCEPTED = frozenset({("cc-over-others", "mc", Column("cars196", "vgg16"))})
"""(claim, other row, column) that the claim leaves out: Table 1 itself has MC above CC-Loss on
Cars-196 with VGG16, and sec. 3.3 says so."""

NAMED = 3
"""Comparisons that a note names before it counts the others."""

Placed = Mapping[Departures, Mapping[Place, Rounds]]
Ruling = Literal["supported", "contradicted", "not enough data", "not run"]


@dataclass(frozen=True)
class Comparison:
    """One claim in one column at one scale, of one pair of rows.

    Attributes:
        column: data set and backbone.
        departures: fields in which the runs are not the paper's protocol, with their values.
        row: the row that the claim is about.
        other: what it is compared with: another row, ``published``, or empty for a correlation.
        seeds: (rounds,) those compared.
        values: (rounds,) by seed, with a positive mean where the claim holds: a difference of
            accuracies in percentage points, a difference of feature ratios, or a rank correlation.
        dropped: seeds left out because the metric is undefined in a run of theirs.
        lacks: what keeps it from being tested, such as ``fical was not run``; empty if it was.
        level: below which an adjusted p-value is significant.
        mean: of the values; ``None`` without any.
        interval: 95 % bootstrap interval of the mean; ``None`` if not tested, as all that follow.
        p: of the test in the claimed direction, or two-sided.
        p_holm: the same, adjusted over the claim.
        p_against: of the test in the other direction, adjusted; ``p_holm`` where it is two-sided.
        smallest: mean that these rounds would have shown four times in five, before adjustment;
            ``None`` where the values do not spread, too.
    """

    column: Column
    departures: Departures
    row: str
    other: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    dropped: tuple[int, ...]
    lacks: str
    level: float
    mean: float | None
    interval: stats.Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    p_against: float | None = None
    smallest: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is significant in the claimed direction."""
        return _significant(self.p_holm, self.level) and (self.mean or 0) > 0

    @property
    def fails(self) -> bool:
        """Whether it is significant in the other direction."""
        return _significant(self.p_against, self.level) and (self.mean or 0) < 0


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        claim: of the paper.
        verdict: as the module says.
        comparisons: those it rests on, tested or not.
        note: a few plain sentences with the numbers, what is missing, and the scale.
    """

    claim: Claim
    verdict: Ruling
    comparisons: tuple[Comparison, ...]
    note: str


def _significant(p: float | None, level: float) -> bool:
    return p is not None and p < level


# ---- judging -------------------------------------------------------------------------------------


def judge(records: Sequence[Record]) -> list[Verdict]:
    """One verdict a claim of the paper, in its order.

    Args:
        records: finished runs, of any experiments; those that no claim is about are passed over.

    Raises:
        InputError: a cell has two runs of one seed.
    """
    placed = {name: place(records, table) for name, table in TABLES.items()}
    return [_verdict(claim, placed[claim.table.name]) for claim in CLAIMS]


def _verdict(claim: Claim, placed: Placed) -> Verdict:
    comparisons = _adjust(
        [
            _comparison(claim, column, departures, cells, other)
            for departures, cells in placed.items()
            for column in _columns(claim, cells)
            for other in _others(claim, column)
        ]
    )
    ruling = _rule(comparisons)
    return Verdict(claim, ruling, comparisons, _note(claim, ruling, comparisons))


def _rule(comparisons: Sequence[Comparison]) -> Ruling:
    if not comparisons:
        return "not run"
    if any(comparison.fails for comparison in comparisons):
        return "contradicted"
    if all(comparison.holds for comparison in comparisons):
        return "supported"
    return "not enough data"


def _columns(claim: Claim, cells: Mapping[Place, Rounds]) -> list[Column]:
    """Those that count as run; the paper's first, in its order."""
    met = [column for row, column in cells if row == claim.row]
    own = [column for column in claim.table.columns if column in met]
    return [
        column
        for column in (*own, *(column for column in met if column not in own))
        if claim.data in (None, column.data)
        and (claim.kind != "above published" or column in BASELINES)
        and (not claim.others or any((other, column) in cells for other in _others(claim, column)))
    ]


def _others(claim: Claim, column: Column) -> list[str]:
    """What the row is compared with in a column."""
    if claim.kind == "above published":
        return ["published"]
    if not claim.others:
        return [""]
    return [other for other in claim.others if (claim.name, other, column) not in EXCEPTED]


def _comparison(
    claim: Claim,
    column: Column,
    departures: Departures,
    cells: Mapping[Place, Rounds],
    other: str,
) -> Comparison:
    """One comparison, without its adjusted p-values."""
    rounds = cells[claim.row, column]
    others = cells.get((other, column), {}) if claim.others else rounds
    shared = [seed for seed in rounds if seed in others]
    measured = {seed: _measured(claim, column, rounds[seed], others[seed]) for seed in shared}
    found = {seed: pair for seed, pair in measured.items() if pair is not None}
    values = [a - b for a, b in found.values()]
    drafted = Comparison(
        column=column,
        departures=departures,
        row=claim.row,
        other=other,
        seeds=tuple(found),
        values=tuple(values),
        dropped=tuple(seed for seed in shared if seed not in found),
        lacks=_lacks(claim, other, len(others), len(shared), len(found)),
        level=THRESHOLD if claim.kind == "above published" else LEVEL,
        mean=fmean(values) if values else None,
    )
    if drafted.lacks:
        return drafted
    return _tested(drafted, [a for a, _ in found.values()], [b for _, b in found.values()])


def _measured(
    claim: Claim, column: Column, run: Record, other: Record
) -> tuple[float, float] | None:
    """What is to be the larger and what the smaller in one round; ``None`` if undefined."""
    if claim.kind == "higher accuracy":
        return run.accuracy, other.accuracy
    if claim.kind == "above published":
        return run.accuracy, BASELINES[column].mean
    if claim.kind == "lower feature ratio":
        larger = other.evaluation.get("feature_ratio")
        smaller = run.evaluation.get("feature_ratio")
        return None if larger is None or smaller is None else (larger, smaller)
    rho = _hardness_correlation(run)
    return None if rho is None else (rho, 0.0)


def _hardness_correlation(run: Record) -> float | None:
    """Spearman's rho, over the classes of a run, of error with the channels that they open."""
    accuracies = run.evaluation.get("class_accuracy") or []
    channels = run.evaluation.get("class_channels") or []
    pairs = [
        (100 - accuracy, opened)
        for accuracy, opened in zip(accuracies, channels, strict=False)  # there may be no channels
        if accuracy is not None and opened is not None
    ]
    if len(pairs) < 2:
        return None
    return stats.rank_correlation(
        [error for error, _ in pairs], [opened for _, opened in pairs]
    ).rho


def _lacks(claim: Claim, other: str, run: int, shared: int, found: int) -> str:
    """What keeps a comparison from being tested; empty if nothing does.

    Args:
        claim: that makes it.
        other: row it compares with.
        run: rounds of the other row.
        shared: rounds that both have.
        found: those of them in which the metric is defined.
    """
    if found > 1:
        return ""
    if not run:
        return f"{other} was not run"
    if not shared:
        return f"{claim.row} and {other} share no seed"
    if found < shared:
        return f"{_rounds(found)} with {_METRICS[claim.kind]} defined"
    return f"{claim.row} and {other} share only 1 seed" if claim.others else "only 1 round"


def _tested(drafted: Comparison, a: Sequence[float], b: Sequence[float]) -> Comparison:
    """The same with its test of whether a is above b, (rounds,) each."""
    if drafted.other == "published":
        test = stats.one_sample_test(a, b[0], alternative="greater")
        against = stats.one_sample_test(a, b[0], alternative="less").p_value
        alpha = 2 * drafted.level  # one tail of it is the level
    else:
        test = stats.paired_test(a, b)
        against = test.p_value
        alpha = drafted.level
    return replace(
        drafted,
        mean=test.difference,
        interval=test.interval,
        p=test.p_value,
        p_against=against,
        smallest=None
        if test.effect is None  # nothing but rounding spreads
        else stats.smallest_difference(stdev(drafted.values), len(drafted.values), alpha=alpha),
    )


def _adjust(drafted: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same with p-values adjusted over all that were tested."""
    claimed = iter(stats.holm([each.p for each in drafted if each.p is not None]))
    against = iter(stats.holm([each.p_against for each in drafted if each.p_against is not None]))
    return tuple(
        each if each.p is None else replace(each, p_holm=next(claimed), p_against=next(against))
        for each in drafted
    )


# ---- words ---------------------------------------------------------------------------------------

_METRICS: Mapping[str, str] = {
    "higher accuracy": "accuracy",
    "above published": "accuracy",
    "lower feature ratio": "the feature ratio",
    "harder classes open more channels": "the rank correlation",
}

_UNITS: Mapping[str, str] = {
    "higher accuracy": " points",
    "above published": " points",
    "lower feature ratio": " of the ratio",
    "harder classes open more channels": " of rho",
}


def _note(claim: Claim, ruling: Ruling, comparisons: Sequence[Comparison]) -> str:
    if ruling == "not run":
        return _not_run(claim)
    holding = [each for each in comparisons if each.holds]
    failing = [each for each in comparisons if each.fails]
    unclear = [each for each in comparisons if not (each.holds or each.fails or each.lacks)]
    untested = [each for each in comparisons if each.lacks]
    sentences = []
    if failing:
        sentences.append(f"Significantly the other way: {_list(map(_numbers, failing))}")
    sentences.append(_holding(claim, holding, len(comparisons)))
    if unclear:
        sentences.append(f"Not told from no difference: {_list(map(_numbers, unclear))}")
    if untested:
        sentences.append(f"Missing: {_list(f'{each.lacks} on {each.column}' for each in untested)}")
    dropped = sum(len(each.dropped) for each in comparisons)
    if dropped:
        sentences.append(f"Left out, as {_METRICS[claim.kind]} is undefined: {_rounds(dropped)}")
    return ". ".join([*sentences, *_reach(claim, comparisons)]) + "."


def _not_run(claim: Claim) -> str:
    if claim.others:
        return f"No column has runs of {claim.row} and of {' or '.join(claim.others)}."
    return f"No run of {claim.row} in a column that the claim is about."


def _holding(claim: Claim, holding: Sequence[Comparison], count: int) -> str:
    """How many comparisons hold, and how large their values and p-values are."""
    if count == 1:
        said = "The one comparison holds" if holding else "The one comparison does not hold"
    else:
        said = f"{len(holding)} of {count} comparisons hold"
    if not holding:
        return said
    means = sorted(each.mean or 0.0 for each in holding)
    rounds = sorted({len(each.values) for each in holding})
    largest = max(each.p_holm or 0.0 for each in holding)
    return (
        f"{said}, by {_range([f'{mean:.3g}' for mean in means])}{_UNITS[claim.kind]} over "
        f"{_range([str(number) for number in rounds])} rounds, adjusted p at most {p_text(largest)}"
    )


def _numbers(comparison: Comparison) -> str:
    """One comparison that does not hold."""
    against = f" against {comparison.other}" if comparison.other else ""
    said = (
        f"{comparison.row}{against} on {comparison.column} {comparison.mean or 0.0:+.3g} "
        f"(adjusted p {p_text(comparison.p_against if comparison.fails else comparison.p_holm)}, "
        f"{_rounds(len(comparison.values))}"
    )
    if comparison.smallest is None or comparison.fails:
        return said + ")"
    return f"{said}, enough to show {comparison.smallest:.2g})"


def _reach(claim: Claim, comparisons: Sequence[Comparison]) -> list[str]:
    """What the verdict speaks of: scales that are not the paper's, data that are not."""
    by_scale: dict[Departures, list[Column]] = {}
    for each in comparisons:
        same = by_scale.setdefault(each.departures, [])
        same += [each.column] if each.column not in same else []
    sentences = []
    if any(by_scale):
        scales = [
            (scale(claim.table, departures, columns) or "at the full protocol")
            + (f" on {_list(map(str, columns))}" if len(by_scale) > 1 else "")
            for departures, columns in by_scale.items()
        ]
        those = "that scale" if len(scales) == 1 else "those scales"
        sentences.append(f"Measured {' and '.join(scales)}, so it speaks of {those} only")
    columns = dict.fromkeys(each.column for each in comparisons)
    strange = [str(column) for column in columns if column not in claim.table.columns]
    if strange:
        sentences.append(f"Not of the paper's table: {_list(strange)}")
    return sentences


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"


def _range(texts: Sequence[str]) -> str:
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _list(names: Iterable[str]) -> str:
    """The first few of them, and how many more there are."""
    every = list(names)
    more = [f"{len(every) - NAMED} more"] if len(every) > NAMED else []
    return ", ".join([*every[:NAMED], *more])


# ---- the paper's own numbers ---------------------------------------------------------------------

STATED: tuple[tuple[Column, str, str], ...] = (
    (Column("mnist", "vgg16"), "ce", "0.89"),
    (Column("cifar100", "vgg16"), "ce", "1"),
    (Column("cars196", "vgg16"), "ce", "3.33"),
    (Column("cars196", "resnet18"), "fical", "1.03"),
    (Column("mnist", "vgg16"), "fical", "0.1"),
    (Column("cifar100", "vgg16"), "fical", "0.51"),
    (Column("cars196", "vgg16"), "a-softmax", "1.44"),
)
"""Column, row and gain of CC-Loss over it in percentage points, as the text of sec. 3.3 has it."""


def published_inconsistencies() -> list[str]:
    """Where the paper's own numbers do not fit together, a sentence each."""
    return [*_impossible_p_values(), *_misstated_gains(), *_better_than_baseline()]


def _impossible_p_values() -> list[str]:
    """P-values of Table 3 that five rounds with Table 1's mean ± margin do not give.

    The paper does not say whether its test has one side or two.
    """
    sentences, one_sided_only = [], []
    for column, baseline in BASELINES.items():
        printed, p = TABLE1.published["cc", column], P_VALUES[column]
        one_sided = possible_p(printed, baseline, "greater")
        two_sided = possible_p(printed, baseline, "two-sided")
        if _within(p, one_sided):
            one_sided_only += [] if _within(p, two_sided) else [str(column)]
            continue
        sentences.append(
            f"Table 3 prints p = {p_text(p)} on {column}; Table 1's {printed.text} against "
            f"{baseline.text} allows {_ends(one_sided)} one-sided and {_ends(two_sided)} two-sided."
        )
    if one_sided_only:
        sentences.append(
            f"The p-values of Table 3 on {', '.join(one_sided_only)} fit Table 1 as one-sided ones "
            "only; the paper does not say that its test is one-sided."
        )
    return sentences


def _ends(possible: stats.Interval) -> str:
    return f"{p_text(possible.low)} to {p_text(possible.high)}"


def _within(p: float, possible: stats.Interval) -> bool:
    """Whether a p-value printed to two digits may lie in a range."""
    half = 0.5 * 10.0 ** (int(f"{p:e}".partition("e")[2]) - 1)
    return possible.low - half <= p <= possible.high + half


def _misstated_gains() -> list[str]:
    """Gains in the text that are not the difference of Table 1's means."""
    sentences = []
    for column, row, text in STATED:
        gain = _gain(TABLE1.published["cc", column], TABLE1.published[row, column])
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        if abs(gain - float(text)) > half + 1e-9:  # 1e-9: the means are sums of binary fractions
            sentences.append(
                f"Sec. 3.3 has CC-Loss {text} points above {row} on {column}, Table 1 {gain:.2f}."
            )
    return sentences


def _gain(published: Published, other: Published) -> float:
    return published.mean - other.mean


def _better_than_baseline() -> list[str]:
    """Losses of Table 1 above what Table 3 tests against."""
    return [
        f"Table 1 has {row} at {published.text} on {column}, above CC-Loss at {ours.text}; Table 3 "
        f"tests against {BASELINES[column].text} there."
        for (row, column), published in TABLE1.published.items()
        if row != "cc"
        and _gain(ours := TABLE1.published["cc", column], published) < 0
        and published != BASELINES[column]
    ]


# ---- files ---------------------------------------------------------------------------------------


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """A Markdown table, one line a claim."""
    lines = [["claim", "source", "verdict", "note"]]
    lines += [
        [escape_markdown(text) for text in (each.claim.statement, each.claim.source)]
        + [f"**{each.verdict}**", escape_markdown(each.note)]
        for each in verdicts
    ]
    return markdown_table(lines, numbers=False)


def to_csv(verdicts: Sequence[Verdict]) -> str:
    """One line a comparison, numbers in full precision; a claim without any has a line as well."""
    return csv_text(
        [_plain(verdict, each) for verdict in verdicts for each in verdict.comparisons or (None,)]
    )


_FIELDS = (
    "claim",
    "verdict",
    "column",
    "departures",
    "row",
    "other",
    "rounds",
    "dropped",
    "mean",
    "low",
    "high",
    "p",
    "p_holm",
    "p_against",
    "smallest",
    "lacks",
)
"""Of a line of the CSV file."""


def _plain(verdict: Verdict, comparison: Comparison | None) -> dict[str, Any]:
    line: dict[str, Any] = {name: getattr(comparison, name, None) for name in _FIELDS}
    line |= {"claim": verdict.claim.name, "verdict": verdict.verdict}
    if comparison is not None:
        interval = comparison.interval
        line |= {
            "departures": departures_text(comparison.departures),
            "rounds": len(comparison.values),
            "dropped": len(comparison.dropped),
            "low": interval and interval.low,
            "high": interval and interval.high,
        }
    return line


def write(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Writes ``tables/claims.md`` and ``tables/claims.csv`` and returns their paths.

    Raises:
        InputError: a file stands where the folder should be.
        OSError: a file could not be written.
    """
    texts = {"claims.md": to_markdown(verdicts), "claims.csv": to_csv(verdicts)}
    return write_texts(folder / "tables", texts)
