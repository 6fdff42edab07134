"""CIFAR-100 for a machine without network: losslessly compressed, in parts of limited size.

python -m benchmarks.device_images pack DATA FOLDER      writes FOLDER/1, FOLDER/2, ...
python -m benchmarks.device_images unpack FOLDER DATA    writes DATA/cifar-100-python

500 images, one below the other, are one lossless WebP file: a quarter smaller than PNG files, and
fast to decode.
"""

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

PART_BYTES = 50 * 2**20
"""Largest size of a part."""

COLUMN = 500
"""Images in one file; WebP allows a height of 16,383 pixels."""

Split = tuple[np.ndarray, list[int]]
"""(N, 32, 32, 3) uint8 pixels, and labels."""


def pack(splits: Mapping[str, Split], classes: list[str], folder: Path) -> list[Path]:
    """Writes the images to as many archives ``folder/NUMBER/images.zip`` as their size needs."""
    labels = {split: values for split, (_, values) in splits.items()}
    content = json.dumps({"classes": classes, "labels": labels}).encode()
    parts = [[("labels.json", content)]]
    size = len(content)
    for name, column in _columns(splits):
        if size + len(column) > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append((name, column))
        size += len(column)
    files = []
    for number, part in enumerate(parts, start=1):
        file = folder / str(number) / "images.zip"
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(file, "w") as archive:
            for name, column in part:
                archive.writestr(name, column)
        files.append(file)
    return files


def _columns(splits: Mapping[str, Split]) -> Iterator[tuple[str, bytes]]:
    for split, (pixels, _) in splits.items():
        for number, first in enumerate(range(0, len(pixels), COLUMN)):
            column = pixels[first : first + COLUMN]
            stream = io.BytesIO()
            image = Image.fromarray(column.reshape(-1, *column.shape[2:]))
            image.save(stream, "WEBP", lossless=True, quality=100, method=4)
            yield f"{split}-{number:03d}.webp", stream.getvalue()


def unpack(folder: Path, data: Path) -> None:
    """Writes the files of the Python version of CIFAR-100 from all parts.

    Raises:
        ValueError: a part is missing.
    """
    columns: dict[str, bytes] = {}
    for file in sorted(folder.glob("*/images.zip")):
        with zipfile.ZipFile(file) as archive:
            columns |= {name: archive.read(name) for name in archive.namelist()}
    if "labels.json" not in columns:
        raise ValueError(f"{folder} has no part with labels.json; transfer all parts")
    heading = json.loads(columns["labels.json"])
    home = data / "cifar-100-python"
    home.mkdir(parents=True, exist_ok=True)
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": heading["classes"]}))
    for split, labels in heading["labels"].items():
        names = [name for name in sorted(columns) if name.startswith(f"{split}-")]
        images = [np.asarray(Image.open(io.BytesIO(columns[name]))) for name in names]
        pixels = np.concatenate([np.empty((0, 32, 3), np.uint8), *images]).reshape(-1, 32, 32, 3)
        if len(pixels) != len(labels):
            raise ValueError(
                f"{folder} has {len(pixels)} of {len(labels)} images of {split}; transfer all parts"
            )
        content = {"data": pixels.transpose(0, 3, 1, 2).reshape(-1, 3072), "fine_labels": labels}
        (home / split).write_bytes(pickle.dumps(content))


def _cifar100(data: Path) -> tuple[dict[str, Split], list[str]]:
    from ccloss.data.images import MemoryImages
    from ccloss.data.sources import load

    dataset = load("cifar100", data_root=data, image_size=32, channels=3)
    splits = {}
    for name, images in (("train", dataset.train), ("test", dataset.test)):
        assert isinstance(images, MemoryImages)
        splits[name] = (images.pixels.permute(0, 2, 3, 1).numpy(), images.labels.tolist())
    return splits, list(dataset.classes)


if __name__ == "__main__":
    command, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if command == "pack":
        for part in pack(*_cifar100(source), target):
            print(f"{part}: {part.stat().st_size:,} bytes")
    else:
        unpack(source, target)
