"""``ccloss export`` and ``ccloss push``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ccloss.cli.console import print_line, progress_reporter
from ccloss.cli.parameters import DataRoot

if TYPE_CHECKING:
    from torch import Tensor

    from ccloss.inference.model import TrainedModel

VERIFICATION_IMAGES = 64
"""Number of images on which an exported model is compared with the model."""

Images = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]


def export(
    run: str,
    /,
    *,
    kind: Annotated[Literal["onnx", "torch", "hub"], Parameter(name="--format")],
    out: Path | None = None,
    pixels: Literal["uint8", "float"] = "uint8",
    images: Images = (),
    data_root: DataRoot = None,
) -> None:
    """Export the network of a finished run, and compare it with the original on real images.

    Args:
        run: Folder of the run, or OWNER/NAME on the Hugging Face Hub.
        kind: onnx, torch (a file of torch.export), or hub (a folder for the Hugging Face Hub).
        out: File or folder to write. By default model.onnx, model.pt2 or hub in the current folder.
        pixels: What the exported network takes: uint8, or floats in [0, 1].
        images: Image files, folders or patterns for the comparison. By default test images of the
            run.
        data_root: Folder with the data. Without it they are downloaded from the Hugging Face Hub.
    """
    from ccloss.inference import export as exporting
    from ccloss.inference.loading import load_trained

    default = {"onnx": "model.onnx", "torch": "model.pt2", "hub": "hub"}[kind]
    path = out or Path(default)
    model = load_trained(run, "cpu")
    batch = _verification_images(model, images, data_root)
    difference = exporting.export(model, path, kind, batch, pixels)
    print(f"largest difference of a logit on {len(batch)} images: {difference:.2g}")
    print_line(str(path))


def push(run: str, name: str, /, *, private: bool = False) -> None:
    """Upload the network of a finished run to the Hugging Face Hub, with a model card.

    Args:
        run: Folder of the run, or a folder made by `ccloss export --format hub`.
        name: OWNER/NAME of the repository. It is created if it does not exist.
        private: Create a private repository.
    """
    from ccloss.inference.hub import push as push_model
    from ccloss.inference.loading import load_trained

    print(push_model(load_trained(run, "cpu"), name, private=private))


def _verification_images(
    model: "TrainedModel", paths: tuple[str, ...], data_root: Path | None
) -> "Tensor":
    """(N, C, H, W) uint8."""
    import torch

    from ccloss.data.augment import center_crop
    from ccloss.inference.images import batches, find_images
    from ccloss.training.components import load_data

    if paths:
        found = find_images(paths, sys.stdin)[:VERIFICATION_IMAGES]
        (batch,) = batches(model.preprocessing, found, VERIFICATION_IMAGES, workers=0)
        if batch.errors:
            raise batch.errors[0]
        return batch.pixels
    dataset = load_data(model.config, data_root, progress_reporter())
    chosen = dataset.test.subset(torch.arange(len(dataset.test))[:VERIFICATION_IMAGES])
    size = model.image_size
    return torch.stack([center_crop(chosen.image(k), size) for k in range(len(chosen))])
