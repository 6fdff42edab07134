"""Export of a trained model to ONNX, to ``torch.export``, and to a folder for the Hub."""

import contextlib
import copy
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.inference.loading import CONFIG, WEIGHTS, load_trained, read_config
from ccloss.inference.model import Network, TrainedModel
from ccloss.inference.model_card import model_card
from ccloss.models import Classifier
from ccloss.output import Output
from ccloss.training.devices import fp32_without_tf32
from ccloss.training.files import parse_object, to_json
from ccloss.training.records import Record

Format = Literal["onnx", "torch", "hub"]
Pixels = Literal["uint8", "float"]

TOLERANCE = 1e-3
"""Largest accepted difference of logits, relative to the largest logit of the model (at least 1).
"""

_METADATA = "ccloss"
"""Key of the configuration in the metadata of an exported file."""


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
        _import(package, "onnx")
    with _without_messages():
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
    program.model.metadata_props[_METADATA] = json.dumps(config_of(record))
    program.save(str(path))


def _write_torch(network: Classifier, record: Record, path: Path, pixels: Pixels) -> None:
    with _without_messages():
        program = torch.export.export(
            _Logits(network).eval(), (_example(record, pixels),), dynamic_shapes=_DYNAMIC
        )
        torch.export.save(program, path, extra_files={_METADATA: json.dumps(config_of(record))})


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


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Hides warnings and log messages of the exporters about their own code."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# ---- Reading -------------------------------------------------------------------------------------


def load_onnx(path: Path, device: torch.device) -> TrainedModel:
    """An ONNX file of :func:`export`. onnxruntime computes, on the CPU.

    Raises:
        InputError: the file is damaged or of another program, or onnxruntime is not installed.
    """
    onnxruntime = _import("onnxruntime", path.name)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each status
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    record = _parse(session.get_modelmeta().custom_metadata_map.get(_METADATA), path)
    takes_uint8 = session.get_inputs()[0].type == "tensor(uint8)"

    def network(images: Tensor) -> Output:
        images = _as_input(images, takes_uint8).cpu().contiguous()
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return Output(torch.from_numpy(logits))

    return TrainedModel(network, record, torch.device("cpu"))


def load_torch(path: Path, device: torch.device) -> TrainedModel:
    """A file of ``torch.export`` made by :func:`export`.

    Raises:
        InputError: the file is damaged or of another program.
    """
    files = {_METADATA: ""}
    try:
        with _without_messages():
            program = torch.export.load(path, extra_files=files)
    except Exception as error:  # damaged archives raise many types
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    record = _parse(files[_METADATA], path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = program.module()
    takes_uint8 = program.example_inputs[0][0].dtype == torch.uint8

    def network(images: Tensor) -> Output:
        return Output(module(_as_input(images, takes_uint8)))

    return TrainedModel(network, record, device)


def _as_input(images: Tensor, takes_uint8: bool) -> Tensor:
    """Images as the exported model takes them."""
    if images.dtype == torch.uint8:
        return images if takes_uint8 else images.float() / 255
    if takes_uint8:
        raise InputError(f"images must be uint8 for this exported model, got {images.dtype}")
    return images.float()


def _parse(text: str | bytes | None, path: Path) -> Record:
    if not text:
        raise InputError(f"{path} was not made by `ccloss export`; it has no configuration")
    content = text.encode() if isinstance(text, str) else text
    return read_config(parse_object(content, str(path)), path)


def _import(package: str, what: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"{what} needs the package {package}, which is not installed; "
            'run: pip install "ccloss[export]"'
        ) from None
