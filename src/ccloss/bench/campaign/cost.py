"""Estimates of the steps and the time of a campaign, before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from ccloss.bench.campaign.plan import Run
from ccloss.data.catalog import SOURCES
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.timing import seconds_per_step

_EVALUATION_COST = 1 / 3
"""Cost of evaluating an image, relative to training on it: there is no backward pass."""

_SPEED_FIELDS = ("data", "backbone", "image_size", "batch_size", "precision", "pretrained")
"""Fields that determine the time of a step. The loss is a small part of it and is ignored."""


class Counts(NamedTuple):
    """The sizes of a data set: images to train on and to evaluate on, classes, channels."""

    train: int
    test: int
    classes: int
    channels: int


@dataclass(frozen=True)
class Cost:
    """The estimated cost of one run.

    Attributes:
        steps: optimiser steps of the whole run.
        steps_left: steps that are not finished.
        seconds: estimated time of the whole run on this machine, evaluations included.
        measured: whether the estimate uses finished runs; otherwise a few timed steps.
    """

    steps: int
    steps_left: int
    seconds: float
    measured: bool

    @property
    def seconds_left(self) -> float:
        """Estimated time of the steps that are left."""
        return self.seconds * self.steps_left / self.steps


def estimate(runs: Sequence[Run], data_root: Path | None = None) -> list[Cost]:
    """Estimates the cost of each run.

    The time of a step comes from finished runs with the same network, images and batch size. If
    there are none, a few steps on random images are timed.

    Raises:
        InputError: the images of a folder cannot be counted. Named data sets are not read.
    """
    counts: dict[Any, Counts] = {}
    step_seconds = {key: (seconds, True) for key, seconds in _seconds_of_finished(runs).items()}
    costs = []
    for run in runs:
        config = run.config
        data_key = (config.data, config.train_limit, config.test_limit)
        if data_key not in counts:
            counts[data_key] = count_images(config, data_root)
        images = counts[data_key]
        key = _speed_key(config)
        if key not in step_seconds and not run.folder.finished:
            step_seconds[key] = (
                seconds_per_step(config, images.classes),
                False,
            )
        costs.append(_cost(run, config, images, *step_seconds.get(key, (0.0, True))))
    return costs


def count_images(config: RunConfig, data_root: Path | None = None) -> Counts:
    """The sizes of a run's data. Named data sets are not read."""
    source = SOURCES.get(config.data)
    if source is None:
        dataset = load_data(config, data_root)
        return Counts(len(dataset.train), len(dataset.test), len(dataset.classes), dataset.channels)
    train = min(source.train, config.train_limit or source.train)
    held_out = round(train * config.validation)
    test = held_out or min(source.test, config.test_limit or source.test)
    return Counts(train - held_out, test, source.classes, source.channels)


def _cost(run: Run, config: RunConfig, images: Counts, step: float, measured: bool) -> Cost:
    batch, epochs = config.batch_size, config.epochs
    epoch_steps = max(1, images.train // batch)
    steps = min(epochs * epoch_steps, config.max_steps or epochs * epoch_steps)
    evaluations = max(1, steps // epoch_steps // config.evaluate_every)
    # The time of a finished run includes its evaluations.
    work = steps if measured else steps + _EVALUATION_COST * evaluations * images.test / batch
    return Cost(steps, max(0, steps - _steps_done(run, steps)), work * step, measured)


def _steps_done(run: Run, steps: int) -> int:
    if run.folder.finished:
        return steps
    lines = run.folder.read_metrics()
    return int(lines[-1]["step"]) if lines else 0


def _seconds_of_finished(runs: Sequence[Run]) -> dict[Any, float]:
    """Median wall time per step of finished runs, by the fields that determine it."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        if run.folder.finished:
            record = run.folder.read_record()
            found.setdefault(_speed_key(run.config), []).append(record.seconds / record.steps)
    return {key: median(times) for key, times in found.items()}


def _speed_key(config: RunConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in _SPEED_FIELDS)
