"""The experiment's defaults are the paper's table, and what it refuses it explains."""

import dataclasses
import json
from typing import Any

import pytest
from pydantic import ValidationError

from ccloss.bench.experiment import (
    LOSSES_ON_ATTENTION,
    PROTOCOLS,
    Experiment,
    as_begun,
    differences,
    explain,
)
from ccloss.errors import InputError
from ccloss.losses import LOSSES

# Sec. 3.2, and sec. 2.1 for the network.
PAPER: dict[str, dict[str, Any]] = {
    "mnist": {
        "image_size": 24,
        "padding": 0,
        "flip": 0.0,
        "batch_size": 32,
        "pretrained": False,
        "resize": 0,
    },
    "cifar100": {
        "image_size": 32,
        "padding": 4,
        "flip": 0.5,
        "batch_size": 32,
        "pretrained": False,
        "resize": 0,
    },
    "cars196": {
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
    "sampler": "shuffle",
    "samples_per_class": 4,
    "weight_decay": 5e-4,
    "precision": None,
    "loss": "cc",
    "loss_options": {},
    "attention": True,
    "validation": 0.0,
    "max_steps": None,
    "train_limit": None,
    "test_limit": None,
    "channels": None,
    "evaluate_every": 1,
    "seed": 0,
}


@pytest.mark.parametrize("data", PAPER)
def test_defaults_are_the_papers(data: str) -> None:
    resolved = Experiment(data=data).resolve().to_dict()
    assert resolved == {"data": data, **EVERYWHERE, **PAPER[data]}


def test_default_data_set_is_cifar100() -> None:
    assert Experiment().data == "cifar100"


def test_digits_take_seconds_and_are_never_flipped() -> None:
    resolved = Experiment(data="digits").resolve()
    assert (resolved.backbone, resolved.image_size, resolved.epochs) == ("convnet", 8, 20)
    assert resolved.flip == 0
    assert resolved.precision == "fp32"


def test_what_was_decided_when_it_was_begun_stays_decided() -> None:
    held = Experiment(data="mnist", channels=1, precision="bf16").resolve().to_dict()
    assert as_begun(Experiment(data="mnist"), held).to_dict() == held
    asked = as_begun(Experiment(data="mnist", precision="fp32", epochs=2), held)
    assert (asked.precision, asked.channels, asked.epochs) == ("fp32", 1, 2)
    assert as_begun(Experiment(), {}) == Experiment().resolve()  # nothing is known of it yet


def test_a_folder_with_what_no_experiment_has_is_told() -> None:
    with pytest.raises(InputError, match="precision must be 'fp32' or 'bf16', got 'fp7'"):
        as_begun(Experiment(), {"precision": "fp7"})


def test_folders_of_images_are_treated_as_cifar100() -> None:
    folder = Experiment(data="folder:somewhere").resolve()
    assert dataclasses.replace(folder, data="cifar100") == Experiment().resolve()


@pytest.mark.parametrize("data", [*PROTOCOLS, "folder:x"])
def test_resolving_twice_is_resolving_once(data: str) -> None:
    once = Experiment(data=data).resolve()
    assert once.resolve() == once


def test_what_is_given_stays() -> None:
    given = Experiment(data="mnist", padding=2, flip=0.25, epochs=3, batch_size=8, pretrained=True)
    resolved = given.resolve()
    for name in ("padding", "flip", "epochs", "batch_size", "pretrained"):
        assert getattr(resolved, name) == getattr(given, name)


def test_zero_is_a_value_that_stays() -> None:
    resolved = Experiment(data="cars196", padding=0, flip=0.0, resize=0, pretrained=False).resolve()
    assert (resolved.padding, resolved.flip, resolved.resize) == (0, 0.0, 0)
    assert resolved.pretrained is False


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
    ],
)
def test_method_names_the_loss_its_network_and_its_options(
    fields: dict[str, Any], method: str, attention: bool
) -> None:
    experiment = Experiment(**fields)
    assert experiment.method == method
    assert experiment.resolve().attention is attention
    assert experiment.resolve().method == method
    assert experiment.loss_name in LOSSES


@pytest.mark.parametrize("loss", ["cc", "ce+cam"])
def test_attention_cannot_be_taken_from_a_loss_that_has_it(loss: str) -> None:
    with pytest.raises(InputError, match="attention must not be off for loss"):
        Experiment(loss=loss, attention=False).resolve()


def test_losses_on_attention_are_those_that_need_it() -> None:
    needing = {name for name, loss in LOSSES.items() if "attention" in loss.needs}
    assert needing == LOSSES_ON_ATTENTION


def test_experiment_cannot_be_changed() -> None:
    experiment = Experiment()
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("resolve", [False, True])
def test_experiment_goes_through_json(resolve: bool) -> None:
    experiment = Experiment(
        loss="cc", loss_options={"weight": 0.5, "reduction": "mean"}, seed=3, channels=1
    )
    experiment = experiment.resolve() if resolve else experiment
    assert Experiment(**json.loads(json.dumps(experiment.to_dict()))) == experiment


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
        ("colour", "red"),
    ],
)
def test_bad_fields_are_explained_in_one_line(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        Experiment(**{field: value})
    message = explain(raised.value)
    assert message.startswith(f"{field} ")
    assert message.endswith(f", got {value!r}")
    assert "\n" not in message


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


def test_differences_name_the_fields_with_both_values() -> None:
    before, now = Experiment(), Experiment(seed=2, loss="ce")
    assert (
        differences(before.to_dict(), now.to_dict())
        == "loss: cc before, ce now; seed: 0 before, 2 now"
    )
    assert differences(before.to_dict(), before.to_dict()) == ""


def test_differences_name_fields_that_only_one_side_has() -> None:
    assert differences({"a": 1}, {"b": 2}) == "a: 1 before, None now; b: None before, 2 now"
