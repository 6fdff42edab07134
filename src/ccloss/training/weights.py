"""Files with the weights of trained models: in run folders, exported folders, and on the Hub."""

import os
import re
from pathlib import Path

from ccloss.errors import InputError, import_package

WEIGHTS = "model.safetensors"

CONFIG = "config.json"
"""Of an exported folder: the fields of the record and what else the model needs."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The file with the weights of a trained model; it is not read.

    Args:
        source: a run folder, an exported folder, a ``.safetensors`` file, or ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION`` on the Hugging Face Hub.

    Raises:
        InputError: the source does not exist, or is a file of another kind.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(f"{source} must be a run folder or a .safetensors file")
        return path
    if not path.is_dir():
        if not _HUB_ID.fullmatch(str(source)):
            raise InputError(
                f"{source} does not exist; give a run folder, an exported model, or OWNER/NAME on "
                "the Hugging Face Hub"
            )
        path = _download(str(source))
    return path / WEIGHTS


def _download(name: str) -> Path:
    """The folder with the files of ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the Hub."""
    hub = import_package("huggingface_hub", f"{name} does not exist here; the Hub", "hub")
    repository, _, revision = name.partition("@")
    try:
        folder = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]
        )
    except Exception as error:  # errors of the network have many types
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"{name} is no folder here and cannot be loaded from the Hugging Face Hub ({reason}); "
            "check the name and the connection"
        ) from error
    return Path(folder)
