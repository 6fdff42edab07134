"""Backbones by name.

To add one, write a builder in a file of its own and add one line to :data:`BACKBONES`.
"""

import inspect
from collections.abc import Callable
from typing import Any

from ccloss.errors import InputError, unknown_name
from ccloss.models.backbones.base import IMAGENET_STATISTICS, Backbone, feature_width
from ccloss.models.backbones.convnet import convnet
from ccloss.models.backbones.resnet import resnet18
from ccloss.models.backbones.timm_model import timm_backbone
from ccloss.models.backbones.vgg import FinalPool, vgg16
from ccloss.validation import require_choice

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "vgg16": vgg16,
    "resnet18": resnet18,
    "convnet": convnet,
}
"""Builder of each backbone; arguments: ``in_channels``, ``image_size`` (px), ``pretrained``."""

TIMM_PREFIX = "timm:"
"""Start of the name of a backbone from timm."""


def build_backbone(
    name: str,
    in_channels: int,
    image_size: int,
    pretrained: bool,
    final_pool: FinalPool = "max",
) -> Backbone:
    """Builds a backbone.

    Args:
        name: a key of :data:`BACKBONES`, or ``timm:NAME`` for a model of timm.
        in_channels: channels of the images.
        image_size: side length of the images in pixels.
        pretrained: use weights trained on ImageNet.
        final_pool: fifth pooling layer of ``vgg16``; other backbones have none.

    Raises:
        InputError: an unknown name, or an argument that the backbone does not take.
    """
    require_choice("final_pool", final_pool, ("max", "average"))
    if name.startswith(TIMM_PREFIX):
        builder: Callable[..., Backbone] = timm_backbone
        arguments: tuple[Any, ...] = (name.removeprefix(TIMM_PREFIX),)
    elif name in BACKBONES:
        builder, arguments = BACKBONES[name], ()
    else:
        raise unknown_name("backbone", name, BACKBONES)
    options: dict[str, Any] = {}
    if "final_pool" in inspect.signature(builder).parameters:
        options["final_pool"] = final_pool
    elif final_pool != "max":
        raise InputError(
            f'final_pool must be "max" for backbone {name}, got {final_pool!r}: '
            "only vgg16 has a final pooling layer to replace"
        )
    return builder(*arguments, in_channels, image_size, pretrained, **options)


__all__ = [
    "BACKBONES",
    "IMAGENET_STATISTICS",
    "TIMM_PREFIX",
    "Backbone",
    "FinalPool",
    "build_backbone",
    "feature_width",
]
