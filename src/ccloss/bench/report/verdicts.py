"""Verdicts on the paper's claims.

A claim is judged separately for each data set, backbone and scale. The *headline* of a claim uses
only the paper's own columns at its full protocol:

* **supported**: every column of the claim was run, and every comparison is significant in the
  claimed direction;
* **contradicted**: a comparison is significant in the opposite direction;
* **not enough data**: anything else;
* **not run**: no column was run at the full protocol.

Every other column is listed below the headline with one of *same direction*, *opposite*,
*inconclusive* and *not enough data*. Columns are never pooled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ccloss.bench.comparisons import (
    EQUIVALENCE_MARGIN,
    LEVEL,
    SKEWED_RATE,
    Comparison,
    adjust,
    compare_with_zero,
    paired_differences,
)
from ccloss.bench.groups import TableColumn, family_size, table_columns, values
from ccloss.bench.paper.claims import ACCURACY, CLAIMS, MOST_ROUNDS, Claim, infeasible
from ccloss.bench.paper.tables import BASELINES, TABLES, Column, Deviations
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.text import csv_text, escape_markdown, listed, p_text
from ccloss.bench.scale import scale_text
from ccloss.bench.statistics import one_sample_p
from ccloss.training.records import Record

PUBLISHED_LEVEL = 5e-3
"""Level of the paper's own test in Table 3."""

Outcome = Literal["supported", "contradicted", "inconclusive", "not enough data"]
Headline = Literal["supported", "contradicted", "not enough data", "not run"]

ELSEWHERE: Mapping[str, str] = {
    "supported": "same direction",
    "contradicted": "opposite",
    "inconclusive": "inconclusive",
    "not enough data": "not enough data",
}
"""How an outcome is reported outside the paper's columns and its full protocol."""


@dataclass(frozen=True)
class Judgement:
    """One claim in one column at one scale.

    Attributes:
        column: data set and backbone, or two columns whose gains are compared.
        deviations: fields in which the runs deviate from the protocol.
        scale: the same in words.
        comparisons: those it rests on, tested or not.
        outcome: what they say together; ``None`` for the paper's own test outside its protocol.
        notes: one text a comparison.
    """

    column: str
    deviations: Deviations
    scale: str
    comparisons: tuple[Comparison, ...]
    outcome: Outcome | None
    notes: tuple[str, ...]

    @property
    def label(self) -> str:
        """The outcome as it is reported outside the paper's columns and protocol."""
        return "no verdict" if self.outcome is None else ELSEWHERE[self.outcome]


@dataclass(frozen=True)
class Verdict:
    """What the runs say about a claim.

    Attributes:
        claim: of the paper.
        headline: from the paper's columns at its full protocol.
        summary: the headline in one sentence.
        full: judgements of the paper's columns at the full protocol.
        elsewhere: judgements at other scales, and of other data sets.
        infeasible: comparisons that no feasible number of rounds is expected to decide.
    """

    claim: Claim
    headline: Headline
    summary: str
    full: tuple[Judgement, ...]
    elsewhere: tuple[Judgement, ...]
    infeasible: tuple[str, ...]


def judge(records: Sequence[Record]) -> list[Verdict]:
    """One verdict for each claim of the paper, in its order."""
    columns = {name: table_columns(records, table) for name, table in TABLES.items()}
    return [_verdict(claim, columns[claim.table.name]) for claim in CLAIMS]


def _verdict(claim: Claim, columns: Sequence[TableColumn]) -> Verdict:
    if claim.contrasts:
        judgements = _contrasts(claim, columns)
        total = len(claim.contrasts)
    else:
        judged = ((_judge(claim, each), each) for each in columns if claim.covers(each.column))
        judgements = [
            (judgement, each.is_full and each.column in claim.columns)
            for judgement, each in judged
            if judgement is not None
        ]
        total = len(claim.columns)
    full = tuple(judgement for judgement, is_full in judgements if is_full)
    elsewhere = tuple(judgement for judgement, is_full in judgements if not is_full)
    headline = _headline(full, total)
    undecidable = tuple(infeasible(claim, family_size(claim)))
    return Verdict(claim, headline, _summary(claim, full, total), full, elsewhere, undecidable)


def _headline(full: Sequence[Judgement], total: int) -> Headline:
    if not full:
        return "not run"
    outcomes = [judgement.outcome for judgement in full]
    if "contradicted" in outcomes:
        return "contradicted"
    return "supported" if outcomes == ["supported"] * total else "not enough data"


def _summary(claim: Claim, full: Sequence[Judgement], total: int) -> str:
    if not full:
        return "Not run at the paper's full protocol."
    counts = {
        outcome: sum(judgement.outcome == outcome for judgement in full)
        for outcome in ("supported", "contradicted", "inconclusive", "not enough data")
    }
    counts["not run"] = total - len(full)
    text = ", ".join(f"{outcome} in {count}" for outcome, count in counts.items() if count)
    noun = "pairs of columns" if claim.contrasts else "columns"
    return f"Of {total} {noun} at the full protocol: {text}."


# ---- one column ----------------------------------------------------------------------------------


def _judge(claim: Claim, column: TableColumn) -> Judgement | None:
    """The claim in one column; ``None`` if nothing of it was run there."""
    if claim.published:
        return _judge_published(claim, column)
    found = [
        _compare(claim, row, other, column) if other else _against_zero(claim, row, column)
        for row, other in claim.pairs_in(column.column)
    ]
    if all(each.missing.endswith("was not run") for each in found):
        return None
    notes = [_note(claim, each, column.column) for each in found]
    return Judgement(
        str(column.column),
        column.deviations,
        scale_text(column),
        tuple(found),
        _outcome(claim, found),
        tuple(notes),
    )


def _compare(claim: Claim, row: str, other: str, column: TableColumn) -> Comparison:
    found = column.comparison(row, other, claim.metric)
    if claim.required_accuracy is None or found.missing:
        return found
    lowest = min(column.rows[name][seed].accuracy for name in (row, other) for seed in found.seeds)
    if lowest >= claim.required_accuracy:
        return found
    reason = (
        f"not judged: a round reaches {lowest:.1f} % and both networks must reach "
        f"{claim.required_accuracy:g} % in every round"
    )
    return Comparison(row, other, found.seeds, found.differences, reason, found.estimate)


def _against_zero(claim: Claim, row: str, column: TableColumn) -> Comparison:
    rounds = column.rows.get(row, {})
    measured = values(rounds, claim.metric)
    if rounds and not measured:
        return Comparison(row, "", (), (), "not recorded or not defined in any round")
    return adjust([compare_with_zero(row, measured)])[0]


def _outcome(claim: Claim, comparisons: Sequence[Comparison]) -> Outcome:
    signs = [claim.metric.sign * each.sign for each in comparisons]
    if -1 in signs:
        return "contradicted"
    if all(sign == 1 for sign in signs):
        return "supported"
    return "not enough data" if any(each.missing for each in comparisons) else "inconclusive"


def _note(claim: Claim, each: Comparison, column: Column) -> str:
    """One comparison in words: estimate, interval, p-value, and what the interval rules out."""
    name = f"{each.row} minus {each.other}" if each.other else f"{each.row}: {claim.metric.label}"
    if each.missing:
        return f"{name}: {each.missing}"
    assert each.interval is not None
    unit = f" {claim.metric.unit}" if claim.metric.unit else ""
    digits = ".2f" if claim.metric is ACCURACY else ".3g"
    test = f"{each.method} t-test" if each.other else "t-test"
    parts = [
        f"{name}: {each.estimate:+{digits}}{unit} (95 % interval {each.interval.low:+{digits}} to "
        f"{each.interval.high:+{digits}}, adjusted p {p_text(each.p_adjusted)} in a family of "
        f"{each.family}, {len(each.seeds)} rounds, {test})"
    ]
    gain = claim.published_gain((each.row, each.other), column)
    if gain is not None and each.excludes(gain):
        parts.append(f"excludes the published {gain:+.2f}")
    if claim.metric is ACCURACY and each.is_equivalent():
        parts.append(f"no difference larger than {EQUIVALENCE_MARGIN} points")
    return "; ".join(parts)


# ---- gains ---------------------------------------------------------------------------------------


def _contrasts(claim: Claim, columns: Sequence[TableColumn]) -> list[tuple[Judgement, bool]]:
    """The gains of two columns against each other, one family for each scale of both."""
    pairs = [
        (one, other)
        for first, second in claim.contrasts
        for one in columns
        for other in columns
        if (one.column, other.column) == (first, second) and one.deviations == other.deviations
    ]
    found = []
    for deviations in dict.fromkeys(one.deviations for one, _ in pairs):
        own = [pair for pair in pairs if pair[0].deviations == deviations]
        compared = adjust([_gain_difference(claim, *pair) for pair in own])
        found += [
            (_judge_contrast(claim, *pair, comparison), pair[0].is_full)
            for pair, comparison in zip(own, compared, strict=True)
            if comparison.seeds
        ]
    return found


def _gain_difference(claim: Claim, one: TableColumn, other: TableColumn) -> Comparison:
    ((row, baseline),) = claim.pairs
    first, second = (_gains(each, row, baseline) for each in (one, other))
    name = f"gain on {one.column} minus gain on {other.column}"
    images = [
        record.evaluation["images"]
        for each in (one, other)
        for rounds in each.rows.values()
        for record in rounds.values()
    ]
    return compare_with_zero(name, paired_differences(first, second), resolution=100 / min(images))


def _judge_contrast(
    claim: Claim, one: TableColumn, other: TableColumn, comparison: Comparison
) -> Judgement:
    (pair,) = claim.pairs
    gains = [claim.published_gain(pair, each.column) or 0.0 for each in (one, other)]
    note = _note(claim, comparison, one.column)
    if comparison.excludes(gains[0] - gains[1]):
        note += f"; excludes the published {gains[0] - gains[1]:+.2f}"
    return Judgement(
        f"{one.column} against {other.column}",
        one.deviations,
        scale_text(one),
        (comparison,),
        _outcome(claim, [comparison]),
        (note,),
    )


def _gains(column: TableColumn, row: str, other: str) -> dict[int, float]:
    """Seed -> accuracy of a row minus that of another."""
    first, second = (values(column.rows.get(name, {}), ACCURACY) for name in (row, other))
    return paired_differences(first, second)


# ---- Table 3 -------------------------------------------------------------------------------------


def _judge_published(claim: Claim, column: TableColumn) -> Judgement | None:
    """The paper's own test: rounds of CC-Loss, and of CE + CAM, against a published mean.

    It gives no verdict outside the full protocol.
    """
    if "cc" not in column.setting:
        return None
    baseline = BASELINES[column.column]
    notes, p_values = [], {}
    for method in ("cc", "ce+cam"):
        rounds = [record.accuracy for record in column.setting.get(method, {}).values()]
        if rounds:
            p = p_values[method] = one_sample_p(rounds, baseline.mean, "greater")
            tested = f"one-sided p {p_text(p)}" if p is not None else "not enough data for a test"
            mean = sum(rounds) / len(rounds)
            notes.append(f"{method}: {mean:.2f} against the published {baseline.text}, {tested}")
    outcome: Outcome | None = None
    if column.is_full:
        p = p_values["cc"]
        if p is None:
            outcome = "not enough data"
        elif p < PUBLISHED_LEVEL:
            outcome = "supported"
        else:
            outcome = "contradicted" if p > 1 - PUBLISHED_LEVEL else "inconclusive"
    return Judgement(
        str(column.column), column.deviations, scale_text(column), (), outcome, tuple(notes)
    )


# ---- files ---------------------------------------------------------------------------------------


def not_run(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts without any run, which a report names in one line."""
    return [each for each in verdicts if not each.full and not each.elsewhere]


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """A Markdown list, one entry a claim; claims that were not run are named in one line."""
    absent = not_run(verdicts)
    parts = []
    for verdict in verdicts:
        if verdict in absent:
            continue
        claim = verdict.claim
        head = f"- **{escape_markdown(claim.statement)}** ({claim.source}): **{verdict.headline}**."
        lines = [f"{head} {escape_markdown(verdict.summary)}"]
        lines += [f"  {escape_markdown(claim.remark)}."] if claim.remark else []
        for judgement, label in labelled(verdict):
            where = f"{judgement.column}, {judgement.scale}"
            lines.append(
                f"  - {escape_markdown(where)}: **{label}**. "
                f"{escape_markdown('. '.join(judgement.notes))}."
            )
        lines += [f"  - {escape_markdown(infeasible_text(verdict))}"] if verdict.infeasible else []
        parts.append("\n".join(lines))
    if absent:
        names = "; ".join(each.claim.statement.rstrip(".") for each in absent)
        parts.append(f"\nNot run: {escape_markdown(names)}.")
    return "\n".join(parts) + "\n"


def infeasible_text(verdict: Verdict) -> str:
    """Which comparisons cannot be decided, in one sentence."""
    return (
        f"From the published numbers, {MOST_ROUNDS} rounds have a power below 0.8 for "
        f"{listed(verdict.infeasible)}."
    )


def labelled(verdict: Verdict) -> list[tuple[Judgement, str]]:
    """Every judgement with its label, those of the headline first."""
    labelled = [(each, str(each.outcome)) for each in verdict.full]
    return labelled + [(each, each.label) for each in verdict.elsewhere]


def to_csv(verdicts: Sequence[Verdict]) -> str:
    """One line a comparison, numbers in full precision; a claim without any has a line as well."""
    lines: list[dict[str, Any]] = []
    for verdict in verdicts:
        shared = {"claim": verdict.claim.name, "headline": verdict.headline}
        for judgement, label in labelled(verdict):
            where = {**shared, "column": judgement.column, "outcome": label}
            where["deviations"] = ";".join(f"{k}={v}" for k, v in judgement.deviations)
            lines += [
                {**where, **_plain(each)}
                for each in judgement.comparisons or (Comparison("", "", (), ()),)
            ]
        if not verdict.full and not verdict.elsewhere:
            lines.append({**shared, "outcome": verdict.headline})
    return csv_text(lines)


def _plain(each: Comparison) -> dict[str, Any]:
    return {
        "row": each.row,
        "other": each.other,
        "rounds": len(each.seeds),
        "estimate": each.estimate,
        "low": each.interval and each.interval.low,
        "high": each.interval and each.interval.high,
        "p": each.p,
        "p_adjusted": each.p_adjusted,
        "family": each.family,
        "method": each.method,
        "missing": each.missing,
    }


def family_words() -> str:
    """How comparisons are tested, in a few sentences for a page and a document."""
    return (
        "Differences are paired by seed and tested with a t-test. Because accuracy is discrete, "
        "the square of half the difference that one test image makes is added to their variance. "
        "In families of four or more rows and five or more seeds, a linear model with an effect "
        "for each row and each seed gives a second estimate of the variance; comparisons of fewer "
        "than ten rounds use the larger of the two. P-values are adjusted (Holm) over all "
        "comparisons of one column at one scale, and "
        f"significant below {LEVEL}. In simulations this keeps the rate of false positives of a "
        "column below 0.05 if rounds scatter symmetrically around their mean. If one method has "
        f"occasional rounds far below its others, the rate can reach {SKEWED_RATE}."
    )


def write(verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Writes ``tables/claims.md`` and ``tables/claims.csv`` and returns their paths.

    Raises:
        InputError: there is a file where the folder should be.
        OSError: a file could not be written.
    """
    texts = {"claims.md": to_markdown(verdicts), "claims.csv": to_csv(verdicts)}
    return write_texts(folder / "tables", texts)
