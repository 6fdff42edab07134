"""A whole network: pixels to :class:`~ccloss.Output`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.models.attention import check_positive
from ccloss.models.backbones import Backbone, build_backbone, feature_width
from ccloss.models.heads import ClassifierHead
from ccloss.output import Output


class Classifier(nn.Module):
    """A backbone and a head, with the pixel normalisation they were trained with.

    Normalisation is part of the network, so that saved weights take plain images wherever they go.

    Args:
        backbone: images to features.
        head: features to logits.
        in_channels: channels of the images.
        num_classes: K.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, backbone: Backbone, head: ClassifierHead, in_channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.in_channels = in_channels
        self.register_buffer("pixel_mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("pixel_std", torch.ones(1, in_channels, 1, 1))
        if backbone.pixel_statistics is not None:
            self.set_pixel_statistics(*backbone.pixel_statistics)

    def set_pixel_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets mean and standard deviation per channel, for pixels in [0, 1]."""
        if len(mean) != self.in_channels or len(std) != self.in_channels:
            raise InputError(
                f"mean and std must have {self.in_channels} values, one a channel, "
                f"got {len(mean)} and {len(std)}"
            )
        if not all(value > 0 for value in std):
            raise InputError(f"std must be positive in every channel, got {tuple(std)}")
        self.pixel_mean.copy_(torch.tensor(mean).view(1, -1, 1, 1))
        self.pixel_std.copy_(torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Output:
        """(N, C, H, W) images, in [0, 1] or uint8 in 0..255 -> logits and what losses need.

        Raises:
            InputError: images of another shape or number of channels.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise InputError(
                f"images must be (N, {self.in_channels}, H, W), got {tuple(images.shape)}; "
                f"this model was built with in_channels={self.in_channels}"
            )
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        feature_map, features = self.backbone((images - self.pixel_mean) / self.pixel_std)
        output: Output = self.head(features)
        return output._replace(feature_map=feature_map)


def build_model(
    backbone: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    hidden_features: int = 512,
    attention: bool = True,
    pretrained: bool = False,
    reduction: int = 16,
    unit_classifier: bool = False,
) -> Classifier:
    """A classifier of the paper: a backbone, a hidden layer, channel attention, a classifier.

    Args:
        backbone: ``vgg16`` (with batch norm), ``resnet18``, ``convnet`` (for tiny images), or
            ``timm:<name>`` for any model of timm.
        num_classes: K.
        in_channels: channels of the images.
        image_size: their side in pixels; up to 64 ``resnet18`` has a small-image stem.
        hidden_features: D, width of the hidden layer and of attention.
        attention: with channel attention, which CC-Loss needs, or the same head without.
        pretrained: start the backbone from ImageNet; its pixel statistics come with it. Otherwise
            He initialisation (timm's models keep their own), and pixels are taken as they come
            until :meth:`Classifier.set_pixel_statistics`.
        reduction: of the attention module.
        unit_classifier: a classification layer without bias whose rows have length 1, as angular
            losses want it.

    Raises:
        InputError: an unknown backbone, a size below 1 or one the backbone does not take, weights
            that cannot be fetched.
    """
    check_positive(num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    built = build_backbone(backbone, in_channels, image_size, pretrained)
    width = feature_width(built, in_channels, image_size)
    head = ClassifierHead(
        width, hidden_features, num_classes, attention, reduction, unit_classifier
    )
    return Classifier(built, head, in_channels)
