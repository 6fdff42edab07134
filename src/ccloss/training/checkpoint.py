"""The state of a run on disk: whole, checked, and loadable without running code from the file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ccloss.training.records import write_atomically

KEPT = 2
"""Checkpoints on disk: the last, and the one before in case the last is damaged."""


class Progress(NamedTuple):
    """How far a run has come: completed epochs and optimiser steps."""

    epoch: int
    step: int


def save_checkpoint(
    folder: Path,
    progress: Progress,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Writes the state after an epoch, then removes all but the last two.

    Args:
        folder: where checkpoints lie; created if need be.
        progress: how far the run has come.
        modules: whose parameters and buffers to keep, by name.
        optimizer: whose per-parameter tensors to keep.
    """
    folder.mkdir(exist_ok=True)
    tensors = {name: _plain(tensor) for name, tensor in _state(modules, optimizer).items()}
    metadata = {
        "epoch": str(progress.epoch),
        "step": str(progress.step),
        "digest": _digest(progress, tensors),
    }
    path = folder / f"epoch-{progress.epoch:04d}.safetensors"
    write_atomically(path, save(tensors, metadata))
    leftovers = folder.glob(".epoch-*")  # of writes that were killed
    for old in [*_checkpoints(folder)[KEPT:], *leftovers]:
        old.unlink()


def load_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    warn: Callable[[str], None],
) -> Progress:
    """Restores the last state that can be read, and says which could not.

    Returns:
        How far it had come; nothing if there is no state to restore.
    """
    checkpoints = _checkpoints(folder)
    for path, before in zip(checkpoints, [*checkpoints, None][1:], strict=True):
        try:
            progress, tensors = _read(path)
            _restore(tensors, modules, optimizer)
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            instead = f"falling back to {before.name}" if before else "the run begins anew"
            warn(f"checkpoint {path} is damaged ({_line(error)}); {instead}")
            continue
        return progress
    return Progress(0, 0)


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""

    def epoch(path: Path) -> str:
        return path.stem.removeprefix("epoch-")

    paths = [path for path in folder.glob("epoch-*.safetensors") if epoch(path).isdecimal()]
    return sorted(paths, key=lambda path: int(epoch(path)), reverse=True)


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


def _restore(
    tensors: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    # All is looked at before anything is changed: a state that does not fit leaves no trace.
    states = {name: _below(tensors, name) for name in modules}
    for name, module in modules.items():
        _check_fits(name, module.state_dict(), states[name])
    for name, module in modules.items():
        module.load_state_dict(states[name])
    optimizer.state.clear()
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, tensor in _below(tensors, f"optimizer.{index}").items():
            # In the parameter's own memory format: fused steps read the two side by side.
            like = parameter if tensor.shape == parameter.shape else tensor
            kept = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device)
            optimizer.state[parameter][key] = kept.copy_(tensor)


def _check_fits(name: str, own: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> None:
    for key in sorted(own.keys() | read.keys()):
        if key not in own or key not in read or own[key].shape != read[key].shape:
            raise ValueError(f"its {name}.{key} is not that of this {name}")


def _read(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    progress = Progress(int(metadata["epoch"]), int(metadata["step"]))
    if _digest(progress, tensors) != metadata["digest"]:
        raise ValueError("its content does not match its digest")
    return progress, tensors


def _digest(progress: Progress, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(repr(tuple(progress)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
