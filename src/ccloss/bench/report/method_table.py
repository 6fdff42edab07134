"""The comparison of methods as a table: one row per method, means over its rounds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ccloss.bench.comparisons import Comparison
from ccloss.bench.groups import Rounds, Setting
from ccloss.bench.report import provenance
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.printed import MARK, Cell, PrintedTable, to_latex, to_markdown
from ccloss.bench.report.text import (
    NONE,
    csv_text,
    interval_text,
    listed,
    p_text,
    ratio_text,
    span,
)
from ccloss.bench.report.verdicts import family_words
from ccloss.bench.statistics import AccuracyMargin, Interval, accuracy_margin, mean_interval
from ccloss.data.names import counted
from ccloss.training.records import Record

RATIO = "ratio"
"""Format with three significant digits."""

METRICS = {
    "top5": ("top-5 (%)", ".2f"),
    "nll": ("NLL (nats)", ".4f"),
    "calibration_error": ("calibration error (%)", ".2f"),
    "feature_ratio": ("feature ratio", RATIO),
    "attention_ratio": ("attention ratio", RATIO),
    "feature_merged_pairs": ("merged pairs, features (%)", ".1f"),
    "attention_merged_pairs": ("merged pairs, attention (%)", ".1f"),
    "feature_nearest_mean_accuracy": ("nearest mean, features (%)", ".2f"),
    "attention_nearest_mean_accuracy": ("nearest mean, attention (%)", ".2f"),
}
"""Metric of an evaluation -> its header and format."""


@dataclass(frozen=True)
class Row:
    """One method; every number but the margin is a mean over its rounds.

    Attributes:
        method: name of the method.
        accuracy: top-1 accuracy at the last epoch, in %, its margin, and the number of rounds.
        interval: 95 % t interval of the mean accuracy.
        comparison: this method against the first one; ``None`` for the first one.
        metrics: those of :data:`METRICS`; ``None`` if a round has none.
        seconds: wall time of a round, evaluation included.
        images_per_second: training images over training time.
        parameters: number of trained scalars.
    """

    method: str
    accuracy: AccuracyMargin
    interval: Interval | None
    comparison: Comparison | None
    metrics: Mapping[str, float | None]
    seconds: float
    images_per_second: float
    parameters: int


Columns = Mapping[str, Callable[[Row], Cell]]
"""Header -> cell of a row."""


def rows(setting: Setting) -> list[Row]:
    """One row per method; the first one is the one that the others are compared with."""
    first, *_ = setting.methods
    return [
        _row(method, rounds, None if method == first else setting.comparison(method, first))
        for method, rounds in setting.methods.items()
    ]


def _row(method: str, rounds: Rounds, comparison: Comparison | None) -> Row:
    records = list(rounds.values())
    accuracies = [record.accuracy for record in records]
    return Row(
        method=method,
        accuracy=accuracy_margin(accuracies),
        interval=mean_interval(accuracies),
        comparison=comparison,
        metrics={name: _mean_metric(records, name) for name in METRICS},
        seconds=fmean(record.seconds for record in records),
        images_per_second=fmean(record.images_per_second for record in records),
        parameters=records[0].parameters,
    )


def _mean_metric(records: Iterable[Record], metric: str) -> float | None:
    """Mean of a metric; undefined if it is undefined in any round."""
    values: list[Any] = [record.evaluation.get(metric) for record in records]
    return fmean(values) if values and None not in values else None


def caption(setting: Setting) -> str:
    """What was run and where, and what the columns mean."""
    return f"{description(setting)} {reading_note()}"


def description(setting: Setting) -> str:
    """What was run: data, backbone, scale, rounds, devices, test images, and unequal hardware."""
    experiment, evaluation = setting.first.experiment, setting.first.evaluation
    rounds = span([len(each) for each in setting.methods.values()], "round")
    text = (
        f"{experiment['data']}, {experiment['backbone']}, {scale(setting)}, {rounds} per method, "
        f"on {listed(devices(setting.records))}. Evaluated on {evaluation['images']:,} images of "
        f"the {evaluation.get('split', 'test')} split."
    )
    return " ".join([text, *(f"Warning: {each}." for each in provenance.unequal(setting.records))])


def reading_note() -> str:
    """What the columns and signs of a comparison of methods mean."""
    return (
        "Accuracy is that of the last epoch as mean ± margin, the largest absolute deviation of a "
        "round from the mean. Intervals are 95 % t intervals. Other columns are means over rounds. "
        "A ratio is the mean intra-class over the mean inter-class squared distance: lower is more "
        "compact. Two classes are merged if the squared distance of their means is at most a tenth "
        "of the mean squared distance of class means. Nearest mean is the accuracy of a classifier "
        f"that chooses the class with the nearest mean. {MARK} marks a method whose accuracy "
        f"differs significantly from that of the first method. {family_words()}"
    )


def scale(setting: Setting) -> str:
    """Epochs and limits of a setting: ``5 epochs, 10,000 training images``."""
    fields = setting.first.experiment
    parts = [counted(fields["epochs"], "epoch")]
    for name, noun in (("train_limit", "training image"), ("max_steps", "step")):
        if fields.get(name):
            parts.append(f"at most {counted(fields[name], noun)}")
    return ", ".join(parts)


def devices(records: Sequence[Record]) -> list[str]:
    """The devices of the runs, each once."""
    names = (
        f"{record.provenance.get('device', 'an unknown device')} "
        f"({record.provenance.get('processor', 'unknown processor')})"
        for record in records
    )
    return list(dict.fromkeys(names))


def tables(setting: Setting) -> list[PrintedTable]:
    """Two printed tables, rounded for reading: accuracy, and the other metrics.

    Columns without any number are left out.
    """
    found = rows(setting)
    columns = _accuracy_columns(found[0].method), _other_columns(found)
    return [_printed(each, found) for each in columns]


def _printed(columns: Columns, found: Sequence[Row]) -> PrintedTable:
    cells = {name: [cell(row) for row in found] for name, cell in columns.items()}
    shown = {name: own for name, own in cells.items() if any(cell.text != NONE for cell in own)}
    return PrintedTable([("", name) for name in shown], list(zip(*shown.values(), strict=True)))


def _accuracy_columns(first: str) -> Columns:
    return {
        "method": lambda row: Cell(row.method),
        "accuracy (%)": lambda row: Cell(str(row.accuracy), mark=_mark(row)),
        "rounds": lambda row: Cell(str(row.accuracy.rounds)),
        "95 % interval": lambda row: Cell(interval_text(row.interval)),
        f"minus {first} (points)": lambda row: Cell(_estimate(row.comparison)),
        "interval of difference": lambda row: Cell(
            interval_text(row.comparison and row.comparison.interval, "+.2f")
        ),
        "adjusted p": lambda row: Cell(p_text(row.comparison and row.comparison.p_adjusted)),
    }


def _other_columns(found: Sequence[Row]) -> Columns:
    unit, seconds = ("min", 60) if any(row.seconds >= 120 for row in found) else ("s", 1)
    return {
        "method": lambda row: Cell(row.method),
        **{header: _metric(name, form) for name, (header, form) in METRICS.items()},
        f"time per round ({unit})": lambda row: Cell(f"{row.seconds / seconds:.1f}"),
        "images/s": lambda row: Cell(f"{row.images_per_second:.0f}"),
        "parameters": lambda row: Cell(f"{row.parameters:,}"),
    }


def _metric(name: str, form: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = row.metrics[name]
        return Cell(ratio_text(value) if value is None or form == RATIO else f"{value:{form}}")

    return cell


def _mark(row: Row) -> str:
    return MARK if row.comparison and row.comparison.sign else ""


def _estimate(comparison: Comparison | None) -> str:
    if comparison is None or comparison.estimate is None:
        return NONE
    return f"{comparison.estimate:+.2f}"


def to_csv(setting: Setting) -> str:
    """One line per method, numbers in full precision; an undefined number is empty."""
    return csv_text([_plain(row) for row in rows(setting)])


def _plain(row: Row) -> dict[str, Any]:
    fields = dict(vars(row))
    accuracy, interval = fields.pop("accuracy"), fields.pop("interval")
    comparison, metrics = fields.pop("comparison"), fields.pop("metrics")
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
        **metrics,
        **fields,
    }


def write(setting: Setting, folder: Path) -> list[Path]:
    """Writes ``comparison.md``, ``.csv`` and ``.tex``, and returns their paths.

    Raises:
        InputError: there is a file where the folder should be.
    """
    text, printed = caption(setting), tables(setting)
    texts = {
        "comparison.md": to_markdown(text, printed),
        "comparison.csv": to_csv(setting),
        "comparison.tex": to_latex(text, printed, "comparison"),
    }
    return write_texts(folder, texts)
