"""What the page's charts show of records and metrics: plain values, fit for JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ccloss.bench import statistics as stats
from ccloss.training.records import Record

Epochs = Sequence[Mapping[str, Any]]
"""The metrics of one run."""

EPOCHS_SHOWN = 200
"""More points than this on a curve are thinned out evenly."""

ACCURACIES = {"test": "Accuracy on the {split} split (%)", "train": "Accuracy in training (%)"}

TERMS = {
    "total": "Total loss",
    "ce": "Cross-entropy (nats)",
    "intra": "Sum of intra-class distances",
    "inter": "Sum of inter-class distances",
    "ratio": "Intra- over inter-class distance",
}
"""Headings of loss terms; any other term goes by its own name."""


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A number to so many significant digits; ``None`` for one that is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def curves(methods: Sequence[Sequence[Epochs]], split: str) -> list[dict[str, Any]]:
    """One entry a quantity, with a line a method: its mean, lowest and highest round by epoch.

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
        ("accuracy", "test", ACCURACIES["test"].format(split=split), _test_accuracy),
        ("accuracy", "train", ACCURACIES["train"], lambda line: line.get("train_accuracy")),
        *(("term", name, TERMS.get(name, name), _term(name)) for name in names),
    ]
    found = []
    for group, name, label, value in quantities:
        lines = [_curve(rounds, value) for rounds in methods]
        if any(line is not None for line in lines):
            log = group == "term" and _spans_decades(lines)
            found.append({"group": group, "name": name, "label": label, "log": log, "lines": lines})
    return found


def accuracies(methods: Mapping[str, Sequence[Record]]) -> list[dict[str, Any]]:
    """The accuracy of each method's rounds, their mean and its 95 % interval."""
    lines = []
    for rounds in methods.values():
        values = [record.accuracy for record in rounds]
        interval = stats.bootstrap_interval(values) if len(values) > 1 else None
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
    """The reliability diagram of a method, its bins summed over the rounds that recorded them."""
    recorded = _recorded(rounds, "calibration_bins")
    if not recorded:
        return None
    bins = [_joined(column) for column in zip(*recorded, strict=True)]
    images = sum(count for count, _, _ in bins)
    gaps = [count * abs(right - sure) for count, sure, right in bins if count]
    return {
        "images": [count for count, _, _ in bins],
        "confidence": [rounded(sure) for _, sure, _ in bins],
        "accuracy": [rounded(right) for _, _, right in bins],
        "error": rounded(sum(gaps) / images),
        "rounds": len(recorded),
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


def opened_channels(rounds: Sequence[Record]) -> dict[str, Any] | None:
    """Channels that each class opens against its error, both means over the rounds.

    ``rho`` and ``p`` are of Spearman's correlation over the classes; ``None`` where one side is
    constant or there are fewer than two classes.
    """
    opened = _by_class(rounds, "class_channels")
    right = _by_class(rounds, "class_accuracy")
    if opened is None or right is None:
        return None
    places = [
        place
        for place, (channels, hits) in enumerate(zip(opened, right, strict=True))
        if channels and hits
    ]
    channels = [fmean(opened[place]) for place in places]
    errors = [100 - fmean(right[place]) for place in places]
    rho, p_value = stats.rank_correlation(channels, errors) if len(places) > 1 else (None, None)
    return {
        "classes": places,
        "channels": [rounded(each) for each in channels],
        "errors": [rounded(each) for each in errors],
        "rho": rounded(rho, 3),
        "p": rounded(p_value, 3),
    }


def by_epoch(
    rounds: Sequence[Epochs], value: Callable[[Mapping[str, Any]], Any]
) -> dict[int, list[float]]:
    """A value of every epoch in order, over the rounds that have it as a finite number."""
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
    """Not more than are shown, the first and the last among them."""
    last = len(epochs) - 1
    if last < EPOCHS_SHOWN:
        return epochs
    return [epochs[round(place * last / (EPOCHS_SHOWN - 1))] for place in range(EPOCHS_SHOWN)]


def _spans_decades(lines: Sequence[Any]) -> bool:
    """Whether the last epochs would all lie on a linear axis."""
    values = [value for line in lines if line for value in (*line["low"], *line["high"])]
    return bool(min(values) > 0 and max(values) / min(values) > 10)


def _term(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda line: (line.get("terms") or {}).get(name)


def _test_accuracy(line: Mapping[str, Any]) -> Any:
    return (line.get("evaluation") or {}).get("accuracy")


def _joined(parts: Sequence[Sequence[Any]]) -> tuple[int, Any, Any]:
    """One bin of several rounds: images added, the rest averaged over images."""
    images = sum(part[0] for part in parts)
    if not images:
        return 0, None, None
    sure, right = (
        sum(part[0] * part[place] for part in parts if part[0]) / images for place in (1, 2)
    )
    return images, sure, right


def _recorded(rounds: Sequence[Record], metric: str) -> list[list[Any]]:
    """A metric that is a list, of the rounds that have it."""
    return [values for values in (each.evaluation.get(metric) for each in rounds) if values]


def _by_class(rounds: Sequence[Record], metric: str) -> list[list[float]] | None:
    """A metric's values of each class over the rounds; ``None`` if no round has recorded it."""
    recorded = _recorded(rounds, metric)
    if not recorded:
        return None
    return [
        [value for value in column if value is not None] for column in zip(*recorded, strict=True)
    ]
