"""Experiments: the paper's protocol as defaults, and errors in one line."""

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from ccloss.bench.experiment import Experiment
from ccloss.errors import InputError
from ccloss.losses import LOSSES, loss_options
from ccloss.training.config import RunConfig, explain
from ccloss.training.options import OPTIONS

# Sec. 3.2, and sec. 2.1 for the network.
PAPER: dict[str, dict[str, Any]] = {
    "mnist": {
        "channels": 1,
        "image_size": 24,
        "padding": 0,
        "flip": 0.0,
        "batch_size": 32,
        "pretrained": False,
        "resize": 0,
    },
    "cifar100": {
        "channels": 3,
        "image_size": 32,
        "padding": 4,
        "flip": 0.5,
        "batch_size": 32,
        "pretrained": False,
        "resize": 0,
    },
    "cars196": {
        "channels": 3,
        "image_size": 224,
        "padding": 4,
        "flip": 0.5,
        "batch_size": 16,
        "pretrained": True,
        "resize": 256,
    },
}
EVERYWHERE = {
    "backbone": "vgg16",
    "hidden_features": 512,
    "reduction": 16,
    "epochs": 300,
    "learning_rate": 0.1,
    "final_learning_rate": 1e-5,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "head_norm": "batch",
    "activation": "relu",
    "final_pool": "max",
    "clip_grad_norm": 1.0,
    "precision": "fp32",
    "loss": "cc",
    "loss_options": {},
    "attention": True,
    "allow_missing_classes": False,
    "validation": 0.0,
    "max_steps": None,
    "train_limit": None,
    "test_limit": None,
    "evaluate_every": 1,
    "seed": 0,
    **OPTIONS,
}


@pytest.mark.parametrize("data", PAPER)
def test_defaults_are_the_papers(data: str) -> None:
    resolved = Experiment(data=data).resolve().to_dict()
    assert resolved == {"data": data, **EVERYWHERE, **PAPER[data]}


def test_options_are_off() -> None:
    off = (None, False, 0, "sgd", "cosine", "shuffle", "last", 1)
    parameters = {"decay_epochs", "decay_factor", "samples_per_class"}  # of options that are off
    assert {name for name, value in OPTIONS.items() if value not in off} == parameters


def test_default_data_set_is_cifar100() -> None:
    assert Experiment().data == "cifar100"


def test_protocol_of_the_digits() -> None:
    config = Experiment(data="digits").resolve(precision="bf16")
    assert (config.backbone, config.image_size, config.epochs) == ("convnet", 8, 20)
    assert (config.flip, config.precision, config.final_pool) == (0, "fp32", None)


def test_folders_have_the_protocol_of_cifar100() -> None:
    folder = Experiment(data="folder:somewhere").resolve(channels=3)
    assert dataclasses.replace(folder, data="cifar100") == Experiment().resolve()


def test_channels_of_a_folder_must_be_given() -> None:
    experiment = Experiment(data="folder:x")
    with pytest.raises(InputError, match="channels must be given for data 'folder:"):
        experiment.resolve()
    assert experiment.resolve(channels=1).channels == 1
    assert dataclasses.replace(experiment, channels=3).resolve(channels=1).channels == 3


def test_given_precision_comes_before_the_device_s() -> None:
    assert Experiment().resolve(precision="bf16").precision == "bf16"
    assert Experiment(precision="fp32").resolve(precision="bf16").precision == "fp32"


def test_given_values_are_kept() -> None:
    given = {
        "padding": 2, "flip": 0.25, "epochs": 3, "batch_size": 8, "pretrained": True,
        "head_norm": "none", "activation": "identity", "final_pool": "average",
        "clip_grad_norm": 0.5, "channels": 1,
    }  # fmt: skip
    config = Experiment(data="mnist", **given).resolve()
    assert {name: getattr(config, name) for name in given} == given


def test_zero_is_a_value() -> None:
    given = {"padding": 0, "flip": 0.0, "resize": 0, "pretrained": False, "clip_grad_norm": 0.0}
    config = Experiment(data="cars196", **given).resolve()
    assert {name: getattr(config, name) for name in given} == given


def test_gradients_are_clipped_for_vgg16_alone() -> None:
    assert Experiment(data="mnist").resolve().clip_grad_norm == 1.0
    assert Experiment(data="mnist", backbone="resnet18").resolve().clip_grad_norm == 0.0
    assert Experiment(data="digits").resolve().clip_grad_norm == 0.0


def test_final_pool_is_for_vgg16_alone() -> None:
    with pytest.raises(InputError, match="final_pool is an option of backbone vgg16"):
        Experiment(backbone="resnet18", final_pool="max").resolve()


@pytest.mark.parametrize(
    ("fields", "method", "attention"),
    [
        ({"loss": "cc"}, "cc", True),
        ({"loss": "ce"}, "ce", False),
        ({"loss": "ce+cam"}, "ce+cam", True),
        ({"loss": "ce", "attention": True}, "ce+cam", True),
        ({"loss": "cc+cam"}, "cc", True),
        ({"loss": "cc", "attention": True}, "cc", True),
        ({"loss": "cc", "loss_options": {"weight": 2, "eps": 0.5}}, "cc eps=0.5 weight=2", True),
        ({"loss": "cc", "loss_options": {"weight": 1}}, "cc", True),
    ],
)
def test_method_names_the_loss_its_network_and_its_options(
    fields: dict[str, Any], method: str, attention: bool
) -> None:
    config = Experiment(**fields).resolve()
    assert (config.method, config.attention) == (method, attention)
    assert config.loss in LOSSES


@pytest.mark.parametrize("loss", LOSSES)
def test_an_option_at_its_default_is_the_same_run(loss: str) -> None:
    defaults = {
        name: value for name, value in loss_options(loss).items() if isinstance(value, int | float)
    }
    given = Experiment(loss=loss, loss_options=defaults).resolve()
    assert given == Experiment(loss=loss).resolve()


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("cd", {}, "loss must be one of ce, cc"),
        ("cc", {"wieght": 1}, "did you mean 'weight'"),
        ("cc", {"weight": -1}, "weight must be"),
    ],
)
def test_bad_losses_are_explained(loss: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Experiment(loss=loss, loss_options=options).resolve()


def test_unknown_data_set_is_explained() -> None:
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        Experiment(data="mnits").resolve()


@pytest.mark.parametrize("loss", ["cc", "ce+cam"])
def test_attention_cannot_be_off_for_a_loss_that_uses_it(loss: str) -> None:
    with pytest.raises(InputError, match="attention must not be off for loss"):
        Experiment(loss=loss, attention=False).resolve()


def test_fields_are_those_of_a_run() -> None:
    asked, run = (
        {field.name for field in dataclasses.fields(kind)} for kind in (Experiment, RunConfig)
    )
    assert asked == run


def test_experiment_cannot_be_changed() -> None:
    experiment = Experiment()
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.seed = 1  # type: ignore[misc]


def test_numbers_that_come_as_text_become_numbers() -> None:
    options = Experiment(loss_options={"weight": "2", "eps": "0.5", "reduction": "mean"})
    assert options.loss_options == {"weight": 2, "eps": 0.5, "reduction": "mean"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_features", 0),
        ("reduction", 0),
        ("image_size", 0),
        ("resize", -1),
        ("channels", 2),
        ("padding", -1),
        ("flip", 1.5),
        ("flip", -0.5),
        ("epochs", 0),
        ("max_steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("final_learning_rate", -1.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("precision", "fp8"),
        ("seed", -1),
        ("seed", 2**31),
        ("train_limit", 0),
        ("test_limit", 0),
        ("validation", 1.0),
        ("evaluate_every", 0),
        ("epochs", "many"),
        ("loss", 7),
    ],
)
def test_bad_fields_are_explained_in_one_line(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        Experiment(**{field: value})
    message = explain(raised.value)
    assert message.startswith(f"{field} ")
    assert message.endswith(f", got {value!r}")
    assert "\n" not in message


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ValidationError) as raised:
        Experiment(colour="red")
    assert explain(raised.value) == "unknown field 'colour'"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"learning_rate": 0.1, "final_learning_rate": 0.2},
            "final_learning_rate must not be above learning_rate (0.1), got 0.2",
        ),
        (
            {"image_size": 64, "resize": 32},
            "resize must not be below image_size (64), got 32",
        ),
        (
            {"nesterov": True, "optimizer": "adamw"},
            "nesterov is an option of optimizer sgd, got True with optimizer adamw; leave it out",
        ),
        (
            {"schedule": "constant", "final_learning_rate": 0.01},
            "final_learning_rate is an option of schedule cosine, got 0.01 with schedule "
            "constant; leave it out",
        ),
        (
            {"warmup_epochs": 1, "warmup_steps": 5},
            "warmup_epochs and warmup_steps exclude each other; give one of them",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_explained(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        Experiment(**fields)
    assert explain(raised.value) == message


def test_fields_are_given_by_name() -> None:
    with pytest.raises(ValidationError):
        Experiment("mnist")  # type: ignore[misc]
