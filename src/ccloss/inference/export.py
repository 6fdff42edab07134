"""Export of a trained model to ONNX, to ``torch.export``, and to a folder for the Hub."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ccloss.errors import InputError, import_package
from ccloss.inference.exported import METADATA, without_messages
from ccloss.inference.loading import load_trained
from ccloss.inference.model import Network, TrainedModel
from ccloss.inference.model_card import model_card
from ccloss.models import Classifier
from ccloss.training.devices import fp32_without_tf32
from ccloss.training.files import to_json
from ccloss.training.records import Record
from ccloss.training.weights import CONFIG, WEIGHTS

Format = Literal["onnx", "torch", "hub"]
Pixels = Literal["uint8", "float"]

TOLERANCE = 1e-3
"""Largest accepted difference of logits, relative to the largest logit of the model (at least 1).
"""


def export(
    model: TrainedModel, path: Path, kind: Format, images: Tensor, pixels: Pixels = "uint8"
) -> float:
    """Writes a trained model, and before that compares the written form with the model.

    The exported model contains the normalization of pixels and takes batches of any size. The forms
    ``onnx`` and ``torch`` compute logits in fp32; ``hub`` has all weights.

    Args:
        model: loaded from a run folder or weights.
        path: of the file, or of the folder for ``hub``.
        kind: ``onnx`` (one file), ``torch`` (one file of ``torch.export``) or ``hub`` (a folder).
        images: (N, C, H, W) uint8, on which the exported model is compared with the model.
        pixels: what the exported model takes: uint8, or floats in [0, 1]. ``hub`` takes both.

    Returns:
        The largest difference of logits.

    Raises:
        InputError: the model is already exported to ``onnx`` or ``torch``, a package is not
            installed, ``path`` exists, or the exported model differs by more than
            :data:`TOLERANCE`. Nothing is written then.
    """
    network = copy.deepcopy(model.classifier("export")).cpu()
    if path.exists():
        raise InputError(f"{path} exists; choose another path or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        written = Path(folder) / (path.name if kind == "hub" else f"model{SUFFIXES[kind]}")
        _WRITERS[kind](network, model.record, written, pixels)
        loaded = load_trained(written, "cpu")
        batch = images if pixels == "uint8" else images.float() / 255
        difference = _largest_difference(network, loaded.network, batch)
        shutil.move(written, path)
    return difference


SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "hub": ""}


@torch.inference_mode()
def _largest_difference(network: Network, exported: Network, images: Tensor) -> float:
    """Of logits, in fp32."""
    with fp32_without_tf32("fp32"):
        expected, found = network(images).logits, exported(images).logits
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise InputError(
            f"the exported model differs from the model by {difference:.2g} in a logit and is not "
            "written; try another version of torch or onnxruntime"
        )
    return difference


def config_of(record: Record) -> dict[str, Any]:
    """The configuration of an exported model: labels, preprocessing, metrics and provenance.

    A folder of images is named without the folders above it.
    """
    fields = asdict(record)
    kind, colon, path = str(fields["experiment"]["data"]).partition(":")
    if kind == "folder":
        fields["experiment"]["data"] = f"{kind}{colon}{Path(path).name}"
    experiment = fields["experiment"]
    preprocessing = {name: experiment[name] for name in ("image_size", "resize", "channels")}
    return {"library_name": "ccloss", "preprocessing": preprocessing, **fields}


# ---- Writing -------------------------------------------------------------------------------------


class _Logits(nn.Module):
    """Logits alone: what only losses need is not exported."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def _write_onnx(network: Classifier, record: Record, path: Path, pixels: Pixels) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        import_package(package, "onnx", "export")
    with without_messages():
        program = torch.onnx.export(
            _Logits(network).eval(),
            (_example(record, pixels),),
            dynamo=True,
            dynamic_shapes=_DYNAMIC,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(config_of(record))
    program.save(str(path))


def _write_torch(network: Classifier, record: Record, path: Path, pixels: Pixels) -> None:
    with without_messages():
        program = torch.export.export(
            _Logits(network).eval(), (_example(record, pixels),), dynamic_shapes=_DYNAMIC
        )
        torch.export.save(program, path, extra_files={METADATA: json.dumps(config_of(record))})


def write_hub(network: Classifier, record: Record, path: Path, name: str) -> None:
    """Writes weights, configuration and model card; ``name`` is what the card says to load."""
    path.mkdir()
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, path / WEIGHTS)
    (path / CONFIG).write_bytes(to_json(config_of(record)))
    (path / "README.md").write_text(model_card(record, name), encoding="utf-8")


_WRITERS: dict[Format, Callable[[Classifier, Record, Path, Pixels], None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
    "hub": lambda network, record, path, pixels: write_hub(network, record, path, path.name),
}

_DYNAMIC = {"images": {0: torch.export.Dim("batch")}}


def _example(record: Record, pixels: Pixels) -> Tensor:
    """A batch of two: a batch of one would be exported as a constant."""
    side, channels = record.experiment["image_size"], record.experiment["channels"]
    images = torch.zeros(2, channels, side, side, dtype=torch.uint8)
    return images if pixels == "uint8" else images.float()
