"""Experiment trackers such as Weights & Biases and MLflow, through Accelerate."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import RunConfig
from ccloss.training.records import RunFolder
from ccloss.training.writer import scalars

PROJECT = "ccloss"
"""Name of the project that trackers show."""


def check_trackers(names: Sequence[str]) -> None:
    """Checks names of trackers, and that their packages are installed.

    Raises:
        InputError: an unknown tracker, or a missing package.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            near = did_you_mean(name, LOGGER_TYPE_TO_CLASS)
            raise InputError(f"trackers must be some of {known}, got {name!r}{near}")
        if name not in map(str, get_available_trackers()):
            raise InputError(
                f"trackers: {name} needs the package {name}, which is not installed; run: "
                f"pip install {name}"
            )


class Trackers:
    """Sends the metrics of a run to trackers, from the main process.

    Args:
        names: of trackers that :func:`check_trackers` has accepted.
        folder: of the run; trackers with files write them to its folder ``trackers``.
        config: of the run, which trackers show.
    """

    def __init__(self, names: Sequence[str], folder: RunFolder, config: RunConfig) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        classes = [LOGGER_TYPE_TO_CLASS[name] for name in names]
        self._trackers = [
            kind(PROJECT, *([folder.trackers] if kind.requires_logging_directory else []))
            for kind in classes
        ]
        for tracker in self._trackers:
            tracker.start()
            tracker.store_init_configuration(_texts(config))

    def log(self, line: Mapping[str, Any]) -> None:
        """Sends the metrics of an epoch."""
        for tracker in self._trackers:
            tracker.log(dict(scalars(line)), step=line["epoch"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self._trackers:
            tracker.finish()


def _texts(config: RunConfig) -> dict[str, Any]:
    """The fields of a run; those that are no numbers and no text become text."""
    return {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in config.to_dict().items()
    }
