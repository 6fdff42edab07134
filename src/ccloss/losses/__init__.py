"""The losses, all called as ``loss(output, labels)``.

One's own is a subclass of :class:`Loss`, known by name once it stands in :data:`LOSSES`::

    ccloss.LOSSES["mine"] = MyLoss
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from ccloss.errors import InputError, unknown_name, unknown_option
from ccloss.losses.angular import ArcFaceLoss, ASoftmaxLoss, CosFaceLoss
from ccloss.losses.base import Loss, Need
from ccloss.losses.center import CenterLoss
from ccloss.losses.channel_correlation import ChannelCorrelationLoss
from ccloss.losses.cross_entropy import CrossEntropyLoss
from ccloss.losses.focal import FocalLoss
from ccloss.losses.inter_class import FocalInterClassAngularLoss, InterClassAngularLoss
from ccloss.losses.metric_learning import MetricLearningLoss, metric_learning_options
from ccloss.losses.mutual_channel import MutualChannelLoss
from ccloss.options import PREFIX

LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropyLoss,
    "cc": ChannelCorrelationLoss,
    "focal": FocalLoss,
    "a-softmax": ASoftmaxLoss,
    "mc": MutualChannelLoss,
    "ical": InterClassAngularLoss,
    "fical": FocalInterClassAngularLoss,
    "center": CenterLoss,
    "cosface": CosFaceLoss,
    "arcface": ArcFaceLoss,
}
"""Name of each loss in the command and in tables, and its class."""

_SIZES = ("num_classes", "features")
"""Arguments of a loss that follow from the data and the network, and are nobody's options."""


class Description(NamedTuple):
    """What there is to say of a loss in a line of a table."""

    name: str
    formula: str
    source: str
    needs: frozenset[Need]
    options: dict[str, Any]


def make_loss(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    num_classes: int | None = None,
    features: int | None = None,
) -> Loss:
    """A loss by name.

    Args:
        name: a key of :data:`LOSSES`, or ``pml:`` and a loss of pytorch-metric-learning.
        options: arguments of its class.
        num_classes: K, for a loss with parameters of its own.
        features: D, width of the features, for a loss with parameters of its own.

    Raises:
        InputError: no such loss, no such option, or a value the option does not take.
    """
    given = dict(options or {})
    known = loss_options(name)
    for option in given:
        if option not in known:
            raise unknown_option(name, option, known)
    build: Any = loss_class(name)
    taken = inspect.signature(build).parameters
    sizes = dict(zip(_SIZES, (num_classes, features), strict=True))
    needed = {}
    for size, value in sizes.items():
        if size in taken and value is not None:
            needed[size] = value
        elif size in taken and taken[size].default is inspect.Parameter.empty:
            raise InputError(f"loss {name} has parameters of its own and needs {size}")
    if name.startswith(PREFIX):
        build = partial(build, name.removeprefix(PREFIX))
    try:
        loss: Loss = build(**needed, **given)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"loss {name} does not take {given}: {error}") from None
    return loss


def loss_class(name: str) -> type[Loss]:
    """The class of a loss by name.

    Raises:
        InputError: no such loss.
    """
    if name.startswith(PREFIX):
        return MetricLearningLoss
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def loss_options(name: str) -> dict[str, Any]:
    """Options of a loss and their defaults.

    Raises:
        InputError: no such loss.
    """
    hidden = (*_SIZES, "name") if name.startswith(PREFIX) else _SIZES
    options = {
        option: parameter.default
        for option, parameter in inspect.signature(loss_class(name)).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and option not in hidden
    }
    if name.startswith(PREFIX):
        options |= metric_learning_options(name.removeprefix(PREFIX))
    return options


def describe(name: str) -> Description:
    """Formula, source, needs and options of a loss.

    Raises:
        InputError: no such loss.
    """
    kind = loss_class(name)
    return Description(name, kind.formula, kind.source, kind.needs, loss_options(name))


__all__ = [
    "LOSSES",
    "ASoftmaxLoss",
    "ArcFaceLoss",
    "CenterLoss",
    "ChannelCorrelationLoss",
    "CosFaceLoss",
    "CrossEntropyLoss",
    "Description",
    "FocalInterClassAngularLoss",
    "FocalLoss",
    "InterClassAngularLoss",
    "Loss",
    "MetricLearningLoss",
    "MutualChannelLoss",
    "describe",
    "loss_class",
    "loss_options",
    "make_loss",
]
