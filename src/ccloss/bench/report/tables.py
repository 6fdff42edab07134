"""The comparison of methods as a table: one row a method, means over its rounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.protocol import rounds_by_method
from ccloss.bench.report.text import csv_text, escape_latex, escape_markdown, markdown_table
from ccloss.bench.statistics import AccuracyMargin, Interval, accuracy_margin, holm, paired_test
from ccloss.training.records import Record

_UNDEFINED = "–"


@dataclass(frozen=True)
class Row:
    """One method; every number but the margin is a mean over its rounds.

    Attributes:
        method: the method's name.
        accuracy: top-1 accuracy at the last epoch, in %, its margin, and the number of rounds.
        top5: top-5 accuracy, in %.
        nll: negative log-likelihood, in nats.
        calibration_error: expected calibration error, in %.
        feature_ratio: mean intra- over mean inter-class squared distance of the features; ``None``
            where a round has none.
        attention_ratio: the same of the attention; ``None`` without attention.
        seconds: wall time of a round, evaluation included.
        images_per_second: training images over training time.
        parameters: number of trained scalars.
    """

    method: str
    accuracy: AccuracyMargin
    top5: float | None
    nll: float | None
    calibration_error: float | None
    feature_ratio: float | None
    attention_ratio: float | None
    seconds: float
    images_per_second: float
    parameters: int

    @property
    def rounds(self) -> int:
        """Number of rounds behind the means."""
        return self.accuracy.rounds


@dataclass(frozen=True)
class Difference:
    """A method against the first one, over the seeds that both have.

    Attributes:
        rounds: number of those seeds, two or more.
        mean: of method minus first method, in percentage points.
        interval: its 95 % bootstrap interval.
        p: two-sided, of the paired t-test, adjusted over the table's methods (Holm).
    """

    rounds: int
    mean: float
    interval: Interval
    p: float


def comparison(records: Sequence[Record]) -> list[Row]:
    """One row a method, in the order first met.

    Raises:
        InputError: there is no record, or they cannot be compared fairly: two of them differ in
            more than the loss, its options, attention and seed, or one method has a seed twice.
    """
    return [_row(method, rounds) for method, rounds in rounds_by_method(records).items()]


def differences(records: Sequence[Record]) -> dict[str, Difference]:
    """Each method against the first; those that share fewer than two seeds with it have none.

    Raises:
        InputError: the records cannot be compared, as in `comparison`.
    """
    (_, first), *others = rounds_by_method(records).items()
    before = {record.seed: record.accuracy for record in first}
    tests = {}
    for method, rounds in others:
        pairs = [(each.accuracy, before[each.seed]) for each in rounds if each.seed in before]
        if len(pairs) > 1:
            tests[method] = paired_test(*zip(*pairs, strict=True))
    adjusted = holm([test.p_value for test in tests.values()])
    return {
        method: Difference(test.rounds[0], test.difference, test.interval, p)
        for (method, test), p in zip(tests.items(), adjusted, strict=True)
    }


def describe(records: Sequence[Record]) -> str:
    """The caption of a comparison: what was run, where, and what its columns mean.

    Raises:
        InputError: the records cannot be compared, as in `comparison`.
    """
    counts = sorted({len(rounds) for rounds in rounds_by_method(records).values()})
    first = records[0]
    experiment, evaluation = first.experiment, first.evaluation
    rounds = (
        _count(counts[0], "round") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} rounds"
    )
    return (
        f"{experiment['data']}, {experiment['backbone']}, {_count(experiment['epochs'], 'epoch')}, "
        f"{rounds} a method, on {_devices(records)}. "
        f"Accuracy is that of the last epoch on the {evaluation['images']} images of the "
        f"{evaluation['split']} split, as mean ± margin: the largest absolute deviation of a round "
        "from the mean. Other columns are means over rounds. "
        "A ratio is the mean intra-class over the mean inter-class squared distance: "
        "lower is tighter. "
        "Time is wall time on the device named, evaluation included."
    )


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headers and the text of each row, rounded for reading."""
    unit, scale = ("min", 60) if any(row.seconds >= 120 for row in rows) else ("s", 1)
    headers = [
        "method",
        "accuracy (%)",
        "rounds",
        "top-5 (%)",
        "NLL (nats)",
        "calibration error (%)",
        "feature ratio",
        "attention ratio",
        f"time a round ({unit})",
        "images/s",
        "parameters",
    ]
    return headers, [
        [
            row.method,
            str(row.accuracy),
            str(row.rounds),
            _fixed(row.top5, 2),
            _fixed(row.nll, 4),
            _fixed(row.calibration_error, 2),
            ratio_text(row.feature_ratio),
            ratio_text(row.attention_ratio),
            _fixed(row.seconds / scale, 1),
            _fixed(row.images_per_second, 0),
            f"{row.parameters:,}",
        ]
        for row in rows
    ]


def ratio_text(value: float | None) -> str:
    """A ratio to three significant digits, since ratios span orders of magnitude."""
    return _UNDEFINED if value is None else f"{value:#.3g}".rstrip(".")


def to_markdown(rows: Sequence[Row], caption: str) -> str:
    """The caption and, below it, a Markdown table."""
    headers, body = cells(rows)
    lines = [[escape_markdown(cell) for cell in line] for line in (headers, *body)]
    return f"{caption}\n\n{markdown_table(lines, numbers=True)}"


def to_latex(rows: Sequence[Row], caption: str) -> str:
    """A table of the booktabs package with its caption."""
    headers, body = cells(rows)
    lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in (headers, *body)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_csv(rows: Sequence[Row]) -> str:
    """One line a method, numbers in full precision; an undefined number is empty."""
    return csv_text([_plain(row) for row in rows])


def write(rows: Sequence[Row], folder: Path, caption: str) -> list[Path]:
    """Writes ``comparison.md``, ``.csv`` and ``.tex``, and returns their paths.

    Raises:
        InputError: a file stands where the folder should be.
    """
    texts = {
        "comparison.md": to_markdown(rows, caption),
        "comparison.csv": to_csv(rows),
        "comparison.tex": to_latex(rows, caption),
    }
    return write_texts(folder, texts)


def _row(method: str, rounds: Sequence[Record]) -> Row:
    return Row(
        method=method,
        accuracy=accuracy_margin([record.accuracy for record in rounds]),
        top5=mean_of(rounds, "top5"),
        nll=mean_of(rounds, "nll"),
        calibration_error=mean_of(rounds, "calibration_error"),
        feature_ratio=mean_of(rounds, "feature_ratio"),
        attention_ratio=mean_of(rounds, "attention_ratio"),
        seconds=fmean(record.seconds for record in rounds),
        images_per_second=fmean(record.images_per_second for record in rounds),
        parameters=rounds[0].parameters,
    )


def mean_of(rounds: Iterable[Record], metric: str) -> float | None:
    """A metric's mean; undefined if it is so in any round, lest the mean hide a collapsed one."""
    values: list[Any] = [record.evaluation.get(metric) for record in rounds]
    return fmean(values) if values and None not in values else None


def _plain(row: Row) -> dict[str, Any]:
    fields = dict(vars(row))
    accuracy = fields.pop("accuracy")
    return {
        "method": fields.pop("method"),
        "rounds": accuracy.rounds,
        "accuracy_mean": accuracy.mean,
        "accuracy_margin": accuracy.margin,
        **fields,
    }


def _devices(records: Sequence[Record]) -> str:
    """The devices of the runs, each once."""
    names = [
        f"{record.provenance.get('device', 'an unknown device')} "
        f"({record.provenance.get('processor', 'unknown processor')})"
        for record in records
    ]
    return ", ".join(dict.fromkeys(names))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fixed(value: float | None, digits: int) -> str:
    return _UNDEFINED if value is None else f"{value:.{digits}f}"
