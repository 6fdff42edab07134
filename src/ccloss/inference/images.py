"""Images to predict: found, decoded and batched."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ccloss.data.augment import center_crop
from ccloss.data.decoding import decode, read_content
from ccloss.data.names import printable
from ccloss.data.sources import decoded_size
from ccloss.data.stores import FileStore
from ccloss.data.tree import list_files
from ccloss.errors import InputError
from ccloss.validation import require_positive_integer

Image = str | os.PathLike[str] | PIL.Image.Image | np.ndarray[Any, Any] | Tensor
"""A path, an image of Pillow, a uint8 array (H, W) or (H, W, 3), or a uint8 tensor (C, H, W)."""


class ImageBatch(NamedTuple):
    """Some images, of which n can be read.

    Attributes:
        sources: of the n images: paths, or positions among all images.
        pixels: (n, C, image_size, image_size) uint8.
        errors: of the other images.
    """

    sources: list[str]
    pixels: Tensor
    errors: list[InputError]


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a network, as in the evaluation of its run.

    Attributes:
        image_size: height and width of the input in pixels.
        resize: short side in pixels to which images above 64 pixels are resized before the central
            crop; 0 means ``image_size``. Smaller images are resized to the square.
        channels: 1 (gray) or 3 (RGB).
    """

    image_size: int
    resize: int
    channels: int

    def __call__(self, image: Image, name: str) -> Tensor:
        """The image as (C, image_size, image_size) uint8; ``name`` is for messages.

        Raises:
            InputError: the image cannot be read.
        """
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            content: Any = read_content(FileStore(path.parent, (path.name,)), 0)
        else:
            content = image if isinstance(image, PIL.Image.Image) else _pixels(image, name)
        size = decoded_size(self.image_size, self.resize)
        return center_crop(decode(content, name, self.channels, size), self.image_size)


def batches(
    preprocessing: Preprocessing,
    images: Image | Iterable[Image],
    batch_size: int,
    workers: int,
) -> Iterator[ImageBatch]:
    """Batches of images in order.

    Args:
        preprocessing: of each image.
        images: one image or more.
        batch_size: images in a batch.
        workers: processes that decode images; 0: this process.

    Raises:
        InputError: an argument is out of range.
    """
    require_positive_integer("batch_size", batch_size)
    if workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    single = isinstance(images, str | os.PathLike | PIL.Image.Image)
    single = single or (isinstance(images, np.ndarray | Tensor) and images.ndim < 4)
    items: Sequence[Image] = [images] if single else list(images)  # type: ignore[list-item,arg-type]
    decoded = _Decoded(items, preprocessing)
    loader = DataLoader(
        decoded,
        batch_size=batch_size,
        num_workers=min(workers, -(-len(items) // batch_size)),
        collate_fn=decoded.collate,
        generator=torch.Generator(),  # otherwise the global generator would advance
    )
    yield from loader


class _Decoded(Dataset[tuple[str, Tensor | InputError]]):
    """The source of each image, and its pixels or why it cannot be read."""

    def __init__(self, images: Sequence[Image], preprocessing: Preprocessing) -> None:
        self.images = images
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[str, Tensor | InputError]:
        image = self.images[index]
        source, name = str(index), f"image {index}"
        if isinstance(image, str | os.PathLike):
            source = os.fspath(image)
            name = printable(source)
        try:
            return source, self.preprocessing(image, name)
        except InputError as error:
            return source, error

    def collate(self, items: list[tuple[str, Tensor | InputError]]) -> ImageBatch:
        side = self.preprocessing.image_size
        empty = torch.empty(0, self.preprocessing.channels, side, side, dtype=torch.uint8)
        readable = [(source, each) for source, each in items if isinstance(each, Tensor)]
        return ImageBatch(
            [source for source, _ in readable],
            torch.stack([pixels for _, pixels in readable]) if readable else empty,
            [each for _, each in items if isinstance(each, InputError)],
        )


def _pixels(image: Any, name: str) -> np.ndarray[Any, Any]:
    """(H, W) or (H, W, 3) uint8 of an array or a tensor (C, H, W)."""
    array = image
    if isinstance(image, Tensor):
        array = image.cpu().movedim(0, -1).numpy() if image.ndim == 3 else image.cpu().numpy()
    if isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    valid = isinstance(array, np.ndarray) and array.dtype == np.uint8 and 0 not in array.shape
    if not valid or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        given = getattr(image, "shape", None), getattr(image, "dtype", type(image).__name__)
        raise InputError(
            f"{name}: images must be paths, images of Pillow, uint8 arrays (H, W) or (H, W, 3), or "
            f"uint8 tensors (C, H, W), got {tuple(given[0] or ())} {given[1]}"
        )
    result: np.ndarray[Any, Any] = array
    return result


def find_images(paths: Iterable[str], lines: TextIO) -> list[str]:
    """The image files of a command line, in order and each once.

    Args:
        paths: files; folders, whose images at any depth are used; patterns such as ``*.png`` or
            ``**/*.png``; or ``-`` for one path a line of ``lines``. A file that does not exist is
            returned, too.
        lines: standard input.

    Raises:
        InputError: a folder has no images, a pattern has no matches, or there are no paths.
    """
    found: list[str] = []
    for path in paths:
        if path == "-":
            found += [line.rstrip("\r\n") for line in lines if line.strip()]
        elif os.path.isdir(path):
            found += _images_in(path)
        elif has_magic(path) and not os.path.exists(path):
            found += _matches(path)
        else:
            found.append(path)
    if not found:
        raise InputError("paths must name at least one image, got none")
    return list(dict.fromkeys(found))


def _images_in(folder: str) -> list[str]:
    images = [os.path.join(folder, file) for file in list_files(Path(folder)).images]
    if not images:
        raise InputError(f"{printable(folder)} holds no images; give a folder with image files")
    return images


def _matches(pattern: str) -> list[str]:
    files = [path for path in sorted(glob(pattern, recursive=True)) if os.path.isfile(path)]
    if not files:
        raise InputError(f"no file matches {printable(pattern)}; check the pattern")
    return files
