"""What happened: the files of a run's folder, and nothing that needs torch to read them.

A run's folder holds::

    experiment.json            what was asked for; written first
    metrics.jsonl              one line an epoch
    checkpoints/               the last state and the one before
    tensorboard/               the same metrics as events
    model.safetensors          the trained weights
    test_sample.safetensors    features and attention of some test images, for the figures
    record.json                what came out; written last, so that its presence means *finished*
    failure.json               why a campaign could not finish it, until it can
"""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ccloss.errors import BusyError, InputError
from ccloss.training.config import RunConfig

if TYPE_CHECKING:  # it takes a tenth of a second, and the command starts with this room
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Record:
    """The outcome of one finished run.

    Attributes:
        method: the loss's row name in a table: ``ce``, ``ce+cam``, ``cc`` ...
        experiment: every field of the experiment, resolved.
        classes: class names in label order.
        evaluation: metrics of the last epoch: ``split``, ``images``, ``accuracy`` and ``top5`` (%),
            ``nll`` (nats), ``calibration_error`` (%), ``class_accuracy`` (%, one a class, ``None``
            for a class without images), ``feature_ratio`` and ``attention_ratio`` (mean intra- over
            mean inter-class squared distance; ``None`` where undefined), ``calibration_bins`` (15
            of images, mean confidence and accuracy in %), and ``class_channels`` (how many channels
            the mean attention of each class opens, above 0.5).
        steps: optimiser steps taken.
        seconds: wall time of the run in all its sittings, evaluation included.
        images_per_second: training images over training time.
        parameters: number of trained scalars of the model.
        warnings: what the run had to say, one line each.
        provenance: device, versions, commit, and SHA-256 fingerprints of the images used, where
            they are held in memory.
    """

    method: str
    experiment: dict[str, Any]
    classes: list[str]
    evaluation: dict[str, Any]
    steps: int
    seconds: float
    images_per_second: float
    parameters: int
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of the run, in which alone two rounds of one method differ."""
        return int(self.experiment["seed"])

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy at the last epoch, in %."""
        return float(self.evaluation["accuracy"])


@dataclass(frozen=True)
class TestSample:
    """Some class-balanced test images as the trained network sees them (n images, width D).

    Attributes:
        features: (n, D) float32.
        attention: (n, D) float32, ``None`` for a network without attention.
        labels: (n,) int64.
        predictions: (n,) int64.
        index: (n,) int64, the images' places in the test split.
        thumbnails: (n, H, W, C) uint8, the images at 32 px at most.
    """

    __test__: ClassVar = False  # not a test, whatever its name makes pytest think

    features: "NDArray[np.float32]"
    attention: "NDArray[np.float32] | None"
    labels: "NDArray[np.int64]"
    predictions: "NDArray[np.int64]"
    index: "NDArray[np.int64]"
    thumbnails: "NDArray[np.uint8]"


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.experiment = self.path / "experiment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model.safetensors"
        self.test_sample = self.path / "test_sample.safetensors"
        self.record = self.path / "record.json"
        self.failure = self.path / "failure.json"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return self.experiment.exists()

    @property
    def finished(self) -> bool:
        """Whether a run has ended here; its record is written last."""
        return self.record.exists()

    def check_free(self) -> None:
        """Refuses a place that holds anything.

        Raises:
            InputError: it is a file, or a folder with files in it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose a folder for the run")
        if self._strangers():
            raise InputError(
                f"{self.path} holds files that are not of a run; choose an empty or new folder"
            )

    def check_own(self) -> None:
        """Refuses to forget a folder that holds anything besides a run."""
        strangers = self._strangers()
        if strangers:
            raise InputError(
                f"{self.path} holds {strangers[0]} besides a run, and would not be overwritten "
                "whole; move that away or choose another folder"
            )

    def clear(self) -> None:
        """Forgets the run.

        Its record goes first and its experiment last: killed on the way, it is an unfinished run,
        and no checkpoint is left to a run that does not know it.
        """
        self.record.unlink(missing_ok=True)
        for path in (*self._leftovers(), *self._own):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self.experiment:
                path.unlink(missing_ok=True)
        self.experiment.unlink(missing_ok=True)

    @property
    def _own(self) -> list[Path]:
        """The files and folders of a run."""
        return [path for path in vars(self).values() if path != self.path]

    def _strangers(self) -> list[str]:
        """Names in the folder that no run has put there."""
        if not self.path.is_dir():
            return []
        own = {".lock", *(path.name for path in [*self._own, *self._leftovers()])}
        return sorted(path.name for path in self.path.iterdir() if path.name not in own)

    def _leftovers(self) -> list[Path]:
        """What killed writes have left: a dot, the name it was to have, and some letters."""
        return [left for own in self._own for left in self.path.glob(f".{own.name}.*")]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; it is created if it does not exist.

        Raises:
            BusyError: another process holds it.
            OSError: it cannot be written to.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"run folder {self.path} is in use by another process; "
                "wait for it to end or choose another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def read_config(self) -> RunConfig:
        """The configuration of the run, also one that an older version wrote."""
        fields = _read_json(self.experiment, "a run folder (made by `ccloss train`)")
        return _config(self.experiment, fields)

    def read_metrics(self) -> list[dict[str, Any]]:
        """One mapping an epoch, in order; a last line cut short by a kill is left out."""
        lines = []
        for text in self._metric_lines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{self.metrics} line {len(lines) + 1} is damaged ({error.msg}); "
                    "train the run again with --overwrite"
                ) from None
        return lines

    def read_record(self) -> Record:
        """The record of a finished run."""
        content = _read_json(self.record, "a finished run (its record is written last)")
        try:
            record = Record(**content)
        except TypeError as error:
            raise InputError(
                f"{self.record} is not a record of this version ({error}); train the run again"
            ) from None
        config = _config(self.record, record.experiment)
        return replace(record, experiment=config.to_dict())

    def read_failure(self) -> dict[str, Any]:
        """Why the run could not be finished: ``error``, ``traceback``, ``provenance``."""
        return dict(_read_json(self.failure, "a failed run"))

    def read_test_sample(self) -> TestSample:
        """Features and attention of some test images."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays: dict[str, Any] = {"attention": None, **load_file(self.test_sample)}
            return TestSample(**arrays)
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(
                f"{self.test_sample} cannot be read ({error}); train the run again"
            ) from None

    def write_config(self, config: RunConfig) -> None:
        """Writes the configuration, which marks the run as started."""
        write_atomically(self.experiment, _to_json(config.to_dict()))

    def write_record(self, record: Record) -> None:
        """Ends the run."""
        write_atomically(self.record, _to_json(asdict(record)))

    def write_failure(self, error: BaseException) -> None:
        """Says why the run could not be finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        failure = {
            "error": str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
            "provenance": provenance(device="unknown"),
        }
        write_atomically(self.failure, _to_json(failure))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds the line of one more epoch."""
        with self.metrics.open("ab") as file:
            file.write(_to_line(line))
            file.flush()
            os.fsync(file.fileno())

    def keep_metrics(self, epochs: int) -> None:
        """Drops the lines after ``epochs`` epochs, which a resumed run will write again."""
        if self.metrics.exists():
            kept = self._metric_lines()[:epochs]
            write_atomically(self.metrics, b"".join(line + b"\n" for line in kept))

    def _metric_lines(self) -> list[bytes]:
        """Complete lines: what follows the last line feed was cut short while being written."""
        if not self.metrics.exists():
            return []
        return self.metrics.read_bytes().split(b"\n")[:-1]


def find_runs(root: Path) -> list[RunFolder]:
    """Every run under ``root``, finished or not, in the order of its path."""
    marks = ("experiment.json", "record.json", "failure.json")
    return [
        RunFolder(path)
        for path in sorted({mark.parent for name in marks for mark in root.rglob(name)})
    ]


def folder_name(text: str) -> str:
    """Any text as the name of a folder."""
    return re.sub(r"[^\w.+=-]+", "-", text)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file or none: a reader, a kill or a full disk never sees half of it.

    Raises:
        OSError: it could not be written; names the file.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def provenance(device: str) -> dict[str, Any]:
    """Where a number comes from: commit, versions and machine.

    Args:
        device: the name of the device the run used.
    """
    packages = ("ccloss", "torch", "torchvision", "timm", "accelerate", "numpy")
    return {
        "device": device,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "commit": _commit(),
    }


def _processor() -> str:
    """The processor's own name where the system tells, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this code runs from, marked where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _config(path: Path, fields: Any) -> RunConfig:
    """Reads a configuration, and names its file in errors."""
    if not isinstance(fields, dict):
        raise InputError(f"{path} is damaged (it holds no fields); train the run again")
    try:
        return RunConfig.from_dict(fields)
    except InputError as error:
        raise InputError(f"{path}: {error}; train the run again") from None


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _to_line(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, allow_nan=False) + "\n").encode()


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not {what}: it has no {path.name}") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is not a folder") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); train the run again") from None
