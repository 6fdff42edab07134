"""What the tests of this room share: random pictures, a Cars devkit, a slow crop."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (28, 28), mode: str = "L") -> Image.Image:
    """A random picture of (height, width)."""
    shape = size if mode == "L" else (*size, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def png(seed: int, size: tuple[int, int] = (28, 28), mode: str = "L") -> bytes:
    file = io.BytesIO()
    picture(seed, size, mode).save(file, "PNG")
    return file.getvalue()


def write_annotations(root: Path, split: str, file: str, labels: list[int]) -> None:
    """Cars annotations as the devkit has them, labels from 1, and the images they name."""
    from scipy.io import savemat

    (root / f"cars_{split}").mkdir(exist_ok=True)
    fields = [("bbox_x1", object), ("class", object), ("fname", object)]
    annotations = np.empty((1, len(labels)), dtype=fields)
    for number, label in enumerate(labels):
        name = f"{number + 1:05}.jpg"
        annotations[0, number] = (7, label, name)
        picture(number, (70 + 10 * number, 90), "RGB").save(root / f"cars_{split}" / name)
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
