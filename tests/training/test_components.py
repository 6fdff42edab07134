"""The parts of a run fit together, or are rejected before training."""

import dataclasses
import os
from typing import Any

import pytest
import torch

from ccloss.errors import InputError
from ccloss.models import build_model
from ccloss.training import components
from ccloss.training.components import load_data
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import small_config, small_data

DATA = small_data()


def test_loss_without_attention_is_rejected_before_anything_is_written(folder: RunFolder) -> None:
    config = dataclasses.replace(small_config(), attention=False)
    with pytest.raises(InputError, match=r"output\.attention is None"):
        train(config, folder, DATA)
    assert not folder.path.exists()


def test_data_with_other_channels_are_rejected(folder: RunFolder) -> None:
    with pytest.raises(InputError, match="has 1 channels, and the run is configured for 3"):
        train(small_config(channels=3), folder, DATA)
    assert not folder.path.exists()


@pytest.mark.parametrize(
    "fields",
    [{"head_norm": "batch"}, {"head_norm": "none", "backbone": "vgg16", "image_size": 16}],
    ids=["hidden layer", "1x1 feature map"],
)
def test_one_image_per_step_is_rejected_if_batch_norm_sees_one_value(
    folder: RunFolder, fields: dict[str, Any]
) -> None:
    config = small_config(batch_size=1, **fields)
    with pytest.raises(InputError, match="batch_size 1 gives each process one image"):
        train(config, folder, load_data(config))
    assert not folder.path.exists()


def test_one_image_per_step_trains_if_batch_norm_sees_several_values(folder: RunFolder) -> None:
    config = small_config(batch_size=1, head_norm="none", max_steps=1)
    assert train(config, folder, DATA).steps == 1


@pytest.mark.parametrize(
    ("workers", "processes", "expected"),
    [(None, 1, 7), (None, 2, 3), (None, 8, 0), (0, 2, 0), (6, 2, 3), (1, 4, 1), (5, 1, 5)],
)
def test_workers_are_divided_by_the_processes_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, processes: int, expected: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert components.workers_per_process(workers) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"head_norm": "none"},
        {"activation": "identity"},
        {"backbone": "vgg16", "image_size": 24, "final_pool": "average"},
    ],
)
def test_options_reach_the_network(fields: dict[str, Any]) -> None:
    config = small_config(**fields)
    torch.manual_seed(0)
    built = components.build_network(config, 10)
    torch.manual_seed(0)
    expected = build_model(
        config.backbone,
        10,
        1,
        config.image_size,
        16,
        **{k: fields[k] for k in fields if k in NETWORK},
    )
    images = torch.rand(4, 1, config.image_size, config.image_size)
    with torch.no_grad():
        output, other = built(images), expected(images)
    assert torch.equal(output.features, other.features)


NETWORK = ("head_norm", "activation", "final_pool")
