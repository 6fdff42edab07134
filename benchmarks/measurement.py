"""Measuring alternatives under the same conditions, and storing the raw times.

In each repetition every alternative is measured once, in a random order, so that other load on the
machine affects all of them. Ratios are taken within a repetition; their median is reported.
"""

import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ccloss.training.provenance import provenance

RESULTS = Path(__file__).parent / "results"

Seconds = dict[str, list[float]]
"""Seconds of each alternative, one number a repetition."""


def interleave(alternatives: Mapping[str, Callable[[], float]], repetitions: int) -> Seconds:
    """Call each alternative once a repetition and collect the seconds they return."""
    seconds: Seconds = {name: [] for name in alternatives}
    order = list(alternatives)
    shuffler = random.Random(0)
    for _ in range(repetitions):
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(alternatives[name]())
    return seconds


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios within repetitions."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def write(name: str, **content: Any) -> None:
    """Store raw results with the machine, the versions and the number of threads."""
    heading = {"threads": torch.get_num_threads(), "provenance": provenance("cpu")}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**heading, **content}, indent=1) + "\n")
    print(path)
