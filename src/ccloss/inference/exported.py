"""Reading of models that were exported to ONNX or ``torch.export``."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccloss.errors import InputError, first_line, import_package
from ccloss.inference.model import TrainedModel
from ccloss.output import Output
from ccloss.training.files import parse_object
from ccloss.training.records import Record, parse_record

METADATA = "ccloss"
"""Key of the configuration in the metadata of an exported file."""


CONFIG_FIELDS = ("library_name", "preprocessing")


def load_onnx(path: Path, device: torch.device) -> TrainedModel:
    """An ONNX file of :func:`export`. onnxruntime computes, on the CPU.

    Raises:
        InputError: the file is damaged or of another program, or onnxruntime is not installed.
    """
    onnxruntime = import_package("onnxruntime", path.name, "export")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each status
        raise InputError(f"{path} cannot be read ({first_line(error)})") from None
    record = _parse(session.get_modelmeta().custom_metadata_map.get(METADATA), path)
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
    files = {METADATA: ""}
    try:
        with without_messages():
            program = torch.export.load(path, extra_files=files)
    except Exception as error:  # damaged archives raise many types
        raise InputError(f"{path} cannot be read ({first_line(error)})") from None
    record = _parse(files[METADATA], path)
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


def read_config(content: dict[str, Any], path: Path) -> Record:
    """The record in the content of ``config.json`` or ``record.json``."""
    fields = {name: value for name, value in content.items() if name not in CONFIG_FIELDS}
    return parse_record(fields, path)


@contextlib.contextmanager
def without_messages() -> Iterator[None]:
    """Hides warnings and log messages of the exporters about their own code."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
