"""Standard training options that the paper does not use. All of them are off by default."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from ccloss.training.fields import (
    STRICT,
    InsideUnit,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Probability,
)

LearningRateSchedule = Literal["cosine", "step", "constant"]
Sampler = Literal["shuffle", "m-per-class", "class-balanced"]
Selection = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingOptions:
    """Options of training. A run with an option deviates from the paper's protocol."""

    optimizer: str = "sgd"
    """sgd, or the name of an optimiser of timm such as adamw. momentum and weight_decay apply to
    it, too."""

    nesterov: bool = False
    """Nesterov momentum of SGD."""

    schedule: LearningRateSchedule = "cosine"
    """How the learning rate falls: along half a cosine to final_learning_rate, by decay_factor
    every decay_epochs (step), or not at all (constant)."""

    decay_epochs: PositiveInt = 30
    """Epochs between two decays; for --schedule step."""

    decay_factor: InsideUnit = 0.1
    """Factor of the learning rate at each decay; for --schedule step."""

    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs in which the learning rate rises linearly from 0 before the schedule starts."""

    warmup_steps: NonNegativeInt = 0
    """Warm-up in steps instead of epochs."""

    accumulation_steps: PositiveInt = 1
    """Batches whose gradients are averaged before each update of the weights (gradient
    accumulation). The loss is computed for each batch separately."""

    backbone_rate_factor: PositiveFloat = 1.0
    """Learning rate of the backbone relative to that of the head."""

    freeze_backbone_epochs: NonNegativeInt = 0
    """First epochs in which only the head is trained."""

    mixup: NonNegativeFloat = 0.0
    """Mix each batch by mixup: the parameter of its beta distribution, such as 0.2."""

    cutmix: NonNegativeFloat = 0.0
    """Mix each batch by CutMix: the parameter of its beta distribution, such as 1.0. With mixup,
    each batch is mixed by one of the two."""

    trivial_augment: bool = False
    """TrivialAugment on every image."""

    random_resized_crop: PositiveFraction | None = None
    """Crops of random size and shape instead of padded crops: the smallest area as a fraction of
    the image, such as 0.08."""

    random_erasing: Probability = 0.0
    """Probability that a random rectangle of an image is set to 0."""

    sampler: Sampler = "shuffle"
    """Batches of any images (shuffle), of samples_per_class images of each of some classes
    (m-per-class), or of images of which each class is used equally often (class-balanced)."""

    samples_per_class: PositiveInt = 4
    """Images of each class in a batch of the m-per-class sampler."""

    ema_decay: InsideUnit | None = None
    """Decay of an exponential moving average of the weights, such as 0.999. The average is
    evaluated and saved as the run's network."""

    select: Selection = "last"
    """Network that is evaluated and saved at the end: that of the last epoch, or of the epoch with
    the best accuracy on the validation images (best)."""

    init_from: str | None = None
    """Start from the weights of a run, a .safetensors file, or OWNER/NAME on the Hugging Face
    Hub. Tensors that differ in name or shape are reported and keep their initial values."""

    continue_from: str | None = None
    """Start from the last state of a finished run: its weights and its optimiser's state."""


OPTIONS: Mapping[str, Any] = {
    field.name: field.default for field in dataclasses.fields(TrainingOptions)
}
"""Name -> value that means off, for every training option."""

_REQUIRED_VALUES = {
    "nesterov": ("optimizer", "sgd"),
    "decay_epochs": ("schedule", "step"),
    "decay_factor": ("schedule", "step"),
    "final_learning_rate": ("schedule", "cosine"),
}
"""Fields that have an effect only if another field has a value."""


def check_options(fields: Any) -> None:
    """Checks options against each other.

    Args:
        fields: a dataclass with the fields of :class:`TrainingOptions` and of the protocol.

    Raises:
        ValueError: an option has no effect, or two options contradict each other.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(fields)}
    for name, (other, required) in _REQUIRED_VALUES.items():
        value, chosen = getattr(fields, name), getattr(fields, other)
        if value != defaults[name] and chosen != required:
            raise ValueError(
                f"{name} is an option of {other} {required}, got {value} with {other} {chosen}; "
                "leave it out"
            )
    if fields.nesterov and not fields.momentum:
        raise ValueError("nesterov needs a momentum above 0; leave one of the two options out")
    if fields.warmup_epochs and fields.warmup_steps:
        raise ValueError("warmup_epochs and warmup_steps exclude each other; give one of them")
    if fields.select == "best" and not fields.validation:
        raise ValueError(
            "select best needs validation images, got validation 0; set validation to the "
            "fraction of the training images to hold out, such as 0.1"
        )
    if fields.init_from and fields.continue_from:
        raise ValueError("init_from and continue_from exclude each other; give one of them")
