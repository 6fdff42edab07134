"""ccloss: CC-Loss (Song et al., 2020) and a fair bench around it.

    >>> import torch, ccloss
    >>> model = ccloss.build_model("convnet", num_classes=10, in_channels=1, image_size=8)
    >>> loss = ccloss.CCLoss(weight=1.0)
    >>> output = model(torch.rand(32, 1, 8, 8))
    >>> loss(output, torch.arange(32) % 10).backward()

Names are imported when they are first used, so that the command answers before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccloss import functional
    from ccloss.errors import InputError
    from ccloss.losses import LOSSES, ChannelCorrelationLoss, CrossEntropyLoss, Loss
    from ccloss.losses import ChannelCorrelationLoss as CCLoss
    from ccloss.models import ChannelAttention, Classifier, ClassifierHead, build_model
    from ccloss.output import Output

__version__ = "0.1.0"

__all__ = [
    "LOSSES",
    "CCLoss",
    "ChannelAttention",
    "ChannelCorrelationLoss",
    "Classifier",
    "ClassifierHead",
    "CrossEntropyLoss",
    "InputError",
    "Loss",
    "Output",
    "build_model",
    "functional",
]

_HOMES = {
    "LOSSES": "ccloss.losses",
    "ChannelCorrelationLoss": "ccloss.losses",
    "CrossEntropyLoss": "ccloss.losses",
    "Loss": "ccloss.losses",
    "ChannelAttention": "ccloss.models",
    "Classifier": "ccloss.models",
    "ClassifierHead": "ccloss.models",
    "build_model": "ccloss.models",
    "InputError": "ccloss.errors",
    "Output": "ccloss.output",
}


def __getattr__(name: str) -> Any:
    if name == "functional":
        return import_module("ccloss.functional")
    if name == "CCLoss":
        return import_module("ccloss.losses").ChannelCorrelationLoss
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ccloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
