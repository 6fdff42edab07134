"""Reading the results of runs: run folders, and campaign files with one run a line.

A campaign file is JSON Lines. Each line is one finished run::

    {"name": "mnist/vgg16/cc/round-1", "record": {...}, "metrics": [{...}, ...]}

``record`` is the content of ``record.json`` and ``metrics`` the lines of ``metrics.jsonl``. A file
or line that cannot be used is reported as a problem with a reason; the other runs are still read.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ccloss.data.catalog import SOURCES
from ccloss.data.names import printable
from ccloss.errors import InputError
from ccloss.training.config import RunConfig, explain
from ccloss.training.files import write_atomically
from ccloss.training.records import Record, RunFolder, find_runs

CAMPAIGN_SUFFIX = ".jsonl"

State = Literal["failed", "unfinished", "damaged", "duplicate"]

_DESCRIBED = ("data", "loss", "backbone", "seed")
"""Fields of an experiment that describe a run without a result."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: path of its folder, or the name of its file and its name in that file.
        record: the result.
        metrics: one mapping an epoch; empty if they were not stored.
        folder: its files; ``None`` for a run of a campaign file.
    """

    name: str
    record: Record
    metrics: tuple[Mapping[str, Any], ...] = ()
    folder: RunFolder | None = None


@dataclass(frozen=True)
class Problem:
    """A file or run that is left out.

    Attributes:
        source: path of the file or folder.
        state: ``failed`` with an error, ``unfinished``, ``damaged``, or ``duplicate``.
        reason: why it is left out, in one line.
        description: data set, loss, backbone and seed of the run, where known.
        epochs: number of epochs that were finished.
        traceback: traceback of a failed run, where it was stored.
    """

    source: str
    state: State
    reason: str
    description: str = ""
    epochs: int = 0
    traceback: str = ""


@dataclass(frozen=True)
class Results:
    """The runs that were read, and what was left out."""

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def records(self) -> list[Record]:
        """The record of each run."""
        return [run.record for run in self.runs]


def read_runs(path: str | os.PathLike[str]) -> Results:
    """Reads every run below a folder, or the runs of a campaign file.

    Args:
        path: a folder with run folders and campaign files at any depth, or a campaign file.

    Raises:
        InputError: the path does not exist.
    """
    root = Path(path)
    if root.is_file():
        return _results([_read_campaign(root)])
    if not root.is_dir():
        raise InputError(f"{path} does not exist; give a folder of runs or a .jsonl file")
    files = sorted(root.rglob(f"*{CAMPAIGN_SUFFIX}"))
    campaigns = [file for file in files if file.name != "metrics.jsonl"]
    return _results([_read_folders(find_runs(root)), *map(_read_campaign, campaigns)])


def read_folders(folders: Iterable[RunFolder]) -> Results:
    """Reads run folders, finished or not."""
    return _results([_read_folders(folders)])


def write_campaign(folder: Path, file: Path, *, epochs: bool = True) -> int:
    """Writes every finished run below a folder to one campaign file.

    Args:
        folder: folder with run folders at any depth.
        file: campaign file; an existing one is replaced.
        epochs: whether the metrics of each epoch are written besides the record.

    Returns:
        The number of runs written.

    Raises:
        InputError: the folder has no finished run, or one that cannot be read.
    """
    results = read_folders(find_runs(folder))
    damaged = [problem for problem in results.problems if problem.state == "damaged"]
    if damaged or not results.runs:
        reason = damaged[0].reason if damaged else "it has no finished run"
        raise InputError(f"{folder} cannot be written as a campaign file: {reason}")
    lines = []
    for run in results.runs:
        name = Path(run.name).relative_to(folder).as_posix()
        metrics = run.metrics if epochs else []
        fields = {"name": name, "record": dataclasses.asdict(run.record), "metrics": metrics}
        lines.append(json.dumps(fields, allow_nan=False, separators=(",", ":")))
    write_atomically(file, "".join(f"{line}\n" for line in lines).encode())
    return len(lines)


def effective_fields(record: Record) -> dict[str, Any]:
    """The fields of an experiment without settings that had no effect on the result.

    ``evaluate_every`` only decides when metrics are measured. A limit of at least the size of the
    data set, and a ``max_steps`` that the run did not reach, change nothing.
    """
    fields = {**record.experiment, "evaluate_every": 1}
    source = SOURCES.get(str(fields.get("data")))
    for name, size in (
        ("train_limit", source and source.train),
        ("test_limit", source and source.test),
        ("max_steps", record.steps + 1),
    ):
        limit = fields.get(name)
        if isinstance(limit, int) and size and limit >= size:
            fields[name] = None
    return fields


# ---- reading -------------------------------------------------------------------------------------


def _results(parts: Sequence[tuple[list[Run], list[Problem]]]) -> Results:
    """Joins what was read and leaves out all but the first run of each experiment and seed."""
    problems = [problem for _, found in parts for problem in found]
    kept: dict[str, Run] = {}
    for run in sorted((run for runs, _ in parts for run in runs), key=lambda run: run.name):
        key = json.dumps([run.record.method, effective_fields(run.record)], sort_keys=True)
        if key in kept:
            reason = f"has the experiment and seed of {kept[key].name}, which is used"
            problems.append(
                _problem(run.name, "duplicate", reason, _describe(run.record.experiment))
            )
        else:
            kept[key] = run
    return Results(tuple(kept.values()), tuple(problems))


def _read_folders(folders: Iterable[RunFolder]) -> tuple[list[Run], list[Problem]]:
    runs, problems = [], []
    for folder in folders:
        if not folder.record.exists():
            problems.append(_unfinished(folder))
            continue
        try:
            record = parse_record(_load(folder.record.read_bytes()))
        except (OSError, ValueError) as error:
            problems.append(_damaged(folder.record, error, _epochs(folder)))
            continue
        metrics: tuple[Mapping[str, Any], ...] = ()
        try:
            metrics = _parse_metrics(_metric_lines(folder))
        except (OSError, ValueError) as error:
            problems.append(_damaged(folder.metrics, f"{error}; the record is used without it"))
        runs.append(Run(str(folder.path), record, metrics, folder))
    return runs, problems


def _read_campaign(file: Path) -> tuple[list[Run], list[Problem]]:
    runs: list[Run] = []
    problems: list[Problem] = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        return runs, [_damaged(file, error)]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = _load(line)
            _require(isinstance(content, dict) and "record" in content, "it has no record")
            record = parse_record(content["record"])
            metrics = _parse_metrics(content.get("metrics", []))
        except ValueError as error:
            problems.append(_damaged(f"{file} line {number}", error))
            continue
        runs.append(Run(f"{file}/{content.get('name', number)}", record, metrics))
    return runs, problems


def _damaged(source: object, error: object, epochs: int = 0) -> Problem:
    return _problem(source, "damaged", error, epochs=epochs)


def _unfinished(folder: RunFolder) -> Problem:
    failure = _fields(folder.failure)
    return _problem(
        folder.path,
        "failed" if failure else "unfinished",
        failure.get("error", "no record was written"),
        _describe(_fields(folder.experiment)),
        epochs=_epochs(folder),
        traceback=str(failure.get("traceback", "")),
    )


def _problem(
    source: object,
    state: State,
    reason: object,
    description: str = "",
    *,
    epochs: int = 0,
    traceback: str = "",
) -> Problem:
    """A problem whose texts have one line each, but for the traceback."""
    line = printable(" ".join(str(reason).split()))
    return Problem(printable(str(source)), state, line, printable(description), epochs, traceback)


def _describe(experiment: Mapping[str, Any]) -> str:
    known = ((name, experiment.get(name)) for name in _DESCRIBED)
    return ", ".join(f"{name} {value}" for name, value in known if value is not None)


def _epochs(folder: RunFolder) -> int:
    try:
        return len(_metric_lines(folder))
    except (OSError, ValueError):
        return 0


def _fields(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; empty if it is missing or damaged."""
    try:
        content = _load(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _metric_lines(folder: RunFolder) -> list[Any]:
    """The metrics of each epoch. A last line without a line feed was cut short and is ignored."""
    if not folder.metrics.exists():
        return []
    lines = folder.metrics.read_bytes().split(b"\n")[:-1]
    return [_load(line) for line in lines]


def _load(content: bytes) -> Any:
    """Parses JSON without NaN and infinity.

    Raises:
        ValueError: it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(content, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"it contains {name}, which is not a number")


# ---- checking ------------------------------------------------------------------------------------


def parse_record(content: Any) -> Record:
    """A record from the content of ``record.json``, checked for what a report relies on.

    Raises:
        ValueError: a field is missing, unknown, or has an impossible value; says which.
    """
    _require(isinstance(content, dict), "it is not a JSON object")
    try:
        record = Record(**content)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    experiment = RunConfig.from_dict(record.experiment).to_dict()
    _check_evaluation(record.evaluation, len(record.classes))
    return dataclasses.replace(
        record,
        method=printable(record.method),
        experiment={name: _printable(value) for name, value in experiment.items()},
        classes=[printable(name) for name in record.classes],
        warnings=[printable(text) for text in record.warnings],
    )


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _check_evaluation(evaluation: Any, classes: int) -> None:
    accuracy = evaluation.get("accuracy")
    possible = _is_number(accuracy) and 0 <= accuracy <= 100
    _require(possible, f"evaluation.accuracy is {accuracy!r}; it must be from 0 to 100")
    images = evaluation.get("images")
    _require(isinstance(images, int) and images > 0, "evaluation.images must be a positive number")
    for name, value in evaluation.items():
        if name.startswith("class_") and value is not None:
            valid = isinstance(value, list) and len(value) == classes
            _require(valid, f"evaluation.{name} must have a value for each of {classes} classes")
            _require(all(map(_is_optional, value)), f"evaluation.{name} must hold numbers")
        elif name not in ("split", "calibration_bins"):
            _require(_is_optional(value), f"evaluation.{name} is {value!r}; it must be a number")


def _parse_metrics(lines: Any) -> tuple[Mapping[str, Any], ...]:
    _require(isinstance(lines, list), "metrics must be a list")
    for number, line in enumerate(lines, start=1):
        valid = isinstance(line, dict) and isinstance(line.get("epoch"), int)
        _require(valid, f"line {number} is not the metrics of an epoch")
        for part in ("terms", "evaluation"):
            _require(isinstance(line.get(part) or {}, dict), f"line {number} has no valid {part}")
        values = (line.get("train_accuracy"), *(line.get("terms") or {}).values())
        _require(all(map(_is_optional, values)), f"line {number} has a metric that is no number")
    return tuple(lines)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _is_optional(value: Any) -> bool:
    return value is None or _is_number(value)


def _require(valid: bool, reason: str) -> None:
    if not valid:
        raise ValueError(reason)
