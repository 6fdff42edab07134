"""Where a run starts: the weights of another model, or the last state of a finished run."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from ccloss.data.names import listed
from ccloss.errors import InputError
from ccloss.models import Classifier
from ccloss.training.checkpoint import find_checkpoint, restore
from ccloss.training.config import RunConfig
from ccloss.training.records import RunFolder
from ccloss.training.weights import find_weights

Warn = Callable[[str], None]


def set_initial_state(
    config: RunConfig,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    warn: Warn,
) -> dict[str, Any]:
    """Sets the state that ``init_from`` or ``continue_from`` names.

    Args:
        config: the run.
        modules: its modules by name; ``model`` is the network.
        optimizer: its optimiser.
        warn: receives the tensors that were not taken.

    Returns:
        What the provenance says about it; empty for a run that starts as usual.

    Raises:
        InputError: the source cannot be read, or does not fit the run.
    """
    if config.continue_from is not None:
        return {"parent": _continue(config.continue_from, config, modules, optimizer, warn)}
    if config.init_from is not None:
        model = modules["model"]
        assert isinstance(model, Classifier)
        return {"initial_weights": _take_weights(config.init_from, model, warn)}
    return {}


def _take_weights(source: str, model: Classifier, warn: Warn) -> dict[str, Any]:
    """Takes the tensors whose names and shapes are those of the model."""
    path = find_weights(source)
    try:
        content = path.read_bytes()
        stored = load(content)
    except (OSError, SafetensorError) as error:
        raise InputError(f"init_from {source}: {path} cannot be read ({error})") from None
    own = model.state_dict()
    fitting = {
        name: tensor
        for name, tensor in stored.items()
        if name in own and own[name].shape == tensor.shape
    }
    weights = {name for name, _ in model.backbone.named_parameters(prefix="backbone")}
    if not weights & fitting.keys():
        raise InputError(
            f"init_from {source} has no weights for this backbone; use the backbone, channels and "
            "image size with which they were trained"
        )
    model.load_state_dict(fitting, strict=False)
    missing = [name for name in own if name not in fitting]
    if missing:
        warn(
            f"init_from {source}: {len(fitting)} of {len(own)} tensors are loaded; these differ in "
            f"name or shape and keep their initial values: {listed(missing)}"
        )
    return {"source": source, "sha256": hashlib.sha256(content).hexdigest()}


def _continue(
    source: str,
    config: RunConfig,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    warn: Warn,
) -> dict[str, Any]:
    """Restores the last checkpoint of a finished run; the best network so far is not restored."""
    folder = RunFolder(source)
    parent = RunConfig.from_dict(folder.read_record().experiment)
    if parent.optimizer != config.optimizer:
        raise InputError(
            f"continue_from {source} was trained with optimizer {parent.optimizer}, and this run "
            f"uses {config.optimizer}; use the same one, or init_from, which takes weights only"
        )
    checkpoint = find_checkpoint(folder.checkpoints, warn)
    if checkpoint is None:
        raise InputError(
            f"continue_from {source} has no readable checkpoint in {folder.checkpoints}; use "
            "init_from, which takes weights only"
        )
    stored = {name.partition(".")[0] for name in checkpoint.tensors}
    shared = {
        name: module
        for name, module in modules.items()
        if name in ("model", "loss") or (name == "average" and name in stored)
    }
    try:
        restore(checkpoint, shared, optimizer)
    except InputError:
        raise InputError(
            f"continue_from {source} has another network or loss than this run; give the options "
            "of that run, or use init_from, which takes the weights that fit"
        ) from None
    return {"run": source, **checkpoint.progress._asdict(), "sha256": _digest(checkpoint.path)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
