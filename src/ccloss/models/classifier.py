"""A complete network: images to :class:`~ccloss.Output`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.models.backbones import Backbone, FinalPool, build_backbone, feature_width
from ccloss.models.heads import Activation, ClassifierHead, HeadNorm
from ccloss.output import Output
from ccloss.validation import require_positive_integer


class Classifier(nn.Module):
    """A backbone and a head, with the pixel normalization of their training.

    Normalization is part of the network: it is saved with the weights, and images need no other
    preparation than their size.

    Args:
        backbone: images to features.
        head: features to logits.
        in_channels: channels of the images.
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
        """Sets mean and standard deviation of each channel, for pixels in [0, 1].

        Raises:
            InputError: another number of values than channels, or a ``std`` that is not positive.
        """
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
        """Computes logits and what losses need.

        Args:
            images: (N, C, H, W), float in [0, 1] or uint8 in 0..255.

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
        # Up to PyTorch 2.11, a function that calls `_replace` of a named tuple cannot be compiled.
        return Output(
            logits=output.logits,
            features=output.features,
            attention=output.attention,
            feature_map=feature_map,
            classifier_weight=output.classifier_weight,
        )


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
    head_norm: HeadNorm = "batch",
    activation: Activation = "relu",
    final_pool: FinalPool = "max",
    classifier_bias: bool = True,
) -> Classifier:
    """Builds a classifier of the paper: a backbone and a :class:`ClassifierHead`.

    Args:
        backbone: ``vgg16`` (with batch normalization), ``resnet18``, ``convnet`` (for tiny
            images), or ``timm:NAME`` for any model of timm. All but ``convnet`` need the ``bench``
            extra.
        num_classes: K.
        in_channels: channels of the images.
        image_size: side length of the images in pixels; up to 64 ``resnet18`` has a stem for small
            images.
        hidden_features: D, width of the hidden layer and of attention.
        attention: whether the head has channel attention, which CC-Loss needs.
        pretrained: start the backbone with weights trained on ImageNet and normalize pixels as in
            their training. Otherwise weights are drawn as in He et al. (2015) (models of timm keep
            their own initialization), and pixels are not normalized until
            :meth:`Classifier.set_pixel_statistics` is called.
        reduction: of the attention module.
        unit_classifier: see :class:`ClassifierHead`.
        head_norm: see :class:`ClassifierHead`.
        activation: see :class:`ClassifierHead`.
        final_pool: ``"max"`` for the fifth max-pool of ``vgg16``, or ``"average"`` to replace it by
            the head's global average pooling.
        classifier_bias: see :class:`ClassifierHead`.

    Raises:
        InputError: an unknown backbone, an argument out of range or that the backbone does not
            take, a package that is not installed, or weights that cannot be fetched.
    """
    require_positive_integer("num_classes", num_classes)
    require_positive_integer("in_channels", in_channels)
    require_positive_integer("image_size", image_size)
    built = build_backbone(backbone, in_channels, image_size, pretrained, final_pool)
    head = ClassifierHead(
        feature_width(built, in_channels, image_size),
        hidden_features,
        num_classes,
        attention,
        reduction,
        unit_classifier,
        head_norm,
        activation,
        classifier_bias,
    )
    return Classifier(built, head, in_channels)
