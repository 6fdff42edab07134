"""A small network for tiny images."""

from itertools import pairwise

from torch import nn

from ccloss.errors import InputError
from ccloss.models.backbones.base import Backbone, MapBackbone
from ccloss.models.initialization import he_initialize


def convnet(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """Builds four 3x3 convolutions with two max-pools: 8 px become a 2x2 map of 128 channels."""
    if pretrained:
        raise InputError("pretrained weights do not exist for convnet; use pretrained=False")
    widths = [in_channels, 32, 64, 128, 128]
    layers: list[nn.Module] = []
    for index, (width, next_width) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(width, next_width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(next_width), nn.ReLU(inplace=True)]
        if index in (0, 2):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    backbone = MapBackbone(nn.Sequential(*layers))
    he_initialize(backbone)
    return backbone
