"""Configurations of runs: stored, read back, and read from older versions."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ccloss.errors import InputError
from ccloss.training.config import RunConfig, differences
from small_runs import small_config

OLD: dict[str, Any] = {
    "data": "mnist", "loss": "ce+cam", "loss_options": {}, "backbone": "vgg16", "attention": True,
    "hidden_features": 512, "reduction": 16, "pretrained": False, "image_size": 24, "resize": 0,
    "channels": 1, "padding": 0, "flip": 0.0, "epochs": 5, "max_steps": None, "batch_size": 32,
    "learning_rate": 0.1, "final_learning_rate": 1e-05, "momentum": 0.9, "weight_decay": 0.0005,
    "precision": "fp32", "seed": 1, "train_limit": 10000, "test_limit": None, "validation": 0.0,
    "evaluate_every": 5,
}  # fmt: skip
"""A stored run of version 0.1.0."""


@pytest.mark.parametrize("fields", [{}, {"loss_options": {"weight": 0.5, "reduction": "mean"}}])
def test_configuration_survives_json(fields: dict[str, Any]) -> None:
    config = small_config(**fields)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_run_of_an_older_version_has_the_values_that_it_used() -> None:
    config = RunConfig.from_dict(OLD)
    assert (config.loss, config.method) == ("ce", "ce+cam")
    assert (config.head_norm, config.activation, config.final_pool) == ("none", "relu", "average")
    assert (config.sampler, config.samples_per_class, config.clip_grad_norm) == ("shuffle", 4, 0)
    assert RunConfig.from_dict({**OLD, "clip_grad_norm": None}) == config
    assert RunConfig.from_dict({**OLD, "backbone": "resnet18"}).final_pool is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"epochz": 3}, "unknown field 'epochz'; did you mean 'epochs'"),
        ({"epochs": None}, "epochs .*, got None"),
        ({"precision": "fp7"}, "precision must be 'fp32' or 'bf16', got 'fp7'"),
        ({"final_learning_rate": 1.0}, "final_learning_rate must not be above learning_rate"),
        ({"loss": 7, "seed": []}, "seed .*, got"),
    ],
)
def test_damaged_fields_are_explained_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        RunConfig.from_dict({**OLD, **changes})
    assert "\n" not in str(raised.value)


def test_numbers_of_a_command_line_are_converted() -> None:
    assert small_config(channels="1").channels == 1
    with pytest.raises(ValidationError, match="1 or 3"):
        small_config(channels="2")


def test_a_missing_field_is_named() -> None:
    fields = {name: value for name, value in OLD.items() if name != "epochs"}
    with pytest.raises(InputError, match="field 'epochs' is missing"):
        RunConfig.from_dict(fields)


def test_differences_name_the_fields_with_both_values() -> None:
    before, now = small_config().to_dict(), small_config(seed=2, loss="ce").to_dict()
    expected = "seed: 0 before, 2 now; loss: cc before, ce now; attention: True before, False now"
    assert differences(before, now) == expected
    assert differences(before, before) == ""
