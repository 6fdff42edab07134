"""What a user asks for. The paper's protocol fills what is left open."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ccloss.data.catalog import SOURCES, resolve_data_name
from ccloss.errors import InputError, unknown_name
from ccloss.training.config import (
    ATTENTION_SUFFIX,
    Channels,
    Pool,
    Precision,
    ProtocolFields,
    RunConfig,
    check_consistency,
    explain,
    is_vgg16,
)
from ccloss.training.fields import (
    STRICT,
    LossOptions,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Probability,
)
from ccloss.training.options import TrainingOptions

DEFAULTS: Mapping[str, Any] = {
    "backbone": "vgg16",
    "hidden_features": 512,
    "final_pool": None,
    "clip_grad_norm": 0.0,
    "pretrained": False,
    "image_size": 32,
    "resize": 0,
    "padding": 4,
    "flip": 0.5,
    "epochs": 300,
    "batch_size": 32,
}
"""Values of fields that are left open, for every data set that :data:`PROTOCOLS` does not name."""

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    # Sec. 3.2 of the paper. MNIST is resized to 24 px and not flipped.
    "mnist": {"image_size": 24, "padding": 0, "flip": 0.0},
    "cifar100": {"image_size": 32, "padding": 4, "flip": 0.5},
    "cars196": {
        "image_size": 224,
        "resize": 256,
        "padding": 4,
        "flip": 0.5,
        "batch_size": 16,
        "pretrained": True,
    },
    # Not in the paper: a small data set on which a run takes seconds. Digits are never flipped.
    "digits": {
        "backbone": "convnet",
        "image_size": 8,
        "padding": 1,
        "flip": 0.0,
        "hidden_features": 64,
        "epochs": 20,
        "precision": "fp32",  # the steps are too small to gain from bf16
    },
}
"""Values of a data set that differ from :data:`DEFAULTS`."""

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    # The paper's VGG16 has a fifth max-pool. The paper does not mention clipping; without it, the
    # network learns slowly at the paper's learning rate (docs/decisions.md).
    "vgg16": {"final_pool": "max", "clip_grad_norm": 1.0},
}
"""Values of a backbone that differ from :data:`DEFAULTS`."""


def protocol(data: str, backbone: str | None = None) -> dict[str, Any]:
    """Values of fields that are left open.

    Args:
        data: name of the data set.
        backbone: name of the backbone; default: that of the data set's protocol.
    """
    fields = {**DEFAULTS, **PROTOCOLS.get(data, {})}
    fields["backbone"] = backbone or fields["backbone"]
    return {**fields, **NETWORKS.get(fields["backbone"], {})}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenFields:
    """What is compared, and fields whose default depends on the data set or the backbone."""

    data: str = "cifar100"
    """Name of a data set (see `ccloss data list`), a folder, or hub:OWNER/NAME."""

    loss: str = "cc"
    """Name of the loss; +cam after a name adds channel attention to its network."""

    loss_options: LossOptions = dataclasses.field(default_factory=dict)
    """Options of the loss itself: --loss.NAME VALUE is the short form."""

    backbone: str | None = None
    """vgg16, resnet18, convnet, or timm:NAME."""

    attention: bool | None = None
    """Channel attention in the head; default: on if the loss needs it or its name ends in +cam."""

    hidden_features: PositiveInt | None = None
    """Width of the hidden layer and of the attention vector."""

    final_pool: Pool | None = None
    """Fifth pooling of VGG16 (the paper: max)."""

    clip_grad_norm: NonNegativeFloat | None = None
    """Largest norm of the gradient of all parameters; 0: no clipping. Default: 1.0 for VGG16, 0
    for other backbones."""

    pretrained: bool | None = None
    """Start the backbone from ImageNet weights."""

    image_size: PositiveInt | None = None
    """Side of the images in pixels."""

    resize: NonNegativeInt | None = None
    """Short side in pixels to which large images are resized before the crop; 0: image_size."""

    channels: Channels | None = None
    """Channels of the images; default: those of the data set."""

    padding: NonNegativeInt | None = None
    """Zero pixels around an image before its random crop; 0: no crop of small images."""

    flip: Probability | None = None
    """Probability of a horizontal flip."""

    epochs: PositiveInt | None = None
    """Passes over the training images."""

    batch_size: PositiveInt | None = None
    """Images in a step, over all processes."""

    precision: Precision | None = None
    """Precision of the network; default: bf16 on a device with bf16 instructions. Losses are
    always computed in fp32."""


# The order of the base classes decides that of the options in the help: OpenFields come first.
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment(TrainingOptions, ProtocolFields, OpenFields):
    """One training run as a user describes it. :meth:`resolve` fills fields that are ``None``."""

    @model_validator(mode="after")
    def _check_consistency(self) -> "Experiment":
        check_consistency(self)
        return self

    def resolve(self, *, channels: int | None = None, precision: Precision = "fp32") -> RunConfig:
        """The configuration to run: what is given, then the data set's protocol, then defaults.

        Args:
            channels: channels of the images of a folder or a Hub data set.
            precision: used if neither the experiment nor the protocol gives one.

        Raises:
            InputError: unknown data set, backbone, loss or loss option; a loss option with an
                invalid value; fields that contradict each other; ``channels`` is needed and not
                given.
        """
        data = resolve_data_name(self.data)
        defaults = {"precision": precision, **protocol(data, self.backbone)}
        given = {name: value for name, value in vars(self).items() if value is not None}
        fields = {**defaults, **given}
        _check_backbone(fields["backbone"])
        _check_final_pool(fields["backbone"], self.final_pool)
        fields["data"] = data
        if self.init_from is not None and self.pretrained is None:
            fields["pretrained"] = False
        fields["channels"] = self.channels or _channels(data, channels)
        fields["loss"] = self.loss.removesuffix(ATTENTION_SUFFIX)
        fields["loss_options"] = _without_defaults(fields["loss"], self.loss_options)
        fields["attention"] = _attention(self.loss, self.attention)
        try:
            return RunConfig(**fields)
        except ValidationError as error:
            raise InputError(explain(error)) from None


def _check_backbone(backbone: str) -> None:
    from ccloss.models.backbones import BACKBONES  # imports torch

    if backbone not in BACKBONES and not backbone.startswith("timm:"):
        raise unknown_name("backbone", backbone, BACKBONES)


def _channels(data: str, channels: int | None) -> int:
    if data in SOURCES:
        return SOURCES[data].channels
    if channels is None:
        raise InputError(f"channels must be given for data {data!r}; use 1 (gray) or 3 (RGB)")
    return channels


def _check_final_pool(backbone: str, final_pool: Pool | None) -> None:
    if final_pool is not None and not is_vgg16(backbone):
        raise InputError(
            f"final_pool is an option of backbone vgg16, got {final_pool!r} with backbone "
            f"{backbone!r}; leave it out"
        )


def _attention(loss: str, attention: bool | None) -> bool:
    from ccloss.losses import loss_class  # imports torch

    name = loss.removesuffix(ATTENTION_SUFFIX)
    required = name != loss or "attention" in loss_class(name).needs
    if required and attention is False:
        raise InputError(
            f"attention must not be off for loss {loss!r}, which uses it; leave the option out or "
            "choose another loss"
        )
    return required or bool(attention)


def _without_defaults(loss: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a loss, checked, without those that are given at their default value."""
    from ccloss.losses import loss_options, make_loss  # imports torch

    if not options:
        return {}
    make_loss(loss, options, num_classes=1, features=1)
    defaults = loss_options(loss)
    return {name: value for name, value in options.items() if value != defaults[name]}
