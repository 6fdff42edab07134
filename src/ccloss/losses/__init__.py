"""The losses, all called as ``loss(output, labels)``."""

import inspect
from collections.abc import Mapping
from typing import Any

from ccloss.errors import InputError, did_you_mean
from ccloss.losses.channel_correlation import ChannelCorrelationLoss
from ccloss.losses.cross_entropy import CrossEntropyLoss
from ccloss.losses.loss import Loss

LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropyLoss,
    "cc": ChannelCorrelationLoss,
}
"""Name of each loss in the command and in tables, and its class."""


def make_loss(name: str, options: Mapping[str, Any] | None = None) -> Loss:
    """A loss by name.

    Args:
        name: a key of :data:`LOSSES`.
        options: arguments of its class.

    Raises:
        InputError: no such loss, no such option, or a value the option does not take.
    """
    if name not in LOSSES:
        raise InputError(
            f"loss must be one of {', '.join(LOSSES)}, got {name!r}" + did_you_mean(name, LOSSES)
        )
    known = loss_options(name)
    for option in options or {}:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(
                f"loss {name} has no option {option!r}: {has}" + did_you_mean(option, known)
            )
    try:
        return LOSSES[name](**(options or {}))
    except TypeError as error:
        raise InputError(f"loss {name} does not take {dict(options or {})}: {error}") from None


def loss_options(name: str) -> dict[str, Any]:
    """Options of a loss and their defaults."""
    parameters = inspect.signature(LOSSES[name]).parameters
    return {
        option: parameter.default
        for option, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }


__all__ = [
    "LOSSES",
    "ChannelCorrelationLoss",
    "CrossEntropyLoss",
    "Loss",
    "loss_options",
    "make_loss",
]
