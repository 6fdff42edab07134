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
    from ccloss.inference import load
    from ccloss.losses import (
        LOSSES,
        ArcFaceLoss,
        ASoftmaxLoss,
        CCLoss,
        CenterLoss,
        ChannelCorrelationLoss,
        ClassOverlapLoss,
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
    "ClassOverlapLoss",
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
    "load",
    "make_loss",
    "tap",
]

_MODULES = (
    "ccloss.errors",
    "ccloss.output",
    "ccloss.losses",
    "ccloss.models",
    "ccloss.inference",
)


def __getattr__(name: str) -> Any:
    if name == "functional":
        return import_module("ccloss.functional")
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'ccloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
