"""Loading of trained models from run folders, exported files and the Hugging Face Hub."""

import os
from pathlib import Path

import torch

from ccloss.errors import InputError, first_line
from ccloss.inference import exported
from ccloss.inference.exported import read_config
from ccloss.inference.model import TrainedModel
from ccloss.training.evaluation import load_network
from ccloss.training.files import read_json
from ccloss.training.records import Record
from ccloss.training.weights import CONFIG, find_weights


def load_trained(source: str | os.PathLike[str], device: str | torch.device) -> TrainedModel:
    """See :func:`ccloss.load`."""
    path = Path(source)
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise InputError(f"device must be one of this machine, got {device!r} ({reason})") from None
    if path.is_file() and path.suffix in (".onnx", ".pt2"):
        load = exported.load_onnx if path.suffix == ".onnx" else exported.load_torch
        return load(path, target)
    if path.is_file() and path.suffix != ".safetensors":
        raise InputError(f"{source} must be a folder or end in .safetensors, .onnx or .pt2")
    weights = find_weights(source)
    record = _read_record(weights)
    if not weights.exists():
        raise InputError(f"{weights} is missing; restore it or train the run again")
    network = load_network(record, weights).to(target)
    return TrainedModel(network, record, target, record.experiment["precision"] == "bf16")


def _read_record(weights: Path) -> Record:
    """The record beside the weights."""
    names = (weights.with_suffix(".json").name, "record.json", CONFIG)
    for path in map(weights.with_name, names):
        if path.exists():
            return read_config(read_json(path, "a trained model"), path)
    raise InputError(
        f"{weights.parent} has no trained model: it needs {weights.name} and one of "
        f"{', '.join(names)} (an unfinished run has none; continue it with `ccloss train --resume`)"
    )
