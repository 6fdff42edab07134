"""Checkpoints: complete, verified, and loadable without running code from the file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.training.files import write_atomically

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
    """

    path: Path
    progress: Progress
    tensors: dict[str, Tensor]


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
        optimizer: whose per-parameter tensors are saved.

    Raises:
        OSError: the checkpoint could not be written.
    """
    folder.mkdir(exist_ok=True)
    tensors = {name: _to_cpu(tensor) for name, tensor in _state(modules, optimizer).items()}
    metadata = {
        "epoch": str(progress.epoch),
        "step": str(progress.step),
        "digest": _digest(progress, tensors),
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
            warn(f"checkpoint {path} is damaged ({_first_line(error)}); {fallback}")
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
    if _digest(progress, tensors) != metadata["digest"]:
        raise ValueError("its content does not match its digest")
    return Checkpoint(path, progress, tensors)


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
    optimizer.state.clear()
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, tensor in _below(checkpoint.tensors, f"optimizer.{index}").items():
            # In the parameter's memory format, which fused steps need.
            like = parameter if tensor.shape == parameter.shape else tensor
            copy = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device)
            optimizer.state[parameter][key] = copy.copy_(tensor)


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


def _state(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                state[f"optimizer.{index}.{key}"] = value
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


def _digest(progress: Progress, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(repr(tuple(progress)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
