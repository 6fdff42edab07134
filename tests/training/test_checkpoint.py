"""Checkpoints restore a state bit for bit, or are rejected without an effect."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ccloss.errors import InputError
from ccloss.training.checkpoint import (
    Progress,
    find_checkpoint,
    remove_newer_checkpoints,
    restore,
    save_checkpoint,
)


class Run:
    """A network in channels-last format, and its optimiser."""

    def __init__(self, seed: int, width: int = 4) -> None:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.model = model.to(memory_format=torch.channels_last)
        self.loss = nn.Linear(2, 1)
        self.modules: dict[str, nn.Module] = {"model": self.model, "loss": self.loss}
        self.optimizer = torch.optim.SGD(
            [*self.model.parameters(), *self.loss.parameters()], lr=0.1, momentum=0.9
        )
        self.warnings: list[str] = []

    def step(self, seed: int) -> None:
        images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad()
        value = self.model(images).square().mean() + self.loss(images[0, 0, :, :2]).square().mean()
        value.backward()
        self.optimizer.step()

    def state(self) -> dict[str, torch.Tensor]:
        found = {
            f"{name}.{key}": tensor.clone()
            for name, module in self.modules.items()
            for key, tensor in module.state_dict().items()
        }
        for index, parameter in enumerate(self.optimizer.param_groups[0]["params"]):
            for key, tensor in self.optimizer.state.get(parameter, {}).items():
                found[f"momentum.{index}.{key}"] = tensor.clone()
        return found

    def save(self, folder: Path, epoch: int) -> None:
        save_checkpoint(folder, Progress(epoch, 10 * epoch), self.modules, self.optimizer)

    def load(self, folder: Path) -> Progress:
        found = find_checkpoint(folder, self.warnings.append)
        if found is None:
            return Progress(0, 0)
        restore(found, self.modules, self.optimizer)
        return found.progress


def same(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> bool:
    return before.keys() == now.keys() and all(torch.equal(before[k], now[k]) for k in before)


def trained(folder: Path, epochs: int) -> list[dict[str, torch.Tensor]]:
    """States after each of so many epochs, all of them saved."""
    run, states = Run(0), []
    for epoch in range(1, epochs + 1):
        run.step(epoch)
        run.save(folder, epoch)
        states.append(run.state())
    return states


def newest(folder: Path) -> Path:
    return max(folder.iterdir())


def test_state_is_restored_bit_for_bit(tmp_path: Path) -> None:
    (state,) = trained(tmp_path, 1)
    run = Run(1)
    assert not same(run.state(), state)
    assert run.load(tmp_path) == Progress(1, 10)
    assert same(run.state(), state)
    assert run.warnings == []


def test_training_continues_bit_for_bit(tmp_path: Path) -> None:
    straight = trained(tmp_path / "straight", 3)
    trained(tmp_path / "resumed", 2)
    run = Run(1)
    run.load(tmp_path / "resumed")
    run.step(3)
    assert same(run.state(), straight[-1])


def test_momentum_has_the_memory_format_of_its_parameter(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    run = Run(1)
    run.load(tmp_path)
    kernel = run.model[0].weight
    momentum = run.optimizer.state[kernel]["momentum_buffer"]
    assert momentum.stride() == kernel.stride()
    assert momentum.is_contiguous(memory_format=torch.channels_last)


def test_momentum_that_was_not_saved_is_dropped(tmp_path: Path) -> None:
    fresh = Run(0)
    fresh.save(tmp_path, 0)
    run = Run(1)
    run.step(1)
    run.load(tmp_path)
    assert same(run.state(), fresh.state())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, 4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["epoch-0003.safetensors", "epoch-0004.safetensors"]


def test_epochs_are_compared_as_numbers(tmp_path: Path) -> None:
    run = Run(0)
    for epoch in (9999, 10000):
        run.save(tmp_path, epoch)
    assert run.load(tmp_path).epoch == 10000


def test_without_a_checkpoint_there_is_no_progress(tmp_path: Path) -> None:
    run = Run(0)
    before = run.state()
    assert run.load(tmp_path / "missing") == Progress(0, 0)
    assert same(run.state(), before)
    assert run.warnings == []


# --- damage


def flip_a_byte_of_a_tensor(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite_the_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


def change_the_epoch(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b'"epoch":"2"') == 1
    path.write_bytes(content.replace(b'"epoch":"2"', b'"epoch":"3"'))


def drop_the_digest(path: Path) -> None:
    save_file(load_file(path), path, {"epoch": "2", "step": "20"})


DAMAGE = [
    flip_a_byte_of_a_tensor,
    cut_in_half,
    empty,
    overwrite_the_header,
    change_the_epoch,
    drop_the_digest,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first, _ = trained(tmp_path, 2)
    damage(newest(tmp_path))
    run = Run(1)
    assert run.load(tmp_path) == Progress(1, 10)
    assert same(run.state(), first)
    (warning,) = run.warnings
    assert "epoch-0002.safetensors is damaged" in warning
    assert "\n" not in warning


@pytest.mark.parametrize("damage", DAMAGE[:4])
def test_without_a_readable_checkpoint_nothing_is_restored(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    trained(tmp_path, 2)
    for path in tmp_path.iterdir():
        damage(path)
    run = Run(1)
    before = run.state()
    assert run.load(tmp_path) == Progress(0, 0)
    assert same(run.state(), before)
    assert len(run.warnings) == 2


def without_a_weight(run: Run) -> None:
    run.modules["loss"] = nn.Linear(2, 1, bias=False)


def with_another_shape(run: Run) -> None:
    run.modules["loss"] = nn.Linear(2, 3)


def with_another_name(run: Run) -> None:
    run.modules["criterion"] = run.modules.pop("loss")


@pytest.mark.parametrize("change", [without_a_weight, with_another_shape, with_another_name])
def test_state_of_other_modules_is_an_error_and_changes_nothing(
    tmp_path: Path, change: Callable[[Run], None]
) -> None:
    trained(tmp_path, 1)
    run = Run(1)
    run.step(7)
    change(run)
    before = run.state()
    with pytest.raises(InputError, match=r"does not fit this run \((loss|criterion)\."):
        run.load(tmp_path)
    assert same(run.state(), before)


def test_an_input_output_error_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, 2)

    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="input/output error"):
        Run(1).load(tmp_path)


def test_new_checkpoints_replace_damaged_ones_with_higher_epochs(tmp_path: Path) -> None:
    trained(tmp_path, 6)
    for path in tmp_path.iterdir():
        empty(path)
    run = Run(1)
    remove_newer_checkpoints(tmp_path, run.load(tmp_path))
    run.save(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001.safetensors"]
    assert run.load(tmp_path) == Progress(1, 10)
