"""Checks of arguments that several modules share. Nothing here needs torch."""

import math
from numbers import Integral, Real
from typing import Any

from ccloss.errors import InputError


def require_positive(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is a finite number above 0."""
    if not (_is_number(value) and value > 0):
        raise InputError(f"{name} must be a positive number, got {value!r}")


def require_nonnegative(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is a finite number of at least 0."""
    if not (_is_number(value) and value >= 0):
        raise InputError(f"{name} must be a number of at least 0, got {value!r}")


def require_positive_integer(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is an integer from 1 to 2^31 - 1."""
    if isinstance(value, bool) or not (isinstance(value, Integral) and int(value) >= 1):
        raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    if int(value) >= 2**31:
        raise InputError(f"{name} must be below 2147483648, got {value!r}")


def require_unit_interval(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` lies in [0, 1]."""
    if not (_is_number(value) and 0 <= value <= 1):
        raise InputError(f"{name} must lie between 0 and 1, got {value!r}")


def require_angle(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is an angle in [0, pi], in radians."""
    if not (_is_number(value) and 0 <= value <= math.pi):
        raise InputError(f"{name} must lie between 0 and pi, got {value!r}")


def require_boolean(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises :class:`InputError` unless ``value`` is one of ``choices``."""
    if not (isinstance(value, str) and value in choices):
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise InputError(f"{name} must be {listed}, got {value!r}")


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number; booleans, text and tensors are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        return False
