"""The runs that a report is about: those that have ended, and those that have not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ccloss.errors import InputError
from ccloss.training.records import Record, RunFolder

State = Literal["failed", "unfinished", "damaged"]

_WORDS = ("data", "loss", "backbone", "seed")
"""Fields that say which run it was to be."""


@dataclass(frozen=True)
class Finished:
    """A run with its result."""

    folder: RunFolder
    record: Record


@dataclass(frozen=True)
class Problem:
    """A run without a result.

    Attributes:
        path: its folder.
        state: ``failed`` with an error of its own, ``unfinished``, or ``damaged`` files.
        about: data set, loss, backbone and seed, as far as they are known.
        epochs: how many it has done.
        error: what went wrong, in one line or more; empty where nothing is known.
        traceback: where it went wrong; empty likewise.
    """

    path: str
    state: State
    about: str
    epochs: int
    error: str
    traceback: str


@dataclass(frozen=True)
class Runs:
    """Any set of runs, read once."""

    finished: tuple[Finished, ...]
    problems: tuple[Problem, ...]

    @property
    def records(self) -> list[Record]:
        """Of the finished runs."""
        return [run.record for run in self.finished]


def read(folders: Sequence[RunFolder]) -> Runs:
    """Reads each run's record, or what there is in its place."""
    finished, problems = [], []
    for folder in folders:
        if not folder.finished:
            problems.append(_problem(folder))
            continue
        try:
            finished.append(Finished(folder, _checked(folder)))
        except InputError as error:
            problems.append(_problem(folder, str(error)))
    return Runs(tuple(finished), tuple(problems))


def _checked(folder: RunFolder) -> Record:
    """A record with the fields that everything in a report relies on."""
    record = folder.read_record()
    try:
        float(record.evaluation["accuracy"]), int(record.experiment["seed"])
        for name in ("data", "backbone", "loss"):
            record.experiment[name]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.record} lacks {error}; train the run again") from None
    for name in ("class_accuracy", "class_channels"):
        values = record.evaluation.get(name)
        if values is not None and len(values) != len(record.classes):
            raise InputError(f"{folder.record} has a {name} not of its classes; train it again")
    return record


def _problem(folder: RunFolder, damage: str = "") -> Problem:
    failure = _json(folder.failure)
    state: State = "damaged" if damage else "failed" if failure else "unfinished"
    fields = _json(folder.experiment)
    return Problem(
        path=str(folder.path),
        state=state,
        about=", ".join(
            f"{name} {fields[name]}"
            for name in fields
            if name in _WORDS and fields[name] is not None
        ),
        epochs=_epochs(folder),
        error=damage or str(failure.get("error", "")),
        traceback=str(failure.get("traceback", "")),
    )


def _epochs(folder: RunFolder) -> int:
    try:
        return len(folder.read_metrics())
    except InputError:
        return 0


def _json(path: Path) -> dict[str, Any]:
    """A file's fields; none where it is not there or not whole, for it only adds to the tale."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
