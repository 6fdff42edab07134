"""The files of a run's folder. Reading them does not import torch.

A run's folder holds::

    data.json                  digests of the images
    experiment.json            the configuration; marks the run as started
    metrics.jsonl              one line per epoch
    checkpoints/               the last two states
    tensorboard/               the metrics as events
    trackers/                  files of experiment trackers
    model.safetensors          the trained weights
    test_sample.safetensors    features and attention of some test images, for the figures
    train_sample.safetensors   the same of training images, if the features have width 2
    record.json                the result; written last, so that its presence means *finished*
    failure.json               the error of a run that a campaign could not finish
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, replace
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from ccloss.errors import BusyError, InputError
from ccloss.training.config import RunConfig, explain
from ccloss.training.fields import STRICT
from ccloss.training.files import (
    append_line,
    parse_object,
    read_json,
    sync_directory,
    temporary_files,
    to_json,
    write_atomically,
)
from ccloss.training.provenance import provenance

if TYPE_CHECKING:  # numpy takes a tenth of a second to import, and the command starts here
    import numpy as np
    from numpy.typing import NDArray

_MAX_NAME_BYTES = 120
"""Longer names of folders are shortened; file systems allow 255 bytes."""

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
"""Errors of file systems without locks."""


@dataclass(frozen=True, config=STRICT)
class Record:
    """The result of a finished run.

    Attributes:
        method: row in a table: ``ce``, ``ce+cam``, ``cc`` ...
        experiment: the fields of :class:`~ccloss.training.config.RunConfig`.
        classes: class names in label order.
        evaluation: ``split``, ``images``, and every metric of
            :data:`ccloss.training.metrics.METRICS` by name, after the last epoch. With ``select
            best`` they are those of the selected ``epoch``; with ``ema_decay`` those of the
            average, and ``unaveraged_accuracy`` is that of the weights themselves.
        steps: training steps, one for each batch.
        seconds: wall time of the run, all sessions together, evaluation included.
        images_per_second: training images per second of training.
        parameters: number of parameters of the model.
        warnings: warnings of the run, one line each.
        provenance: see :func:`ccloss.training.provenance.provenance`; ``data`` holds the SHA-256
            digests of the training and test images, ``revision`` the commit of a Hub repository,
            ``initial_weights`` or ``parent`` the model or run from which it started.
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
        """The seed of the run; rounds of one method differ in it alone."""
        return int(self.experiment["seed"])

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy after the last epoch, in %."""
        return float(self.evaluation["accuracy"])


@plain_dataclass(frozen=True)
class ImageSample:
    """Class-balanced images of a split and the trained network's outputs (n images, width D).

    Attributes:
        features: (n, D) float32.
        attention: (n, D) float32, ``None`` for a network without attention.
        labels: (n,) int64.
        predictions: (n,) int64.
        index: (n,) int64, positions in the split.
        thumbnails: (n, H, W, C) uint8, the images at 32 px at most.
    """

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
        self.data = self.path / "data.json"
        self.experiment = self.path / "experiment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.trackers = self.path / "trackers"
        self.model = self.path / "model.safetensors"
        self.test_sample = self.path / "test_sample.safetensors"
        self.train_sample = self.path / "train_sample.safetensors"
        self.record = self.path / "record.json"
        self.failure = self.path / "failure.json"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def started(self) -> bool:
        """Whether a run has been started here."""
        return self.experiment.exists()

    @property
    def finished(self) -> bool:
        """Whether a run has finished here; its record is written last."""
        return self.record.exists()

    # ---- checks and locks ------------------------------------------------------------------------

    def ensure_empty(self) -> None:
        """Checks that the folder can take a new run.

        Raises:
            InputError: it is a file, or has files that are not of a run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; choose a folder for the run")
        if self._foreign_files():
            raise InputError(
                f"{self.path} holds files that are not of a run; choose an empty or new folder"
            )

    def ensure_only_run_files(self) -> None:
        """Checks that a folder to overwrite holds nothing but a run.

        Raises:
            InputError: it has other files.
        """
        foreign = self._foreign_files()
        if foreign:
            raise InputError(
                f"{self.path} holds {foreign[0]} besides a run and is not overwritten; move that "
                "file away or choose another folder"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder for this process, and creates it if needed.

        If the body fails before the run is started, a folder that was created is removed.

        Raises:
            BusyError: another process has the lock.
            InputError: the file system has no locks.
            OSError: the folder cannot be written to.
        """
        from filelock import FileLock, Timeout

        created = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / ".lock"
        # Soft locks would survive a kill and block the folder.
        lock = FileLock(file, timeout=0, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"run folder {self.path} is locked by another process; wait for it to end or "
                "choose another --out"
            ) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            raise InputError(
                f"the file system of {self.path} does not support locks; choose a folder on "
                "another file system"
            ) from None
        try:
            yield
        finally:
            if created and not self.started:
                file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # other files have been added
                    self.path.rmdir()
            lock.release()

    def remove_temporary_files(self) -> None:
        """Removes what killed writes have left."""
        for path in self._temporary_files():
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes the run.

        The record goes first and the configuration last: after a kill in between, the folder holds
        an unfinished run, and no checkpoint is left to a run of another configuration.
        """
        self.record.unlink(missing_ok=True)
        for path in (*self._temporary_files(), *self._own):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self.experiment:
                path.unlink(missing_ok=True)
        self.experiment.unlink(missing_ok=True)
        sync_directory(self.path)

    # ---- reading ---------------------------------------------------------------------------------

    def read_config(self) -> RunConfig:
        """The configuration of the run, also one that an older version wrote."""
        return _config(
            self.experiment, read_json(self.experiment, "a run folder (made by `ccloss train`)")
        )

    def read_data_digests(self) -> dict[str, Any] | None:
        """Digests of the images of the run; ``None`` for a run of an older version."""
        return read_json(self.data, "a run folder") if self.data.exists() else None

    def read_metrics(self) -> list[dict[str, Any]]:
        """One mapping per epoch, in order; a last line that a kill has cut short is left out.

        Raises:
            InputError: a line is damaged, or an epoch is missing.
        """
        lines = []
        for number, content in enumerate(self._metric_lines(), start=1):
            line = parse_object(content, f"{self.metrics} line {number}")
            if line.get("epoch") != number:
                raise InputError(
                    f"{self.metrics} line {number} is damaged (it is not that of epoch {number}); "
                    "train the run again with --overwrite"
                )
            lines.append(line)
        return lines

    def read_record(self) -> Record:
        """The record of a finished run, also one that an older version wrote."""
        content = read_json(self.record, "a finished run (its record is written last)")
        return parse_record(content, self.record)

    def read_failure(self) -> dict[str, Any]:
        """Why the run could not be finished: ``error``, ``traceback``, ``provenance``."""
        return read_json(self.failure, "a failed run")

    def read_sample(self, path: Path) -> ImageSample:
        """Features and attention of some images.

        Args:
            path: ``test_sample`` or ``train_sample``.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays: dict[str, Any] = {"attention": None, **load_file(path)}
            return ImageSample(**arrays)
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}); train the run again") from None

    # ---- writing ---------------------------------------------------------------------------------

    def write_config(self, config: RunConfig) -> None:
        """Writes the configuration, which marks the run as started."""
        write_atomically(self.experiment, to_json(config.to_dict()))

    def write_data_digests(self, digests: Mapping[str, str]) -> None:
        """Writes the digests of the images, with which a resumed run compares its own."""
        write_atomically(self.data, to_json(digests))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Appends the metrics of one epoch."""
        append_line(self.metrics, line)

    def truncate_metrics(self, epochs: int) -> None:
        """Keeps the metrics of the first ``epochs`` epochs; a resumed run writes the others again.

        Raises:
            InputError: there are fewer, or one is damaged.
        """
        found = len(self.read_metrics())
        if found < epochs:
            raise InputError(
                f"{self.metrics} has {found} of the {epochs} epochs of the checkpoint; restore it, "
                "or train the run again with --overwrite"
            )
        if self.metrics.exists():
            kept = self._metric_lines()[:epochs]
            write_atomically(self.metrics, b"".join(line + b"\n" for line in kept))

    def write_record(self, record: Record) -> None:
        """Writes the record, which marks the run as finished."""
        write_atomically(self.record, to_json(asdict(record)))

    def write_failure(self, error: BaseException) -> None:
        """Writes why the run could not be finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        failure = {
            "error": str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
            "provenance": provenance(device="unknown"),
        }
        write_atomically(self.failure, to_json(failure))

    # ---- names -----------------------------------------------------------------------------------

    @property
    def _own(self) -> list[Path]:
        """The files and folders of a run."""
        return [path for path in vars(self).values() if path != self.path]

    def _foreign_files(self) -> list[str]:
        """Names of files in the folder that are not of a run."""
        if not self.path.is_dir():
            return []
        own = {".lock", *(path.name for path in [*self._own, *self._temporary_files()])}
        return sorted(path.name for path in self.path.iterdir() if path.name not in own)

    def _temporary_files(self) -> list[Path]:
        names = [path.name for path in self._own]
        found = [path for name in names for path in temporary_files(self.path, name)]
        return [*found, *temporary_files(self.checkpoints, "epoch-*")]

    def _metric_lines(self) -> list[bytes]:
        """Complete lines; what follows the last line feed was cut short while it was written."""
        if not self.metrics.exists():
            return []
        return self.metrics.read_bytes().split(b"\n")[:-1]


def find_runs(root: Path) -> list[RunFolder]:
    """Every run under ``root``, finished or not, ordered by path."""
    marks = ("experiment.json", "record.json", "failure.json")
    return [
        RunFolder(path)
        for path in sorted({mark.parent for name in marks for mark in root.rglob(name)})
    ]


def parse_record(content: Mapping[str, Any], path: Path) -> Record:
    """The record in the content of a file, also one that an older version wrote.

    Args:
        content: the fields of :class:`Record`.
        path: of the file, for messages.

    Raises:
        InputError: a field is unknown, missing or has an invalid value.
    """
    try:
        record = Record(**content)
    except ValidationError as error:
        raise InputError(
            f"{path} is not a record of this version ({explain(error)}); train the run again"
        ) from None
    return replace(record, experiment=_config(path, record.experiment).to_dict())


def folder_name(text: str) -> str:
    """Any text as the name of a file or folder; a long name is cut and ends in a hash."""
    name = re.sub(r"[^\w.+=-]+", "-", text)
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
    start = encoded[: _MAX_NAME_BYTES - 13].decode(errors="ignore")
    return f"{start}-{digest}"


def _config(path: Path, fields: Mapping[str, Any]) -> RunConfig:
    """Reads a configuration, and names its file in errors."""
    try:
        return RunConfig.from_dict(fields)
    except InputError as error:
        raise InputError(f"{path}: {error}; train the run again with --overwrite") from None
