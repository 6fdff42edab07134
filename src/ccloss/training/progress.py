"""Progress of a run: who shows it, and how numbers are written."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class ProgressReporter(Protocol):
    """Shows the progress of a run."""

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
        """Yields the items, and may show how many of ``total`` are done."""

    def status(self, text: str) -> None:
        """Shows the state within an epoch. Each text replaces the one before."""

    def epoch(self, text: str) -> None:
        """Shows one line at the end of an epoch."""

    def warn(self, text: str) -> None:
        """Shows a warning of one line."""


class NullProgress:
    """Shows nothing. Warnings are stored in the record all the same."""

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
        return iterable

    def status(self, text: str) -> None: ...

    def epoch(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


class WarningLog:
    """Collects the warnings of a run and reports each of them once."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self.texts: list[str] = []
        self._reporter = reporter

    def add(self, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)
            self._reporter.warn(text)


def epoch_text(line: Mapping[str, Any], epochs: int) -> str:
    """One line of metrics, for people."""
    parts = [
        f"epoch {line['epoch']}/{epochs}",
        terms_text(line["terms"]),
        f"train {line['train_accuracy']:.2f} %",
    ]
    evaluation = line["evaluation"]
    if evaluation is not None:
        parts.append(f"{evaluation['split']} {evaluation['accuracy']:.2f} %")
    parts.append(f"{line['images_per_second']:.0f} images/s")
    return "  ".join(parts)


def terms_text(terms: Mapping[str, float]) -> str:
    """``total 2.31 ce 2.3 ratio 0.01``."""
    return " ".join(f"{name} {value:.4g}" for name, value in terms.items())


def duration(seconds: float) -> str:
    """In the two largest units: ``3 d 4 h``, ``2 h 05 min``, ``3 min 20 s``, ``12 s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
