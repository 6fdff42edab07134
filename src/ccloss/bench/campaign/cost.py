"""What a campaign will cost, before it begins: steps, and about how long they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from ccloss.bench.campaign.plan import Run
from ccloss.data.catalog import SOURCES
from ccloss.training.config import RunConfig
from ccloss.training.loop import load_data, seconds_per_step

_EVALUATION = 1 / 3
"""Of the work of an image in a step: an evaluation has no way back."""

_OF_THE_SPEED = ("data", "backbone", "image_size", "batch_size", "precision", "pretrained")
"""Fields on which the time of a step depends; the loss is a small part of it."""


class Counts(NamedTuple):
    """The sizes of a data set: images to train on and to evaluate on, classes, channels."""

    train: int
    test: int
    classes: int
    channels: int


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes:
        steps: of the optimiser, in all.
        steps_left: those not done yet.
        seconds: about how long all of them take on this machine, evaluations included.
        measured: the time of a step is that of runs that have ended, not of a few steps just done.
    """

    steps: int
    steps_left: int
    seconds: float
    measured: bool

    @property
    def seconds_left(self) -> float:
        """Of what is not done yet."""
        return self.seconds * self.steps_left / self.steps


def estimate(runs: Sequence[Run], data_root: Path | None = None) -> list[Cost]:
    """The cost of each run.

    The time of a step is that of finished runs of the same network, images and batch, and where
    there is none, that of a few steps on random images, done now.

    Raises:
        InputError: images in a folder cannot be counted; data sets that are known by name need not
            be there.
    """
    counts: dict[Any, Counts] = {}
    known = {key: (seconds, True) for key, seconds in _seconds_of_finished(runs).items()}
    costs = []
    for run in runs:
        config = run.config
        of_data = (config.data, config.train_limit, config.test_limit)
        if of_data not in counts:
            counts[of_data] = count_images(config, data_root)
        images = counts[of_data]
        key = _speed_key(config)
        if key not in known and not run.folder.finished:
            known[key] = (
                seconds_per_step(config, images.classes),
                False,
            )
        costs.append(_cost(run, config, images, *known.get(key, (0.0, True))))
    return costs


def count_images(config: RunConfig, data_root: Path | None = None) -> Counts:
    """The sizes of a run's data, without reading them where they are known by name."""
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
    an_epoch = max(1, images.train // batch)
    steps = min(epochs * an_epoch, config.max_steps or epochs * an_epoch)
    evaluations = max(1, steps // an_epoch // config.evaluate_every)
    # The time of a finished run has its evaluations in it.
    work = steps if measured else steps + _EVALUATION * evaluations * images.test / batch
    return Cost(steps, max(0, steps - _steps_done(run, steps)), work * step, measured)


def _steps_done(run: Run, steps: int) -> int:
    if run.folder.finished:
        return steps
    lines = run.folder.read_metrics()
    return int(lines[-1]["step"]) if lines else 0


def _seconds_of_finished(runs: Sequence[Run]) -> dict[Any, float]:
    """Median wall time over steps, by what it depends on."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        if run.folder.finished:
            record = run.folder.read_record()
            found.setdefault(_speed_key(run.config), []).append(record.seconds / record.steps)
    return {key: median(times) for key, times in found.items()}


def _speed_key(config: RunConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in _OF_THE_SPEED)
