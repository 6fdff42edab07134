"""The data of the page's charts, as JSON types."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ccloss.bench.groups import hardness_correlation
from ccloss.bench.statistics import mean_interval
from ccloss.training.records import Record

Epochs = Sequence[Mapping[str, Any]]
"""The metrics of one run."""

EPOCHS_SHOWN = 200
"""Longer curves are thinned out evenly."""

ACCURACIES = {"test": "Accuracy on the {split} split (%)", "train": "Accuracy in training (%)"}

TERMS = {
    "total": "Total loss",
    "ce": "Cross-entropy (nats)",
    "intra": "Sum of intra-class distances",
    "inter": "Sum of inter-class distances",
    "ratio": "Intra- over inter-class distance",
}
"""Headings of loss terms; other terms keep their name."""


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A number rounded to significant digits; ``None`` if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def curves(methods: Sequence[Sequence[Epochs]], split: str) -> list[dict[str, Any]]:
    """One entry per quantity, with a line per method: its mean, lowest and highest round by epoch.

    Args:
        methods: the metrics of each method's rounds.
        split: what was evaluated on.
    """
    names = dict.fromkeys(
        name
        for rounds in methods
        for metrics in rounds
        for line in metrics
        for name in line.get("terms") or {}
    )
    quantities: list[tuple[str, str, str, Callable[[Mapping[str, Any]], Any]]] = [
        ("accuracy", "test", ACCURACIES["test"].format(split=split), evaluated_accuracy),
        ("accuracy", "train", ACCURACIES["train"], lambda line: line.get("train_accuracy")),
        *(("term", name, TERMS.get(name, name), term(name)) for name in names),
    ]
    found = []
    for group, name, label, value in quantities:
        lines = [_curve(rounds, value) for rounds in methods]
        if any(line is not None for line in lines):
            log = group == "term" and _spans_decades(lines)
            found.append({"group": group, "name": name, "label": label, "log": log, "lines": lines})
    return found


def accuracies(methods: Sequence[Sequence[Record]]) -> list[dict[str, Any]]:
    """The accuracy of each method's rounds, their mean and its 95 % t interval."""
    lines = []
    for rounds in methods:
        values = [record.accuracy for record in rounds]
        interval = mean_interval(values)
        lines.append(
            {
                "rounds": [rounded(value, 5) for value in values],
                "seeds": [record.seed for record in rounds],
                "mean": rounded(fmean(values), 5),
                "interval": interval and [rounded(end, 5) for end in interval],
            }
        )
    return lines


def calibration(rounds: Sequence[Record]) -> dict[str, Any] | None:
    """The reliability diagram of a method: bins summed over rounds, and the mean error."""
    recorded = _recorded(rounds, "calibration_bins")
    errors = [record.evaluation.get("calibration_error") for record in rounds]
    if not recorded or None in errors:
        return None
    bins = [_joined(column) for column in zip(*recorded, strict=True)]
    return {
        "images": [count for count, _, _ in bins],
        "confidence": [rounded(confidence) for _, confidence, _ in bins],
        "accuracy": [rounded(accuracy) for _, _, accuracy in bins],
        "error": rounded(fmean(error for error in errors if error is not None), 12),
    }


def class_accuracies(rounds: Sequence[Record]) -> dict[str, list[float | None]] | None:
    """Mean, lowest and highest accuracy of each class over the rounds, in %."""
    columns = _by_class(rounds, "class_accuracy")
    if columns is None:
        return None
    return {
        "mean": [rounded(fmean(each)) if each else None for each in columns],
        "low": [rounded(min(each)) if each else None for each in columns],
        "high": [rounded(max(each)) if each else None for each in columns],
    }


def class_attention(rounds: Sequence[Record]) -> dict[str, Any] | None:
    """Mean attention and error of each class, both means over the rounds.

    ``rho`` is the mean over rounds of Spearman's correlation over the classes; ``None`` if no round
    defines it.
    """
    attention, accuracy = (
        _by_class(rounds, name) for name in ("class_attention_mass", "class_accuracy")
    )
    if attention is None or accuracy is None:
        return None
    shown = [
        label
        for label, (mass, right) in enumerate(zip(attention, accuracy, strict=True))
        if mass and right
    ]
    correlations = [rho for rho in map(hardness_correlation, rounds) if rho is not None]
    return {
        "classes": shown,
        "attention": [rounded(fmean(attention[label])) for label in shown],
        "errors": [rounded(100 - fmean(accuracy[label])) for label in shown],
        "rho": rounded(fmean(correlations), 3) if correlations else None,
    }


def by_epoch(
    rounds: Sequence[Epochs], value: Callable[[Mapping[str, Any]], Any]
) -> dict[int, list[float]]:
    """The finite values of every epoch, in order, over the rounds."""
    found: dict[int, list[float]] = {}
    for metrics in rounds:
        for line in metrics:
            number = value(line)
            if number is not None and math.isfinite(number):
                found.setdefault(line["epoch"], []).append(number)
    return dict(sorted(found.items()))


def _curve(rounds: Sequence[Epochs], value: Callable[[Mapping[str, Any]], Any]) -> Any:
    found = by_epoch(rounds, value)
    epochs = _thinned(list(found))
    if not epochs:
        return None
    return {
        "epoch": epochs,
        "mean": [rounded(fmean(found[epoch])) for epoch in epochs],
        "low": [rounded(min(found[epoch])) for epoch in epochs],
        "high": [rounded(max(found[epoch])) for epoch in epochs],
    }


def _thinned(epochs: list[int]) -> list[int]:
    """At most the epochs that are shown, the first and the last among them."""
    last = len(epochs) - 1
    if last < EPOCHS_SHOWN:
        return epochs
    return [epochs[round(index * last / (EPOCHS_SHOWN - 1))] for index in range(EPOCHS_SHOWN)]


def _spans_decades(lines: Sequence[Any]) -> bool:
    """Whether a logarithmic axis is needed to tell the last epochs apart."""
    values = [value for line in lines if line for value in (*line["low"], *line["high"])]
    return bool(min(values) > 0 and max(values) / min(values) > 10)


def term(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """A function that reads a loss term from the metrics of an epoch."""
    return lambda line: (line.get("terms") or {}).get(name)


def evaluated_accuracy(line: Mapping[str, Any]) -> Any:
    """The accuracy of an epoch; ``None`` if it was not evaluated."""
    return (line.get("evaluation") or {}).get("accuracy")


def _joined(parts: Sequence[Sequence[Any]]) -> tuple[int, Any, Any]:
    """One bin of several rounds: images added, the rest averaged over images."""
    images = sum(part[0] for part in parts)
    if not images:
        return 0, None, None
    confidence, accuracy = (
        sum(part[0] * part[index] for part in parts if part[0]) / images for index in (1, 2)
    )
    return images, confidence, accuracy


def _recorded(rounds: Sequence[Record], metric: str) -> list[list[Any]]:
    """A metric that is a list, of the rounds that have it."""
    return [values for values in (each.evaluation.get(metric) for each in rounds) if values]


def _by_class(rounds: Sequence[Record], metric: str) -> list[list[float]] | None:
    """The values of each class over the rounds; ``None`` if no round has recorded the metric."""
    recorded = _recorded(rounds, metric)
    return _columns(recorded) if recorded else None


def _columns(rounds: Sequence[Sequence[Any]]) -> list[list[float]]:
    """(rounds, classes) -> the defined values of each class."""
    return [
        [value for value in column if value is not None] for column in zip(*rounds, strict=True)
    ]
