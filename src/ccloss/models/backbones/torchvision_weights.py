"""Pretrained weights of torchvision."""

import os
from collections.abc import Callable
from typing import Any

import torch

from ccloss.errors import InputError
from ccloss.models.backbones.base import IMAGENET_STATISTICS, Backbone, statistics_for
from ccloss.models.initialization import he_initialize


def build_with_weights(build: Callable[[], Any], weights: Any) -> Any:
    """Builds a model of torchvision, whose weights are read from torch's cache or downloaded.

    Raises:
        InputError: the weights are not in the cache and cannot be downloaded.
    """
    try:
        return build()
    except OSError as error:  # URLError included
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        raise InputError(
            f"pretrained weights could not be fetched ({error}); put {weights.url.split('/')[-1]} "
            f"in {folder} (TORCH_HOME moves it), or use pretrained=False"
        ) from None


def finish(backbone: Backbone, in_channels: int, pretrained: bool) -> Backbone:
    """Sets the statistics that pretrained weights expect, or draws He's initial weights."""
    if pretrained:
        backbone.pixel_statistics = statistics_for(IMAGENET_STATISTICS, in_channels)
    else:
        he_initialize(backbone)
    return backbone
