"""Loading of trained models from run folders, exported files and the Hugging Face Hub."""

import os
import re
from pathlib import Path

import torch

from ccloss.errors import InputError
from ccloss.inference import exported
from ccloss.inference.exported import read_config
from ccloss.inference.model import TrainedModel
from ccloss.training.evaluation import load_network
from ccloss.training.files import read_json
from ccloss.training.records import Record

CONFIG = "config.json"
"""Of an exported folder: the fields of the record, and those of ``exported.CONFIG_FIELDS``."""

WEIGHTS = "model.safetensors"

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")


def load_trained(source: str | os.PathLike[str], device: str | torch.device) -> TrainedModel:
    """See :func:`ccloss.load`."""
    path = Path(source)
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device must be one of this machine, got {device!r} ({reason})") from None
    if path.is_dir():
        return _load_weights(path / WEIGHTS, target)
    if not path.exists():
        if not _HUB_ID.fullmatch(str(source)):
            raise InputError(
                f"{source} does not exist; give a run folder, an exported model, or OWNER/NAME on "
                "the Hugging Face Hub"
            )
        return _load_weights(_download(str(source)) / WEIGHTS, target)
    if path.suffix == ".safetensors":
        return _load_weights(path, target)
    if path.suffix in (".onnx", ".pt2"):
        load = exported.load_onnx if path.suffix == ".onnx" else exported.load_torch
        return load(path, target)
    raise InputError(f"{source} must be a folder or end in .safetensors, .onnx or .pt2")


def _load_weights(weights: Path, device: torch.device) -> TrainedModel:
    record = _read_record(weights)
    if not weights.exists():
        raise InputError(f"{weights} is missing; restore it or train the run again")
    network = load_network(record, weights).to(device)
    return TrainedModel(network, record, device, record.experiment["precision"] == "bf16")


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


def _download(name: str) -> Path:
    """The folder with the files of ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the Hub."""
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise InputError(
            f"{name} does not exist here, and the Hugging Face Hub needs the package "
            'huggingface_hub; run: pip install "ccloss[hub]"'
        ) from None
    repository, _, revision = name.partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]
        )
    except Exception as error:  # errors of the network have many types
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"{name} is no folder here and cannot be loaded from the Hugging Face Hub ({reason}); "
            "check the name and the connection"
        ) from error
    return Path(folder)
