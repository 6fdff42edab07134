"""Checkpoints: complete, verified, and loadable without running code from the file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ccloss.errors import InputError, first_line
from ccloss.training.files import write_atomically
from ccloss.training.optimizers import SCALE

KEPT = 2
"""Checkpoints on disk: the last, and the one before in case the last is damaged."""


class Progress(NamedTuple):
    """Completed epochs and optimiser steps."""

    epoch: int
    step: int


class Checkpoint(NamedTuple):
    """A verified checkpoint.

    Attributes:
        path: its file.
        progress: how far the run had come.
        tensors: its state by name.
        numbers: those parts of the optimiser's state that are no tensors, by name.
    """

    path: Path
    progress: Progress
    tensors: dict[str, Tensor]
    numbers: dict[str, float]


def save_checkpoint(
    folder: Path,
    progress: Progress,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Writes the state after an epoch, then removes all but the last two.

    Args:
        folder: of the checkpoints; created if needed.
        progress: how far the run has come.
        modules: whose parameters and buffers are saved, by name.
        optimizer: whose state is saved.

    Raises:
        OSError: the checkpoint could not be written.
    """
    folder.mkdir(exist_ok=True)
    state = {**_module_state(modules), **_optimizer_state(optimizer)}
    tensors = {name: _to_cpu(each) for name, each in state.items() if isinstance(each, Tensor)}
    numbers = {name: each for name, each in state.items() if isinstance(each, int | float)}
    metadata = {
        "epoch": str(progress.epoch),
        "step": str(progress.step),
        "numbers": json.dumps(numbers),
        "digest": _digest(progress, tensors, numbers),
    }
    path = folder / f"epoch-{progress.epoch:04d}.safetensors"
    write_atomically(path, save(tensors, metadata))
    for old in _files(folder)[KEPT:]:
        old.unlink()


def find_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is not damaged; ``None`` if there is none.

    Args:
        folder: of the checkpoints.
        warn: receives a warning for each damaged checkpoint.

    Raises:
        OSError: a checkpoint could not be read, which says nothing about its content.
    """
    files = _files(folder)
    for path, older in zip(files, [*files, None][1:], strict=True):
        try:
            return read_checkpoint(path)
        except (SafetensorError, ValueError, KeyError, RecursionError) as error:
            fallback = f"falling back to {older.name}" if older else "the run starts again"
            warn(f"checkpoint {path} is damaged ({first_line(error)}); {fallback}")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Raises:
        OSError: it could not be read.
        SafetensorError, ValueError, KeyError: it is damaged.
    """
    content = path.read_bytes()
    tensors = load(content)
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    progress = Progress(int(metadata["epoch"]), int(metadata["step"]))
    numbers = json.loads(metadata.get("numbers", "{}"))  # version 0.1.0 wrote none
    if _digest(progress, tensors, numbers) != metadata["digest"]:
        raise ValueError("its content does not match its digest")
    return Checkpoint(path, progress, tensors, numbers)


def remove_newer_checkpoints(folder: Path, progress: Progress) -> None:
    """Removes the checkpoints after ``progress``, which are damaged.

    They would otherwise be kept in place of new ones with lower epoch numbers.
    """
    for path in _files(folder):
        if _epoch(path) > progress.epoch:
            path.unlink()


def restore(
    checkpoint: Checkpoint, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Restores a state.

    Raises:
        InputError: it is the state of other modules; nothing has been changed.
    """
    # Everything is checked before anything is changed.
    states = {name: _below(checkpoint.tensors, name) for name in modules}
    for name, module in modules.items():
        _check_fits(checkpoint.path, name, module.state_dict(), states[name])
    for name, module in modules.items():
        module.load_state_dict(states[name])
    _restore_optimizer(optimizer, {**checkpoint.tensors, **checkpoint.numbers})


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    optimizer.state.clear()
    index = 0
    for number, group in enumerate(optimizer.param_groups):
        group.update(_below(state, f"group.{number}"))
        for parameter in group["params"]:
            for key, value in _below(state, f"optimizer.{index}").items():
                optimizer.state[parameter][key] = _restored(key, value, parameter, group)
            index += 1


def _restored(key: str, value: Any, parameter: Tensor, group: Mapping[str, Any]) -> Any:
    """A part of the state of a parameter, on its device and in its memory format."""
    if not isinstance(value, Tensor):
        return value
    if key == "step" and not (group.get("fused") or group.get("capturable")):
        return value.clone()  # PyTorch's optimisers keep it on the CPU
    # Fused steps need the parameter's memory format.
    like = parameter if value.shape == parameter.shape else value
    copy = torch.empty_like(like, dtype=value.dtype, device=parameter.device)
    return copy.copy_(value)


def _files(folder: Path) -> list[Path]:
    """The newest first."""
    paths = [
        path
        for path in folder.glob("epoch-*.safetensors")
        if path.stem.removeprefix("epoch-").isdecimal()
    ]
    return sorted(paths, key=_epoch, reverse=True)


def _epoch(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def _module_state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Tensors and numbers of each parameter, and what the steps add to a group of parameters."""
    state, index = {}, 0
    for number, group in enumerate(optimizer.param_groups):
        for key in sorted(group.keys() - {*optimizer.defaults, "params", SCALE}):
            state[f"group.{number}.{key}"] = group[key]
        for parameter in group["params"]:
            for key, value in optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{index}.{key}"] = value
            index += 1
    return state


def _check_fits(
    path: Path, name: str, expected: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> None:
    for key in sorted(expected.keys() | stored.keys()):
        fits = key in expected and key in stored and expected[key].shape == stored[key].shape
        if not fits:
            raise InputError(
                f"checkpoint {path} does not fit this run ({name}.{key} differs); train the run "
                "again with --overwrite, or use the version that wrote it"
            )


def _digest(progress: Progress, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> str:
    digest = hashlib.sha256(repr(tuple(progress)).encode())
    if numbers:
        digest.update(json.dumps(numbers, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _below(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
