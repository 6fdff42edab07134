"""The comparison of methods as a table: one row a method, means over its rounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ccloss.bench.comparisons import Comparison
from ccloss.bench.groups import Rounds, Setting
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.paper_tables import MARK, accuracy_interval
from ccloss.bench.report.text import (
    NONE,
    count,
    csv_text,
    escape_latex,
    escape_markdown,
    interval_text,
    listed,
    markdown_table,
    p_text,
    ratio_text,
    span,
)
from ccloss.bench.report.verdicts import family_words
from ccloss.bench.statistics import AccuracyMargin, Interval, accuracy_margin
from ccloss.training.records import Record


@dataclass(frozen=True)
class Row:
    """One method; every number but the margin is a mean over its rounds.

    Attributes:
        method: name of the method.
        accuracy: top-1 accuracy at the last epoch, in %, its margin, and the number of rounds.
        interval: 95 % t interval of the mean accuracy.
        comparison: this method against the first one; ``None`` for the first one.
        top5: top-5 accuracy, in %.
        nll: negative log-likelihood, in nats.
        calibration_error: expected calibration error, in %.
        feature_ratio: mean intra-class over mean inter-class squared distance of the features;
            ``None`` if a round has none.
        attention_ratio: the same of the attention; ``None`` without attention.
        seconds: wall time of a round, evaluation included.
        images_per_second: training images over training time.
        parameters: number of trained scalars.
    """

    method: str
    accuracy: AccuracyMargin
    interval: Interval | None
    comparison: Comparison | None
    top5: float | None
    nll: float | None
    calibration_error: float | None
    feature_ratio: float | None
    attention_ratio: float | None
    seconds: float
    images_per_second: float
    parameters: int


def rows(setting: Setting) -> list[Row]:
    """One row a method; the first one is the one that the others are compared with."""
    first, *_ = setting.methods
    return [
        _row(method, rounds, _against(setting, method, first))
        for method, rounds in setting.methods.items()
    ]


def _against(setting: Setting, method: str, first: str) -> Comparison | None:
    return None if method == first else setting.comparison(method, first)


def _row(method: str, rounds: Rounds, comparison: Comparison | None) -> Row:
    records = list(rounds.values())
    accuracies = [record.accuracy for record in records]
    return Row(
        method=method,
        accuracy=accuracy_margin(accuracies),
        interval=accuracy_interval(accuracies),
        comparison=comparison,
        top5=mean_metric(records, "top5"),
        nll=mean_metric(records, "nll"),
        calibration_error=mean_metric(records, "calibration_error"),
        feature_ratio=mean_metric(records, "feature_ratio"),
        attention_ratio=mean_metric(records, "attention_ratio"),
        seconds=fmean(record.seconds for record in records),
        images_per_second=fmean(record.images_per_second for record in records),
        parameters=records[0].parameters,
    )


def mean_metric(records: Iterable[Record], metric: str) -> float | None:
    """Mean of a metric; undefined if it is undefined in any round."""
    values: list[Any] = [record.evaluation.get(metric) for record in records]
    return fmean(values) if values and None not in values else None


def caption(setting: Setting) -> str:
    """What was run and where, and what the columns mean."""
    return f"{description(setting)} {reading_note()}"


def description(setting: Setting) -> str:
    """What was run: data, backbone, scale, rounds, devices and test images."""
    experiment, evaluation = setting.first.experiment, setting.first.evaluation
    rounds = span([len(each) for each in setting.methods.values()], "round")
    return (
        f"{experiment['data']}, {experiment['backbone']}, {scale(setting)}, {rounds} a method, on "
        f"{listed(devices(setting.records))}. Evaluated on {evaluation['images']:,} images of the "
        f"{evaluation.get('split', 'test')} split."
    )


def reading_note() -> str:
    """What the columns and signs of a comparison of methods mean."""
    return (
        "Accuracy is that of the last epoch as mean ± margin, the largest absolute deviation of a "
        "round from the mean. Intervals are 95 % t intervals. Other columns are means over rounds. "
        "A ratio is the mean intra-class over the mean inter-class squared distance: lower is more "
        f"compact. {MARK} marks a method whose accuracy differs significantly from the first one. "
        f"{family_words()}"
    )


def scale(setting: Setting) -> str:
    """Epochs and limits of a setting: ``5 epochs, 10,000 training images``."""
    fields = setting.first.experiment
    parts = [count(fields["epochs"], "epoch")]
    for name, noun in (("train_limit", "training image"), ("max_steps", "step")):
        if fields.get(name):
            parts.append(f"at most {count(fields[name], noun)}")
    return ", ".join(parts)


def devices(records: Sequence[Record]) -> list[str]:
    """The devices of the runs, each once."""
    names = (
        f"{record.provenance.get('device', 'an unknown device')} "
        f"({record.provenance.get('processor', 'unknown processor')})"
        for record in records
    )
    return list(dict.fromkeys(names))


def texts(found: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headers, and the text of each row, rounded for reading.

    Columns without any number are left out.
    """
    unit, seconds = ("min", 60) if any(row.seconds >= 120 for row in found) else ("s", 1)
    first = found[0].method
    headers = [
        "method",
        "accuracy (%)",
        "rounds",
        "95 % interval",
        f"minus {first} (points)",
        "interval of difference",
        "adjusted p",
        "top-5 (%)",
        "NLL (nats)",
        "calibration error (%)",
        "feature ratio",
        "attention ratio",
        f"time a round ({unit})",
        "images/s",
        "parameters",
    ]
    body = [
        [
            row.method,
            str(row.accuracy) + _mark(row),
            str(row.accuracy.rounds),
            interval_text(row.interval),
            *_difference(row.comparison),
            _fixed(row.top5, 2),
            _fixed(row.nll, 4),
            _fixed(row.calibration_error, 2),
            ratio_text(row.feature_ratio),
            ratio_text(row.attention_ratio),
            _fixed(row.seconds / seconds, 1),
            _fixed(row.images_per_second, 0),
            f"{row.parameters:,}",
        ]
        for row in found
    ]
    shown = [place for place in range(len(headers)) if any(line[place] != NONE for line in body)]
    return [headers[place] for place in shown], [[line[place] for place in shown] for line in body]


def _mark(row: Row) -> str:
    return MARK if row.comparison and row.comparison.sign else ""


def _difference(comparison: Comparison | None) -> list[str]:
    if comparison is None or comparison.estimate is None:
        return [NONE, NONE, NONE]
    return [
        f"{comparison.estimate:+.2f}",
        interval_text(comparison.interval, "+.2f"),
        p_text(comparison.p_adjusted),
    ]


def _fixed(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def to_markdown(setting: Setting) -> str:
    """The caption, and a Markdown table below it."""
    headers, body = texts(rows(setting))
    lines = [[escape_markdown(cell) for cell in line] for line in (headers, *body)]
    return f"{escape_markdown(caption(setting))}\n\n{markdown_table(lines, numbers=True)}"


def to_latex(setting: Setting) -> str:
    """A table of the booktabs package with its caption."""
    headers, body = texts(rows(setting))
    lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in (headers, *body)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escape_latex(caption(setting))}}}",
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


def to_csv(setting: Setting) -> str:
    """One line a method, numbers in full precision; an undefined number is empty."""
    return csv_text([_plain(row) for row in rows(setting)])


def _plain(row: Row) -> dict[str, Any]:
    fields = dict(vars(row))
    accuracy, interval = fields.pop("accuracy"), fields.pop("interval")
    comparison = fields.pop("comparison")
    return {
        "method": fields.pop("method"),
        "rounds": accuracy.rounds,
        "accuracy_mean": accuracy.mean,
        "accuracy_margin": accuracy.margin,
        "accuracy_low": interval and interval.low,
        "accuracy_high": interval and interval.high,
        "difference": comparison and comparison.estimate,
        "p_adjusted": comparison and comparison.p_adjusted,
        "error_estimate": comparison and comparison.method,
        **fields,
    }


def write(setting: Setting, folder: Path) -> list[Path]:
    """Writes ``comparison.md``, ``.csv`` and ``.tex``, and returns their paths.

    Raises:
        InputError: there is a file where the folder should be.
    """
    texts = {
        "comparison.md": to_markdown(setting),
        "comparison.csv": to_csv(setting),
        "comparison.tex": to_latex(setting),
    }
    return write_texts(folder, texts)
