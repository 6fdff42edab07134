"""The options of the losses, and which values each takes.

Nothing here needs torch, which takes seconds to load: the command tells a mistake before.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ccloss.errors import InputError

Check = Callable[[str, Any], None]
"""Takes the name of an option and a value, and raises InputError if the option does not take it."""


def positive(name: str, value: Any) -> None:
    """A number above 0."""
    if not (_is_number(value) and value > 0):
        raise InputError(f"{name} must be a positive number, got {value!r}")


def not_negative(name: str, value: Any) -> None:
    """A number of 0 or more."""
    if not (_is_number(value) and value >= 0):
        raise InputError(f"{name} must be 0 or a positive number, got {value!r}")


def whole(name: str, value: Any) -> None:
    """An integer of 1 or more."""
    if not (_is_number(value) and float(value).is_integer() and value >= 1):
        raise InputError(f"{name} must be an integer of 1 or more, got {value!r}")


def share(name: str, value: Any) -> None:
    """A number from 0 to 1."""
    if not (_is_number(value) and 0 <= value <= 1):
        raise InputError(f"{name} must lie in 0..1, got {value!r}")


def angle(name: str, value: Any) -> None:
    """A number from 0 to pi, in radians."""
    if not (_is_number(value) and 0 <= value <= math.pi):
        raise InputError(f"{name} must lie in 0..pi, got {value!r}")


def sum_or_mean(name: str, value: Any) -> None:
    """``"sum"`` or ``"mean"``."""
    if value not in ("sum", "mean"):
        raise InputError(f'{name} must be "sum" or "mean", got {value!r}')


def class_weights(name: str, values: Any) -> None:
    """None, or numbers of 0 or more, not all of them 0."""
    if values is None:
        return
    weights = list(values) if hasattr(values, "__iter__") else [math.nan]
    if not all(_is_number(weight) and weight >= 0 for weight in weights):
        raise InputError(f"{name} must be numbers of 0 or more, one a class, got {values!r}")
    if not any(weights):
        raise InputError(f"{name} must have a number above 0, got {values!r}")


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is a tensor's
        return False


PREFIX = "pml:"
"""Begins the name of a loss of pytorch-metric-learning, whose options only that knows."""

SHARED: Mapping[str, Check] = {"class_weights": class_weights, "label_smoothing": share}
"""Options that every loss has."""

LOSS_OPTIONS: Mapping[str, Mapping[str, Check]] = {
    "ce": SHARED,
    "cc": {"weight": not_negative, "eps": positive, "reduction": sum_or_mean, **SHARED},
    "focal": {"gamma": not_negative, **SHARED},
    "a-softmax": {
        "margin": whole,
        "annealing_start": not_negative,
        "annealing_rate": not_negative,
        "annealing_end": not_negative,
        **SHARED,
    },
    "mc": {"alpha": not_negative, "beta": not_negative, **SHARED},
    "ical": {"weight": not_negative, **SHARED},
    "fical": {"weight": not_negative, **SHARED},
    "center": {"weight": not_negative, **SHARED},
    "cosface": {"scale": positive, "margin": not_negative, **SHARED},
    "arcface": {"scale": positive, "margin": angle, **SHARED},
}
"""The losses there are from the start, and what each of their options takes."""


def check_options(loss: str, **options: Any) -> None:
    """Refuses values that options of a loss do not take.

    Raises:
        InputError: which option, what came, and what it takes.
    """
    for name, value in options.items():
        LOSS_OPTIONS[loss][name](name, value)
