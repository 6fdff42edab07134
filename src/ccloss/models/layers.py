"""Layers of a model by dotted name."""

from torch import nn

from ccloss.errors import InputError, did_you_mean


def require_layer(model: nn.Module, name: str, argument: str) -> nn.Module:
    """The layer of that name; the empty name is the model itself.

    Raises:
        InputError: no such layer; the message names ``argument`` and the nearest name.
    """
    known = dict(model.named_modules())
    if name not in known:
        raise InputError(
            f"{argument} must name a layer of {type(model).__name__}, got {name!r}"
            + did_you_mean(name, known)
        )
    layer: nn.Module = known[name]
    return layer
