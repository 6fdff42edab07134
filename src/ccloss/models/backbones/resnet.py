"""ResNet18."""

from torch import nn

from ccloss.errors import InputError, import_package
from ccloss.models.backbones.base import Backbone, MapBackbone, with_input_channels
from ccloss.models.backbones.torchvision_weights import build_with_weights, finish

SMALL_IMAGE = 64
"""Up to this side length, in pixels, the stem is a 3x3 convolution of stride 1 without max-pool."""


def resnet18(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """Builds ResNet18 from torchvision's layers, without its pooling and classifier."""
    models = import_package("torchvision.models", "backbone resnet18", "bench")
    if pretrained and image_size <= SMALL_IMAGE:
        raise InputError(
            f"pretrained resnet18 needs an image_size above {SMALL_IMAGE} px, got {image_size}: "
            "its 7x7 stem is for large images; use a larger image_size or pretrained=False"
        )
    weights = models.ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
    model = build_with_weights(lambda: models.resnet18(weights=weights), weights)
    stem: list[nn.Module]
    if image_size <= SMALL_IMAGE:
        stem = [nn.Conv2d(in_channels, 64, 3, padding=1, bias=False), model.bn1, model.relu]
    else:
        first = with_input_channels(model.conv1, in_channels)
        stem = [first, model.bn1, model.relu, model.maxpool]
    layers = nn.Sequential(*stem, model.layer1, model.layer2, model.layer3, model.layer4)
    return finish(MapBackbone(layers), in_channels, pretrained)
