"""Optimisers of timm by name, their groups of parameters, and their state in checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ccloss.errors import InputError
from ccloss.losses import make_loss
from ccloss.models import build_model
from ccloss.training.checkpoint import Progress, read_checkpoint, restore, save_checkpoint
from ccloss.training.optimizers import build_optimizer, set_learning_rate
from small_runs import small_config

STATES = ["sgd", "adamw", "lamb", "adabelief", "nadamw", "muon", "adafactor"]
"""Optimisers with tensors, numbers or nothing as state of a parameter, and state of a group."""


class Trained:
    """A small network in channels-last format that is trained on noise."""

    def __init__(self, **fields: Any) -> None:
        torch.manual_seed(0)
        model = build_model("convnet", 10, 1, 8, 16)
        self.model = model.to(memory_format=torch.channels_last)
        self.loss = make_loss("center", num_classes=10, features=16)
        self.modules = {"model": self.model, "loss": self.loss}
        self.optimizer = build_optimizer(small_config(**fields), self.model, self.loss)

    def step(self, seed: int) -> None:
        images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad()
        self.loss(self.model(images), torch.arange(8)).backward()
        set_learning_rate(self.optimizer, 0.01)
        self.optimizer.step()

    def weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


@pytest.mark.parametrize("name", STATES)
def test_training_continues_from_a_checkpoint_bit_for_bit(tmp_path: Path, name: str) -> None:
    options = {"optimizer": name, "backbone_rate_factor": 0.5}
    straight, resumed = Trained(**options), Trained(**options)
    for seed in (1, 2):
        straight.step(seed)
    save_checkpoint(tmp_path, Progress(1, 2), straight.modules, straight.optimizer)
    checkpoint = read_checkpoint(tmp_path / "epoch-0001.safetensors")
    restore(checkpoint, resumed.modules, resumed.optimizer)
    for seed in (3, 4):
        straight.step(seed)
        resumed.step(seed)
    for own, other in zip(straight.weights(), resumed.weights(), strict=True):
        assert torch.equal(own, other)


def test_backbone_has_its_own_learning_rate() -> None:
    """At a small rate, plain SGD moves each weight in proportion to its learning rate."""
    plain = {"momentum": 0.0, "weight_decay": 0.0}
    slow, usual = Trained(**plain, backbone_rate_factor=0.25), Trained(**plain)
    changes = []
    for run in (slow, usual):
        before = run.weights()
        run.step(1)
        changes.append([new - old for new, old in zip(run.weights(), before, strict=True)])
    backbone = len(list(slow.model.backbone.parameters()))
    for index, (own, other) in enumerate(zip(*changes, strict=True)):
        factor = 0.25 if index < backbone else 1.0
        torch.testing.assert_close(own, factor * other, rtol=1e-3, atol=1e-7)


def test_default_is_fused_sgd_of_torch() -> None:
    optimizer = Trained(nesterov=True).optimizer
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert (group["fused"], group["nesterov"], group["momentum"]) == (True, True, 0.9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamm", "optimizer must be sgd or an optimiser of timm .*did you mean 'adam"),
        ("adahessian", "optimizer 'adahessian' cannot be used here"),
        ("kron", "has a state that a checkpoint cannot hold"),
    ],
)
@pytest.mark.filterwarnings("ignore:It is highly recommended")  # of kron
def test_unusable_optimizers_are_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        Trained(optimizer=name)
    assert "\n" not in str(raised.value)
