"""One run, completely described: the paper's protocol is the default."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ccloss.errors import InputError

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Precision = Literal["fp32", "bf16"]
Share = Annotated[float, Field(ge=0, le=1)]
# From left to right, so that what a command line gives as text becomes a number where it can.
Option = Annotated[
    int | float | list[float] | str,
    Field(union_mode="left_to_right"),
    BeforeValidator(lambda value: _listed(value)),
]


def _listed(value: Any) -> Any:
    """``1,2,3`` as a list, which is how a command line gives one."""
    if not (isinstance(value, str) and "," in value):
        return value
    try:
        return [float(number) for number in value.split(",")]
    except ValueError:
        raise ValueError("must be numbers where there are commas between") from None


ATTENTION = "+cam"
"""Ends the name of a loss whose network has channel attention that the loss does not ask for."""

BACKBONES = ("vgg16", "resnet18", "convnet")
"""Names of the backbones that are not timm's: a slip is told before torch is loaded."""

LOSSES_ON_ATTENTION = frozenset({"cc"})
"""Losses that work on channel attention: their network has it without saying so."""

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
    # Not of the paper: seconds a run, to see the effect. Digits are never flipped.
    "digits": {
        "backbone": "convnet",
        "image_size": 8,
        "padding": 1,
        "flip": 0.0,
        "hidden_features": 64,
        "epochs": 20,
        "precision": "fp32",  # their steps are too small to gain by bf16
    },
}
"""What a data set asks for where it differs from :data:`DEFAULTS`."""

DECIDED_LATER = ("channels", "precision")
"""Fields that the data and the device decide where nobody does."""

DEFAULTS: Mapping[str, Any] = {
    "backbone": "vgg16",
    "hidden_features": 512,
    "pretrained": False,
    "image_size": 32,
    "resize": 0,
    "padding": 4,
    "flip": 0.5,
    "epochs": 300,
    "batch_size": 32,
}
"""What fields left to the data set are for the others, ``folder:<path>`` among them."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Experiment:
    """One training run. Fields left at ``None`` follow the data set, as :meth:`resolve` says."""

    data: str = "cifar100"
    """digits, mnist, cifar100, cars196, or folder:PATH with one folder a class."""

    loss: str = "cc"
    """Name of the loss; +cam behind a name adds channel attention to its network."""

    loss_options: dict[str, Option] = dataclasses.field(default_factory=dict)
    """Options of the loss itself: --loss.NAME VALUE is the short form."""

    backbone: str | None = None
    """vgg16, resnet18, convnet, or timm:NAME."""

    attention: bool | None = None
    """Channel attention in the head; by default where the loss works on it or its name says so."""

    hidden_features: Positive | None = None
    """Width of the hidden layer and of attention."""

    reduction: Positive = 16
    """Reduction of the attention module's bottleneck."""

    pretrained: bool | None = None
    """Start the backbone from ImageNet weights."""

    image_size: Positive | None = None
    """Side of the images in pixels."""

    resize: Count | None = None
    """Short side in pixels that large images are resized to before the crop; 0: image_size."""

    channels: Literal[1, 3] | None = None
    """Channels of the images; by default as they come."""

    padding: Count | None = None
    """Zero pixels around an image before its random crop; 0: no crop of small images."""

    flip: Share | None = None
    """Probability of a horizontal flip."""

    epochs: Positive | None = None
    """Passes over the training images."""

    max_steps: Positive | None = None
    """End after so many steps, the learning rate with them."""

    batch_size: Positive | None = None
    """Images a step, over all processes."""

    sampler: Literal["shuffle", "m-per-class"] = "shuffle"
    """Batches of any images, or of samples_per_class images of each of some classes."""

    samples_per_class: Positive = 4
    """Images of each class in a batch of the m-per-class sampler."""

    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    """At the first step."""

    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-5
    """At the last step (1e-5), reached by half a cosine."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""

    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Of SGD, on every weight."""

    precision: Precision | None = None
    """Of the network, by default bf16 on a device made for it; losses are always in fp32."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of every random draw. Rounds differ in it alone."""

    train_limit: Positive | None = None
    """Train on so many images, the same share of every class."""

    test_limit: Positive | None = None
    """Evaluate on so many images, the same share of every class."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training images held out, on which to evaluate instead of the test images."""

    evaluate_every: Positive = 1
    """Epochs between evaluations; the last epoch is always evaluated."""

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate must not be above learning_rate ({self.learning_rate}), "
                f"got {self.final_learning_rate}"
            )
        if self.resize and self.image_size and self.resize < self.image_size:
            raise ValueError(
                f"resize must not be below image_size ({self.image_size}), got {self.resize}"
            )
        return self

    @property
    def loss_name(self) -> str:
        """The loss itself, without what its name says of the network."""
        return self.loss.removesuffix(ATTENTION)

    @property
    def method(self) -> str:
        """The row of a table: the loss, its network and its options where they are not usual."""
        usual = self.loss_name in LOSSES_ON_ATTENTION
        name = self.loss_name
        if self.resolve().attention and not usual:
            name += ATTENTION
        options = [f"{key}={value}" for key, value in sorted(self.loss_options.items())]
        return " ".join([name, *options])

    def resolve(self) -> "Experiment":
        """The same run with nothing left open, except limits and :data:`DECIDED_LATER`.

        Raises:
            InputError: attention is turned off for a loss that works on it.
        """
        named = self.loss.endswith(ATTENTION)
        needed = self.loss_name in LOSSES_ON_ATTENTION
        if self.attention is False and (needed or named):
            raise InputError(
                f"attention must not be off for loss {self.loss!r}, which has it by its nature; "
                "leave it out or choose another loss"
            )
        settled = {**DEFAULTS, **PROTOCOLS.get(self.data, {}), "attention": needed or named}
        return dataclasses.replace(
            self, **{name: value for name, value in settled.items() if getattr(self, name) is None}
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, fit for JSON."""
        return dataclasses.asdict(self)


def as_begun(experiment: Experiment, held: Mapping[str, Any]) -> Experiment:
    """The experiment, resolved, with what was decided when it was begun.

    Args:
        experiment: as it is asked for now.
        held: the fields that its folder has.

    Raises:
        InputError: the folder has what no experiment can have.
    """
    settled = experiment.resolve()
    decided: dict[str, Any] = {
        name: held.get(name) for name in DECIDED_LATER if getattr(settled, name) is None
    }
    try:
        return dataclasses.replace(settled, **decided)
    except ValidationError as error:
        raise InputError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """The first thing wrong with an experiment's fields, in one line."""
    first = error.errors(include_url=False)[0]
    # Two parts at most: below an option of a loss come the types that were tried.
    name = ".".join(str(part) for part in first["loc"][:2])
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        return message
    message = message.removeprefix("Input ").replace("should", "must")
    return f"{name} {message}, got {first['input']!r}"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Fields in which two experiments differ, as ``name: 1 before, 2 now``; empty if none do."""
    names = [*before, *(name for name in now if name not in before)]
    differing = [name for name in names if before.get(name) != now.get(name)]
    return "; ".join(
        f"{name}: {before.get(name)} before, {now.get(name)} now" for name in differing
    )
