"""Backbones: torchvision's and timm's own modules, their first and last layers adapted."""

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from ccloss.errors import InputError, did_you_mean, unknown_name
from ccloss.models.heads import he_initialise

SMALL_IMAGE = 64
"""Up to this side, in pixels, ResNet18 starts with a 3x3 stride-1 stem and no max-pool."""

# RGB of ImageNet in [0, 1], with which torchvision's weights were trained.
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Backbone(nn.Module):
    """Images to features.

    Attributes:
        pixel_statistics: mean and standard deviation per channel that pretrained weights expect,
            for pixels in [0, 1]; ``None`` for weights that have seen nothing.
    """

    pixel_statistics: Statistics | None = None

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """(N, C, H, W) normalised images -> last feature map if there is one, and features.

        Features are a map (N, F, H', W') for the head to squeeze, or vectors (N, F).
        """
        raise AssertionError("a backbone defines its own forward")


class MapBackbone(Backbone):
    """Layers that end in a feature map, which the head squeezes by global average pooling."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        feature_map = self.layers(images)
        return feature_map, feature_map


class TimmBackbone(Backbone):
    """Any model of timm, without its classifier; its own pooling makes the features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        features = self.model.forward_features(images)
        vectors = self.model.forward_head(features, pre_logits=True)
        return self._as_map(features, vectors), vectors

    def _as_map(self, features: Tensor, vectors: Tensor) -> Tensor | None:
        """(N, C, H, W), turned round if the model keeps channels last; tokens have no map."""
        if features.ndim != 4:
            return None
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if channels_last else features


def build_backbone(name: str, in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """A backbone by name: ``vgg16``, ``resnet18``, ``convnet`` or ``timm:<name>``.

    Raises:
        InputError: an unknown name, a size or weights that it does not have.
    """
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), in_channels, image_size, pretrained)
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    return BACKBONES[name](in_channels, image_size, pretrained)


def feature_width(backbone: Backbone, in_channels: int, image_size: int) -> int:
    """Width of a backbone's features, found by passing one blank image through it."""
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        _, features = backbone(torch.zeros(1, in_channels, image_size, image_size))
    backbone.train(training)
    return int(features.shape[1])


def _vgg16(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """VGG16 with batch norm; its pools round up, so that 24 px survive them.

    The global average takes the place of the last max-pool. At the protocol's learning rate of 0.1
    maxima are too large an input for a hidden layer without normalisation: its units die in the
    first steps (`docs/decisions.md` has the numbers).
    """
    from torchvision.models.vgg import VGG16_BN_Weights, cfgs, make_layers, vgg16_bn

    if pretrained:
        weights = VGG16_BN_Weights.IMAGENET1K_V1
        layers = _fetch(lambda: vgg16_bn(weights=weights), weights).features
    else:  # without its classifier, which has eight times as many weights
        layers = make_layers(cfgs["D"], batch_norm=True)
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    layers[0] = _with_channels(layers[0], in_channels)
    return _finish(MapBackbone(layers[:-1]), in_channels, pretrained)


def _resnet18(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    from torchvision.models import ResNet18_Weights, resnet18

    if pretrained and image_size <= SMALL_IMAGE:
        raise InputError(
            f"pretrained resnet18 needs an image_size above {SMALL_IMAGE} px, got {image_size}: "
            "its 7x7 stem is for large images; use a larger image_size or pretrained=False"
        )
    weights = ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
    model = _fetch(lambda: resnet18(weights=weights), weights)
    if image_size <= SMALL_IMAGE:
        stem: list[nn.Module] = [nn.Conv2d(in_channels, 64, 3, padding=1, bias=False), model.bn1]
        stem.append(model.relu)
    else:
        stem = [_with_channels(model.conv1, in_channels), model.bn1, model.relu, model.maxpool]
    layers = nn.Sequential(*stem, model.layer1, model.layer2, model.layer3, model.layer4)
    return _finish(MapBackbone(layers), in_channels, pretrained)


def _convnet(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """Four 3x3 convolutions for tiny images: 8 px become a 2x2 map of 128 channels."""
    if pretrained:
        raise InputError("pretrained weights do not exist for convnet; use pretrained=False")
    widths = [in_channels, 32, 64, 128, 128]
    layers: list[nn.Module] = []
    for index, (width, next_width) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(width, next_width, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(next_width), nn.ReLU(inplace=True)]
        if index in (0, 2):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return _finish(MapBackbone(nn.Sequential(*layers)), in_channels, pretrained)


BACKBONES: dict[str, Callable[[int, int, bool], Backbone]] = {
    "vgg16": _vgg16,
    "resnet18": _resnet18,
    "convnet": _convnet,
}
"""Name -> builder from channels of the image, its side in pixels, and pretrained."""


def _finish(backbone: Backbone, in_channels: int, pretrained: bool) -> Backbone:
    if pretrained:
        backbone.pixel_statistics = _statistics_for(IMAGENET_STATISTICS, in_channels)
    else:
        he_initialise(backbone)
    return backbone


def _with_channels(layer: nn.Module, in_channels: int) -> nn.Module:
    """The first convolution for images of so many channels; trained weights are summed for gray."""
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
        # The same answer to a gray image as the old layer's to its copy in every channel.
        gray = layer.weight.sum(1, keepdim=True) / in_channels
        new.weight.copy_(gray.expand_as(new.weight))
        if new.bias is not None and layer.bias is not None:
            new.bias.copy_(layer.bias)
    return new


def _statistics_for(statistics: Statistics, in_channels: int) -> Statistics:
    """Statistics of RGB, or their means for images of another number of channels."""
    mean, std = statistics
    if len(mean) == in_channels:
        return statistics
    return (sum(mean) / len(mean),) * in_channels, (sum(std) / len(std),) * in_channels


def _fetch(build: Callable[[], Any], weights: Any) -> Any:
    """Builds a torchvision model; its weights come from torch's cache or are downloaded to it."""
    try:
        return build()
    except (URLError, OSError) as error:
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        raise InputError(
            f"pretrained weights could not be fetched ({error}); put {weights.url.split('/')[-1]} "
            f"in {folder} (TORCH_HOME moves it), or use pretrained=False"
        ) from None


def _timm(name: str, in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    import timm

    if not timm.is_model(name):
        raise InputError(
            f"backbone timm:{name} is not a model of timm {timm.__version__}"
            + did_you_mean(name, timm.list_models())
        )
    config = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = (
        {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    )
    try:
        model = timm.create_model(
            name, pretrained=pretrained, in_chans=in_channels, num_classes=0, **sized
        )
        backbone = TimmBackbone(model)
        feature_width(backbone, in_channels, image_size)
    except Exception as error:  # asserts, shapes, hub errors: what its many models raise
        raise InputError(_timm_complaint(name, image_size, pretrained, error)) from error
    if pretrained:
        trained: Any = model.pretrained_cfg
        statistics = (tuple(trained["mean"]), tuple(trained["std"]))
        backbone.pixel_statistics = _statistics_for(statistics, in_channels)
    return backbone


def _timm_complaint(name: str, image_size: int, pretrained: bool, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if pretrained:
        return (
            f"backbone timm:{name} could not be built with its pretrained weights ({reason}); if "
            "they are not here yet, fetch them once with a network (HF_HOME keeps them); or use "
            "pretrained=False"
        )
    return (
        f"backbone timm:{name} does not take images of {image_size} px ({reason}); "
        "choose another image_size or backbone"
    )
