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
    from ccloss.losses import (
        LOSSES,
        ArcFaceLoss,
        ASoftmaxLoss,
        CenterLoss,
        ChannelCorrelationLoss,
        CosFaceLoss,
        CrossEntropyLoss,
        FocalInterClassAngularLoss,
        FocalLoss,
        InterClassAngularLoss,
        Loss,
        MetricLearningLoss,
        MutualChannelLoss,
        VirtualSoftmaxLoss,
        make_loss,
    )
    from ccloss.losses import ChannelCorrelationLoss as CCLoss
    from ccloss.models import (
        ChannelAttention,
        Classifier,
        ClassifierHead,
        attach,
        build_model,
        tap,
    )
    from ccloss.output import Output

__version__ = "0.1.0"

__all__ = [
    "LOSSES",
    "ASoftmaxLoss",
    "ArcFaceLoss",
    "CCLoss",
    "CenterLoss",
    "ChannelAttention",
    "ChannelCorrelationLoss",
    "Classifier",
    "ClassifierHead",
    "CosFaceLoss",
    "CrossEntropyLoss",
    "FocalInterClassAngularLoss",
    "FocalLoss",
    "InputError",
    "InterClassAngularLoss",
    "Loss",
    "MetricLearningLoss",
    "MutualChannelLoss",
    "Output",
    "VirtualSoftmaxLoss",
    "attach",
    "build_model",
    "functional",
    "make_loss",
    "tap",
]

_HOMES = {
    "LOSSES": "ccloss.losses",
    "ASoftmaxLoss": "ccloss.losses",
    "ArcFaceLoss": "ccloss.losses",
    "CenterLoss": "ccloss.losses",
    "ChannelCorrelationLoss": "ccloss.losses",
    "CosFaceLoss": "ccloss.losses",
    "CrossEntropyLoss": "ccloss.losses",
    "FocalInterClassAngularLoss": "ccloss.losses",
    "FocalLoss": "ccloss.losses",
    "InterClassAngularLoss": "ccloss.losses",
    "Loss": "ccloss.losses",
    "MetricLearningLoss": "ccloss.losses",
    "MutualChannelLoss": "ccloss.losses",
    "VirtualSoftmaxLoss": "ccloss.losses",
    "make_loss": "ccloss.losses",
    "ChannelAttention": "ccloss.models",
    "Classifier": "ccloss.models",
    "ClassifierHead": "ccloss.models",
    "attach": "ccloss.models",
    "build_model": "ccloss.models",
    "tap": "ccloss.models",
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
