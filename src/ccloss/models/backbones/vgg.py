"""VGG16 with batch normalization."""

from typing import Literal

from torch import Tensor, nn

from ccloss.errors import import_package
from ccloss.models.backbones.base import Backbone, with_input_channels
from ccloss.models.backbones.torchvision_weights import build_with_weights, finish

FinalPool = Literal["max", "average"]


class VGG16(Backbone):
    """The convolutional layers of VGG16.

    Pooling layers round up, so that images of 24 px pass all five: 24, 12, 6, 3, 2, 1.

    Args:
        layers: all layers before the fifth pooling layer.
        final_pool: ``"max"`` is the fifth max-pool of the paper's network. ``"average"`` leaves it
            out; the head's global average pooling takes its place.
    """

    def __init__(self, layers: nn.Module, final_pool: FinalPool) -> None:
        super().__init__()
        self.layers = layers
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if final_pool == "max" else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        before = self.layers(images)
        features = self.pool(before)
        # Losses on the feature map need more than one position: images up to 32 px leave one.
        one_position = features.shape[2] * features.shape[3] == 1
        return before if one_position else features, features


def vgg16(
    in_channels: int, image_size: int, pretrained: bool, final_pool: FinalPool = "max"
) -> Backbone:
    """Builds VGG16 from torchvision's layers."""
    models = import_package("torchvision.models.vgg", "backbone vgg16", "bench")
    if pretrained:
        weights = models.VGG16_BN_Weights.IMAGENET1K_V1
        layers = build_with_weights(lambda: models.vgg16_bn(weights=weights), weights).features
    else:  # torchvision's model has a classifier of 120 million weights, which is not needed
        layers = models.make_layers(models.cfgs["D"], batch_norm=True)
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    layers[0] = with_input_channels(layers[0], in_channels)
    return finish(VGG16(layers[:-1], final_pool), in_channels, pretrained)
