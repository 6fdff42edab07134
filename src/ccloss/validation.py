"""Checks of arguments that several modules share. Nothing here needs torch."""

import math
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
    """Raises :class:`InputError` unless ``value`` is an integer of at least 1."""
    if not (_is_number(value) and float(value).is_integer() and value >= 1):
        raise InputError(f"{name} must be an integer of at least 1, got {value!r}")


def require_unit_interval(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` lies in [0, 1]."""
    if not (_is_number(value) and 0 <= value <= 1):
        raise InputError(f"{name} must lie between 0 and 1, got {value!r}")


def require_angle(name: str, value: Any) -> None:
    """Raises :class:`InputError` unless ``value`` is an angle in [0, pi], in radians."""
    if not (_is_number(value) and 0 <= value <= math.pi):
        raise InputError(f"{name} must lie between 0 and pi, got {value!r}")


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises :class:`InputError` unless ``value`` is one of ``choices``."""
    if not (isinstance(value, str) and value in choices):
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise InputError(f"{name} must be {listed}, got {value!r}")


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number; booleans and text are not."""
    if isinstance(value, bool | str):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # tensors raise RuntimeError
        return False
