"""Small, real runs on the digits, for the tests of what trains."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccloss.bench.experiment import Experiment
from ccloss.data.sources import Dataset
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.progress import NullProgress
from ccloss.training.records import RunFolder


def small_experiment(**fields: Any) -> Experiment:
    """Three epochs of four steps."""
    return Experiment(
        **{
            "data": "digits",
            "loss": "cc",
            "epochs": 3,
            "train_limit": 130,
            "test_limit": 50,
            "hidden_features": 16,
            **fields,
        }
    )


def small_config(**fields: Any) -> RunConfig:
    """The configuration of :func:`small_experiment`."""
    return small_experiment(**fields).resolve(channels=1)


def small_data(**fields: Any) -> Dataset:
    return load_data(small_config(**fields))


class Interrupted(Exception):
    """Replaces a kill."""


@dataclass
class Listener(NullProgress):
    """Records the progress, and interrupts the run after a number of epochs."""

    interrupt_after: int | None = None
    states: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def epoch(self, text: str) -> None:
        self.epochs.append(text)
        if len(self.epochs) == self.interrupt_after:
            raise Interrupted

    def status(self, text: str) -> None:
        self.states.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(folder: RunFolder) -> bytes:
    return folder.model.read_bytes()
