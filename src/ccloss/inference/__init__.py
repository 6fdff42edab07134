"""Use of trained models: loading, prediction and export."""

from typing import TYPE_CHECKING

from ccloss.errors import InputError

if TYPE_CHECKING:
    import os

    import torch

    from ccloss.inference.model import TrainedModel

__all__ = ["load"]


def load(source: "str | os.PathLike[str]", device: "str | torch.device" = "cpu") -> "TrainedModel":
    """Loads a trained model.

    ::

        model = ccloss.load("runs/digits")
        for prediction in model.predict(["cat.jpg", "dog.png"]):
            print(prediction.classes[0], prediction.probabilities[0])

    Args:
        source: a run folder; a folder, ``.onnx`` file or ``.pt2`` file made by ``ccloss export``; a
            ``.safetensors`` file whose record is a JSON file of the same name, ``record.json`` or
            ``config.json`` beside it; or ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION`` on the Hugging Face Hub.
        device: where the model computes.

    Raises:
        InputError: the source has no trained model, cannot be read, or needs a package that is not
            installed.
    """
    try:
        from ccloss.inference.loading import load_trained
    except ModuleNotFoundError as error:
        raise InputError(
            f"load needs the package {error.name}, which is not installed; "
            'run: pip install "ccloss[bench]"'
        ) from error
    return load_trained(source, device)
