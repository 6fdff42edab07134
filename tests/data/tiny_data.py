"""Random pictures, Cars annotations, and a slow crop, for the tests of data."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(
    seed: int, size: tuple[int, int] = (28, 28), mode: str = "L", brightness: int = 256
) -> Image.Image:
    """A random picture of (height, width) with values below ``brightness``."""
    shape = size if mode == "L" else (*size, len(mode))
    pixels = np.random.default_rng(seed).integers(0, brightness, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mnist_picture(seed: int) -> Image.Image:
    """A picture with the size and the mean pixel of MNIST."""
    return picture(seed, brightness=68)


def png(seed: int) -> bytes:
    return encoded(mnist_picture(seed))


def save_tree(root: Path, files: dict[str, Image.Image | bytes | str]) -> Path:
    """Writes files by relative path."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def write_annotations(root: Path, split: str, file: str, labels: list[int], folder: str) -> None:
    """Cars annotations in the format of the devkit, labels from 1, and their images."""
    from scipy.io import savemat

    (root / folder).mkdir(parents=True, exist_ok=True)
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    annotations = np.empty((1, len(labels)), dtype=fields)
    for number, label in enumerate(labels):
        name = f"{number + 1:05}.jpg"
        annotations[0, number] = (7, label, name)
        picture(number, (70 + 10 * number, 90), "RGB").save(root / folder / name)
    savemat(root / file, {"annotations": annotations})


def slow_crop(image: torch.Tensor, top: int, left: int, padding: int) -> torch.Tensor:
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                from_y, from_x = y + top - padding, x + left - padding
                if 0 <= from_y < height and 0 <= from_x < width:
                    result[c, y, x] = image[c, from_y, from_x]
    return result
