"""The interface of backbones, and what several of them share."""

import torch
from torch import Tensor, nn

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for pixels in [0, 1]."""

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel statistics (RGB) of the images on which torchvision's weights were trained."""


class Backbone(nn.Module):
    """A network that turns images into features.

    Attributes:
        pixel_statistics: channel statistics that pretrained weights expect; ``None`` without
            pretrained weights.
    """

    pixel_statistics: Statistics | None = None

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Computes the last feature map and the features.

        Args:
            images: (N, C, H, W), normalized.

        Returns:
            The last feature map (N, F, H', W'), or ``None`` if there is none; and the features, a
            map (N, F, H'', W'') for the head to pool or vectors (N, F).
        """
        raise NotImplementedError


class MapBackbone(Backbone):
    """Layers that end in a feature map, which is the features too."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        feature_map = self.layers(images)
        return feature_map, feature_map


def feature_width(backbone: Backbone, in_channels: int, image_size: int) -> int:
    """Number of features F, found with one forward pass of a blank image in evaluation mode."""
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        _, features = backbone(torch.zeros(1, in_channels, image_size, image_size))
    backbone.train(training)
    return int(features.shape[1])


def with_input_channels(layer: nn.Module, in_channels: int) -> nn.Module:
    """Adapts the first convolution to another number of image channels.

    The weights of all input channels are replaced by their sum divided by ``in_channels``. A gray
    image, repeated in every channel, then gives the same output as before.
    """
    assert isinstance(layer, nn.Conv2d)
    if in_channels == layer.in_channels:
        return layer
    new = nn.Conv2d(
        in_channels,
        layer.out_channels,
        (layer.kernel_size[0], layer.kernel_size[1]),
        (layer.stride[0], layer.stride[1]),
        (int(layer.padding[0]), int(layer.padding[1])),
        bias=layer.bias is not None,
    )
    with torch.no_grad():
        gray = layer.weight.sum(1, keepdim=True) / in_channels
        new.weight.copy_(gray.expand_as(new.weight))
        if new.bias is not None and layer.bias is not None:
            new.bias.copy_(layer.bias)
    return new


def statistics_for(statistics: Statistics, in_channels: int) -> Statistics:
    """RGB statistics, or their average over channels for another number of channels."""
    mean, std = statistics
    if len(mean) == in_channels:
        return statistics
    return (sum(mean) / len(mean),) * in_channels, (sum(std) / len(std),) * in_channels
