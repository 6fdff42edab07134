"""The complete configuration of one training run."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ccloss.errors import InputError, did_you_mean
from ccloss.training.fields import (
    STRICT,
    BelowOne,
    LossOptions,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
)
from ccloss.training.options import TrainingOptions, check_options

Activation = Literal["relu", "identity"]
HeadNorm = Literal["batch", "none"]
Pool = Literal["max", "average"]
Precision = Literal["fp32", "bf16"]


def _parse_integer(value: Any) -> Any:
    """``"3"`` as 3: a command line gives text, which ``Literal`` does not convert."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Channels = Annotated[Literal[1, 3], BeforeValidator(_parse_integer)]

ATTENTION_SUFFIX = "+cam"
"""At the end of a loss's name: channel attention is added to the network."""

LEGACY_VALUES: Mapping[str, Any] = {
    "head_norm": "none",
    "final_pool": "average",
    "clip_grad_norm": 0.0,
}
"""Values of fields that older records do not have and whose default has changed since. They
describe what those runs did."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProtocolFields:
    """Fields whose default is the paper's protocol for every data set and backbone."""

    reduction: PositiveInt = 16
    """Reduction of the attention module's bottleneck."""

    head_norm: HeadNorm = "batch"
    """Batch normalisation after the hidden layer, before attention."""

    activation: Activation = "relu"
    """Activation of the features."""

    max_steps: PositiveInt | None = None
    """Largest number of steps; the learning rate ends with them."""

    learning_rate: PositiveFloat = 0.1
    """Learning rate at the first step."""

    final_learning_rate: NonNegativeFloat = 1e-5
    """Learning rate at the last step (1e-5), reached by half a cosine."""

    momentum: BelowOne = 0.9
    """Momentum of SGD."""

    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of SGD, on every parameter."""

    seed: Seed = 0
    """Seed of every random draw. Rounds differ in it alone."""

    train_limit: PositiveInt | None = None
    """Number of training images, the same share of every class; default: all."""

    test_limit: PositiveInt | None = None
    """Number of test images, the same share of every class; default: all."""

    allow_missing_classes: bool = False
    """Accept data with classes that only one of the training and test splits has."""

    validation: BelowOne = 0.0
    """Fraction of the training images that is held out and evaluated instead of the test images."""

    evaluate_every: PositiveInt = 1
    """Epochs between evaluations; the last epoch is always evaluated."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig(TrainingOptions, ProtocolFields):
    """Everything that determines one training run. Every field is known.

    :meth:`ccloss.bench.experiment.Experiment.resolve` makes it from what a user asks for. A run
    folder stores it as ``experiment.json``, and its record holds it as ``experiment``. The other
    fields are those of :class:`ProtocolFields` and
    :class:`~ccloss.training.options.TrainingOptions`.

    Attributes:
        data: name of the data set, or ``folder:PATH``.
        loss: name of the loss.
        loss_options: arguments of the loss that differ from its defaults.
        backbone: name of the backbone, or ``timm:NAME``.
        attention: whether the head has channel attention.
        hidden_features: D, width of the hidden layer and of the attention vector.
        final_pool: fifth pooling of VGG16; ``None`` for every other backbone.
        clip_grad_norm: largest norm of the gradient of all parameters; 0: no clipping.
        pretrained: whether the backbone starts from ImageNet weights.
        image_size: side of the images in pixels.
        resize: short side in pixels to which large images are resized before the crop; 0 means
            ``image_size``.
        channels: channels of the images.
        padding: zero pixels around an image before its random crop.
        flip: probability of a horizontal flip.
        epochs: passes over the training images.
        batch_size: images in a step, over all processes.
        precision: of the network; losses are always computed in fp32.
    """

    data: str
    loss: str
    loss_options: LossOptions
    backbone: str
    attention: bool
    hidden_features: PositiveInt
    final_pool: Pool | None
    clip_grad_norm: NonNegativeFloat
    pretrained: bool
    image_size: PositiveInt
    resize: NonNegativeInt
    channels: Channels
    padding: NonNegativeInt
    flip: Probability
    epochs: PositiveInt
    batch_size: PositiveInt
    precision: Precision

    @model_validator(mode="after")
    def _check_consistency(self) -> "RunConfig":
        check_consistency(self)
        return self

    @property
    def method(self) -> str:
        """The row in a table: the loss, ``+cam``, and options that differ from their defaults."""
        from ccloss.losses import loss_class  # imports torch

        name = self.loss
        if self.attention and "attention" not in loss_class(self.loss).needs:
            name += ATTENTION_SUFFIX
        options = [f"{key}={value}" for key, value in sorted(self.loss_options.items())]
        return " ".join([name, *options])

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Reads the fields of a stored run, also those of an older version.

        Fields that an older version did not have take their default, or the value of
        :data:`LEGACY_VALUES`.

        Raises:
            InputError: a field is unknown, missing or has an invalid value.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise InputError(f"unknown field {name!r}{did_you_mean(str(name), known)}")
        complete = {**LEGACY_VALUES, **fields}
        for name, field in known.items():
            if name not in complete and field.default is dataclasses.MISSING:
                raise InputError(f"field {name!r} is missing")
        if not is_vgg16(str(complete["backbone"])):
            complete["final_pool"] = None
        if complete["clip_grad_norm"] is None:  # no clipping, in records of older versions
            complete["clip_grad_norm"] = LEGACY_VALUES["clip_grad_norm"]
        complete["loss"] = str(complete["loss"]).removesuffix(ATTENTION_SUFFIX)
        try:
            return cls(**complete)
        except ValidationError as error:
            raise InputError(explain(error)) from None


def is_vgg16(backbone: str) -> bool:
    """Whether a backbone has the fifth pooling that ``final_pool`` selects."""
    return backbone == "vgg16"


def check_consistency(fields: Any) -> None:
    """Checks fields against each other.

    Args:
        fields: a :class:`RunConfig`, or an object with the same attributes, some of them ``None``.

    Raises:
        ValueError: two fields contradict each other.
    """
    if fields.schedule == "cosine" and fields.final_learning_rate > fields.learning_rate:
        raise ValueError(
            f"final_learning_rate must not be above learning_rate ({fields.learning_rate}), "
            f"got {fields.final_learning_rate}"
        )
    if fields.resize and fields.image_size and fields.resize < fields.image_size:
        raise ValueError(
            f"resize must not be below image_size ({fields.image_size}), got {fields.resize}"
        )
    check_options(fields)


def explain(error: ValidationError) -> str:
    """The first error of a validation, in one line."""
    first = error.errors(include_url=False)[0]
    # At most two parts: for an option of a loss, the types that were tried follow.
    name = ".".join(str(part) for part in first["loc"][:2])
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        return message
    if first["type"] == "missing":
        return f"field {name!r} is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown field {name!r}"
    message = message.removeprefix("Input ").replace("should", "must")
    return f"{name} {message}, got {first['input']!r}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Fields in which two runs differ, as ``name: 1 before, 2 now``; empty if none do."""
    names = [*before, *(name for name in now if name not in before)]
    return "; ".join(
        f"{name}: {before.get(name)} before, {now.get(name)} now"
        for name in names
        if before.get(name) != now.get(name)
    )
