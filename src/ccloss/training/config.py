"""The complete configuration of one training run."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ccloss.errors import InputError, did_you_mean

Activation = Literal["relu", "identity"]
HeadNorm = Literal["batch", "none"]
Pool = Literal["max", "average"]
Precision = Literal["fp32", "bf16"]
Sampler = Literal["shuffle", "m-per-class"]

NonNegativeInt = Annotated[int, Field(ge=0, lt=2**31)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
ValidationFraction = Annotated[float, Field(ge=0, lt=1)]


def _parse_integer(value: Any) -> Any:
    """``"3"`` as 3: a command line gives text, which ``Literal`` does not convert."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Channels = Annotated[Literal[1, 3], BeforeValidator(_parse_integer)]


def _parse_list(value: Any) -> Any:
    """``"1,2,3"`` as a list of floats, which is how a command line gives one."""
    if not (isinstance(value, str) and "," in value):
        return value
    try:
        return [float(number) for number in value.split(",")]
    except ValueError:
        raise ValueError("must be numbers separated by commas") from None


# Tried from left to right, so that text from a command line becomes a number where possible.
LossOption = Annotated[
    int | float | list[float] | str,
    Field(union_mode="left_to_right"),
    BeforeValidator(_parse_list),
]
LossOptions = dict[str, LossOption]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of the validated dataclasses: unknown fields, NaN and infinity are errors."""

ATTENTION_SUFFIX = "+cam"
"""At the end of a loss's name: channel attention is added to the network."""

LEGACY_VALUES: Mapping[str, Any] = {
    "sampler": "shuffle",
    "samples_per_class": 4,
    "head_norm": "none",
    "activation": "relu",
    "final_pool": "average",
    "clip_grad_norm": None,
    "allow_missing_classes": False,
}
"""Values of fields that older records lack. They describe what those runs did."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """Everything that determines one training run. Every field is known.

    :meth:`ccloss.bench.experiment.Experiment.resolve` makes it from what a user asks for. A run
    folder stores it as ``experiment.json``, and its record holds it as ``experiment``.

    Attributes:
        data: name of the data set, or ``folder:PATH``.
        loss: name of the loss.
        loss_options: arguments of the loss that differ from its defaults.
        backbone: name of the backbone, or ``timm:NAME``.
        attention: whether the head has channel attention.
        hidden_features: D, width of the hidden layer and of the attention vector.
        reduction: reduction of the attention module's bottleneck.
        head_norm: ``batch`` normalises the hidden layer's output before attention.
        activation: of the features: ``relu`` (the paper) or ``identity``.
        final_pool: fifth pooling of VGG16; ``None`` for every other backbone.
        pretrained: whether the backbone starts from ImageNet weights.
        image_size: side of the images in pixels.
        resize: short side in pixels to which large images are resized before the crop; 0 means
            ``image_size``.
        channels: channels of the images.
        padding: zero pixels around an image before its random crop.
        flip: probability of a horizontal flip.
        epochs: passes over the training images.
        max_steps: largest number of optimiser steps; ``None`` means no limit.
        batch_size: images in a step, over all processes.
        sampler: ``shuffle``, or ``m-per-class`` for batches of ``samples_per_class`` images of
            each of some classes.
        samples_per_class: images of each class in a batch of the ``m-per-class`` sampler.
        learning_rate: of SGD at the first step.
        final_learning_rate: of SGD at the last step; the schedule is half a cosine.
        momentum: of SGD.
        weight_decay: of SGD, on every parameter.
        clip_grad_norm: largest norm of the gradient of all parameters; ``None``: no clipping.
        precision: of the network; losses are always computed in fp32.
        seed: of every random draw; rounds of one experiment differ in it alone.
        train_limit: number of training images, balanced over classes; ``None``: all.
        test_limit: number of test images, balanced over classes; ``None``: all.
        allow_missing_classes: whether the data may have classes that only one split has.
        validation: fraction of the training images that is held out and evaluated instead of the
            test images.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
    """

    data: str
    loss: str
    loss_options: LossOptions
    backbone: str
    attention: bool
    hidden_features: PositiveInt
    reduction: PositiveInt
    head_norm: HeadNorm
    activation: Activation
    final_pool: Pool | None
    pretrained: bool
    image_size: PositiveInt
    resize: NonNegativeInt
    channels: Channels
    padding: NonNegativeInt
    flip: Probability
    epochs: PositiveInt
    max_steps: PositiveInt | None
    batch_size: PositiveInt
    sampler: Sampler
    samples_per_class: PositiveInt
    learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat
    momentum: Momentum
    weight_decay: NonNegativeFloat
    clip_grad_norm: PositiveFloat | None
    precision: Precision
    seed: Seed
    train_limit: PositiveInt | None
    test_limit: PositiveInt | None
    allow_missing_classes: bool
    validation: ValidationFraction
    evaluate_every: PositiveInt

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

        Fields that an older version did not have take the values of :data:`LEGACY_VALUES`.

        Raises:
            InputError: a field is unknown, missing or has an invalid value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise InputError(f"unknown field {name!r}{did_you_mean(str(name), known)}")
        complete = {**LEGACY_VALUES, **fields}
        for name in known:
            if name not in complete:
                raise InputError(f"field {name!r} is missing")
        if not is_vgg16(str(complete["backbone"])):
            complete["final_pool"] = None
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
    if fields.final_learning_rate > fields.learning_rate:
        raise ValueError(
            f"final_learning_rate must not be above learning_rate ({fields.learning_rate}), "
            f"got {fields.final_learning_rate}"
        )
    if fields.resize and fields.image_size and fields.resize < fields.image_size:
        raise ValueError(
            f"resize must not be below image_size ({fields.image_size}), got {fields.resize}"
        )


def explain(error: ValidationError) -> str:
    """The first error of a validation, in one line."""
    first = error.errors(include_url=False)[0]
    # At most two parts: for an option of a loss, the types that were tried follow.
    name = ".".join(str(part) for part in first["loc"][:2])
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        return message
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
