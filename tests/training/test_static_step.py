"""The step over static tensors: equal to the eager step, and free of what capture forbids."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from capture_guard import CaptureGuard, NotCapturableError
from ccloss.data.loader import MemoryLoader
from ccloss.losses import LOSSES
from ccloss.training import capture, loop
from ccloss.training.components import Components, build_components
from ccloss.training.records import RunFolder
from ccloss.training.static_step import StaticStep
from small_runs import small_config, small_data

DATA = small_data()
UNSUPPORTED = "pml:ContrastiveLoss"
"""Losses of other packages index with masks."""


def components(**fields: Any) -> Components:
    config = small_config(**fields)
    return build_components(config, DATA, None, lambda text: None)


def static_step(run: Components, clip_grad_norm: float = 0.0) -> StaticStep:
    assert isinstance(run.train_loader, MemoryLoader)
    step = StaticStep(run.state, run.train_loader, clip_grad_norm)
    step.train()
    step.start_epoch(0, [0.1] * len(run.train_loader), seed=1)
    return step


def outcome(folder: RunFolder) -> tuple[dict[str, Tensor], list[Any]]:
    """Weights, and the metrics without times."""
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    for line in lines:
        for name in ("seconds", "train_seconds", "images_per_second"):
            del line[name]
    return load_file(folder.model), lines


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "cc", "flip": 0.5, "clip_grad_norm": 0.5, "max_steps": 3},
        {"loss": "a-softmax"},
        {"loss": "center", "sampler": "m-per-class", "samples_per_class": 4, "precision": "bf16"},
        {"loss": "mc", "padding": 0},
    ],
    ids=lambda fields: fields["loss"],
)
def test_static_steps_are_the_eager_steps_bit_for_bit(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    fields = {"train_limit": 66, "test_limit": 10, "epochs": 2, **fields}  # two steps an epoch
    config, data = small_config(**fields), small_data(**fields)
    eager, static = RunFolder(tmp_path / "eager"), RunFolder(tmp_path / "static")
    loop.train(config, eager, data)
    monkeypatch.setattr(
        loop,
        "make_static_step",
        lambda config, run, warn: StaticStep(run.state, run.train_loader, config.clip_grad_norm),
    )
    loop.train(config, static, data)
    (weights, lines), (static_weights, static_lines) = outcome(eager), outcome(static)
    assert static_lines == lines
    for name, value in weights.items():
        assert torch.equal(static_weights[name], value), name


def guarded_operations(step: StaticStep) -> list[list[str]]:
    """The operations of two steps after the first one, which allocates."""
    step()
    found = []
    for _ in range(2):
        with CaptureGuard() as guard:
            step()
        found.append(guard.operations)
    return found


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are treated as those on a device, whose values are not read."""
    for module in ("functional", "tensor_checks"):
        monkeypatch.setattr(f"ccloss.{module}.is_readable", lambda labels: False)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_can_be_captured(loss: str) -> None:
    run = components(loss=loss, flip=0.5)
    assert run.state.loss.capturable
    step = static_step(run, clip_grad_norm=1.0)
    before = [tensor.data_ptr() for tensor in step.persistent()]
    first, second = guarded_operations(step)
    assert first == second
    after = step.persistent()
    assert [tensor.data_ptr() for tensor in after][: len(before)] == before
    assert int(step.buffers.step) == 3
    assert bool(step.buffers.terms[:3].abs().sum(1).gt(0).all())


@pytest.mark.usefixtures("on_device")
def test_guard_rejects_a_loss_that_reads_values() -> None:
    run = components(loss=UNSUPPORTED)
    assert not run.state.loss.capturable
    with pytest.raises(NotCapturableError):
        guarded_operations(static_step(run))


@pytest.mark.parametrize(
    "violation",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.long().unique(),
        lambda x: bool((x > 0).any()),
        lambda x: torch.tensor(1.0) + x,
    ],
)
def test_guard_rejects_what_capture_forbids(violation: Any) -> None:
    with CaptureGuard(), pytest.raises(NotCapturableError):
        violation(torch.ones(3))


def test_guard_shows_values_of_the_host_that_change_between_steps() -> None:
    operations = []
    for number in (1.0, 2.0):
        with CaptureGuard() as guard:
            torch.ones(3).mul(number)
        operations.append(guard.operations)
    assert operations[0] != operations[1]


def test_preserved_undoes_steps() -> None:
    run = components(loss="a-softmax")
    step = static_step(run)
    before = [tensor.clone() for tensor in step.persistent()]
    with step.preserved():
        step()
        assert not all(map(torch.equal, step.persistent(), before))
    for tensor, value in zip(step.persistent(), before, strict=True):
        assert torch.equal(tensor, value)


def test_a_step_that_fails_after_the_forward_pass_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = components(loss="a-softmax")  # its buffer `steps` is replaced in the forward pass
    step = static_step(run)
    before = [(tensor, tensor.clone()) for tensor in step.persistent()]

    def fail(value: Tensor) -> None:
        raise RuntimeError("backward")

    monkeypatch.setattr(run.accelerator, "backward", fail)
    with pytest.raises(RuntimeError, match="backward"), step.preserved():
        step()
    for tensor, (same, value) in zip(step.persistent(), before, strict=True):
        assert tensor is same
        assert torch.equal(tensor, value)


def on_gpu(run: Components) -> Components:
    """The parts of a run as if its device was a GPU."""
    accelerator = SimpleNamespace(device=torch.device("cuda", 0), num_processes=1)
    return dataclasses.replace(run, accelerator=accelerator)


def test_waiting_for_the_device_is_an_error_inside_the_block_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[int | str] = [1]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    inside: list[int | str] = []

    def wait() -> None:
        inside.append(modes[-1])
        raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"), capture._no_synchronization():
        wait()
    assert inside == ["error"]
    assert modes[-1] == 1


def test_step_that_cannot_be_captured_is_eager_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(step: StaticStep) -> None:
        raise capture.CaptureError("it needs 2.0 GiB of device memory")

    monkeypatch.setattr(capture, "CapturedStep", fail)
    warnings: list[str] = []
    config, run = small_config(), components()
    assert capture.make_static_step(config, on_gpu(run), warnings.append) is None
    assert len(warnings) == 1
    assert warnings[0].endswith("slower: it needs 2.0 GiB of device memory")
    assert capture.make_static_step(config, run, warnings.append) is None  # on a CPU
    assert len(warnings) == 1


@pytest.mark.parametrize("fields", [{"loss": UNSUPPORTED}, {"mixup": 0.2}, {"ema_decay": 0.9}])
def test_what_capture_does_not_support_is_eager(fields: dict[str, Any]) -> None:
    warnings: list[str] = []
    run = on_gpu(components(**fields))
    assert capture.make_static_step(small_config(**fields), run, warnings.append) is None
    assert len(warnings) == 1
    assert str(next(iter(fields.values()))) in warnings[0]
