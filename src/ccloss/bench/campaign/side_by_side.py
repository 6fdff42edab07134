"""How many runs a device does best at a time: measured, for small networks leave it half idle."""

import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from ccloss.bench.campaign.cost import count_images
from ccloss.bench.campaign.executors import device_count, processes
from ccloss.training.config import RunConfig
from ccloss.training.loop import step_times

GAIN = 1.05
"""By so much twice as many runs must do more work, to be worth their memory."""

MEASURED_SECONDS = 3.0
"""That steps are timed for."""

_MEETING_SECONDS = 300.0
"""That processes wait for one another to be ready, at most."""

Rates = Mapping[int, float]
"""Runs a device -> steps a second of all runs together."""


class _Probe(NamedTuple):
    """What a process is to time, and where it meets the others, so that all work at once."""

    config: RunConfig
    classes: int
    place: Path
    others: int


def rates(config: RunConfig, most: int, data_root: Path | None = None) -> dict[int, float]:
    """Steps a second of 1, 2, 4, ... runs a device, until twice as many do no more or have no room.

    Each run is a process with its share of the threads, as in the campaign. Images are random.

    Args:
        config: what the runs are like.
        most: runs a device, at most. Without a GPU also at most one a thread.
        data_root: folder with the data, which are read where they are not known by name.
    """
    images = count_images(config, data_root)
    limit = most if torch.cuda.is_available() else min(most, torch.get_num_threads())

    def measured(runs: int) -> float:
        return _together(config, images.classes, runs * device_count())

    return _doubled(measured, limit)


def quickest(found: Rates) -> int:
    """Runs a device that do the most steps a second."""
    return max(found, key=lambda runs: found[runs])


def _doubled(measured: Callable[[int], float], limit: int) -> dict[int, float]:
    """What is measured at 1, 2, 4, ... up to a limit, while it grows."""
    found = {1: measured(1)}
    runs = 2
    while runs <= limit:
        try:
            found[runs] = measured(runs)
        except torch.OutOfMemoryError:
            break
        if found[runs] < GAIN * found[runs // 2]:
            break
        runs *= 2
    return found


def _together(config: RunConfig, classes: int, runs: int) -> float:
    """Steps a second of so many processes that work at the same time."""
    with tempfile.TemporaryDirectory() as place, processes(runs) as executor:
        probe = _Probe(config, classes, Path(place), runs)
        futures = [executor.submit(_rate, probe) for _ in range(runs)]
        return sum(future.result() for future in futures)


def _rate(probe: _Probe) -> float:
    """Steps a second of this process, once all others are there."""
    (probe.place / uuid.uuid4().hex).touch()
    until = time.monotonic() + _MEETING_SECONDS
    while len(list(probe.place.iterdir())) < probe.others:
        if time.monotonic() > until:
            raise TimeoutError(
                f"{probe.others} processes did not start within {_MEETING_SECONDS:.0f} s"
            )
        time.sleep(0.01)
    times = step_times(probe.config, probe.classes, MEASURED_SECONDS, inf)
    return 1 / median(times)
