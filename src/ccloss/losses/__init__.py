"""Losses. All are called as ``loss(output, labels)``.

To add one, write a subclass of :class:`Loss` and register it::

    ccloss.LOSSES["mine"] = MyLoss
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from ccloss.errors import InputError, unknown_name, unknown_option
from ccloss.losses.angular import ArcFaceLoss, ASoftmaxLoss, CosFaceLoss
from ccloss.losses.base import Loss
from ccloss.losses.center import CenterLoss
from ccloss.losses.channel_correlation import ChannelCorrelationLoss, ClassOverlapLoss
from ccloss.losses.cross_entropy import CrossEntropyLoss
from ccloss.losses.focal import FocalLoss
from ccloss.losses.inter_class import FocalInterClassAngularLoss, InterClassAngularLoss
from ccloss.losses.metric_learning import PML_PREFIX, MetricLearningLoss, metric_learning_options
from ccloss.losses.mutual_channel import MutualChannelLoss
from ccloss.losses.virtual_softmax import VirtualSoftmaxLoss

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
    "virtual-softmax": VirtualSoftmaxLoss,
    "class-overlap": ClassOverlapLoss,
}
"""Class of each loss by its name in the command and in tables."""

CCLoss = ChannelCorrelationLoss
"""Short name of the paper's loss."""

_SIZES = ("num_classes", "features")
"""Arguments of losses that follow from data and network and are not options."""

_NOT_OPTIONS = (*_SIZES, "process_group")
"""Arguments of losses that have no textual form or follow from data and network."""


def make_loss(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    num_classes: int | None = None,
    features: int | None = None,
) -> Loss:
    """Builds a loss by name.

    Args:
        name: a key of :data:`LOSSES`, or ``pml:NAME`` for a loss of pytorch-metric-learning.
        options: arguments of the loss's class.
        num_classes: K, for a loss with parameters.
        features: D, width of the features, for a loss with parameters.

    Raises:
        InputError: an unknown loss or option, a value out of range, or a missing size.
    """
    given = dict(options or {})
    known = loss_options(name)
    for option in given:
        if option not in known:
            raise unknown_option(name, option, known)
    build: Any = loss_class(name)
    parameters = inspect.signature(build).parameters
    sizes: dict[str, int] = {}
    for size, value in zip(_SIZES, (num_classes, features), strict=True):
        if size in parameters and value is not None:
            sizes[size] = value
        elif size in parameters and parameters[size].default is inspect.Parameter.empty:
            raise InputError(f"loss {name} has parameters and needs {size}")
    if name.startswith(PML_PREFIX):
        build = partial(build, name.removeprefix(PML_PREFIX))
    loss: Loss = build(**sizes, **given)
    return loss


def loss_class(name: str) -> type[Loss]:
    """Class of a loss.

    Raises:
        InputError: an unknown loss.
    """
    if name.startswith(PML_PREFIX):
        return MetricLearningLoss
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def loss_options(name: str) -> dict[str, Any]:
    """Options of a loss and their defaults.

    Raises:
        InputError: an unknown loss.
    """
    hidden = (*_NOT_OPTIONS, "name") if name.startswith(PML_PREFIX) else _NOT_OPTIONS
    options = {
        option: parameter.default
        for option, parameter in inspect.signature(loss_class(name)).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and option not in hidden
    }
    if name.startswith(PML_PREFIX):
        options |= metric_learning_options(name.removeprefix(PML_PREFIX))
    return options


__all__ = [
    "LOSSES",
    "PML_PREFIX",
    "ASoftmaxLoss",
    "ArcFaceLoss",
    "CCLoss",
    "CenterLoss",
    "ChannelCorrelationLoss",
    "ClassOverlapLoss",
    "CosFaceLoss",
    "CrossEntropyLoss",
    "FocalInterClassAngularLoss",
    "FocalLoss",
    "InterClassAngularLoss",
    "Loss",
    "MetricLearningLoss",
    "MutualChannelLoss",
    "VirtualSoftmaxLoss",
    "loss_class",
    "loss_options",
    "make_loss",
]
