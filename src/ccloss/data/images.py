"""One split of images, in memory or decoded on access, and the progress hook."""

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ccloss.errors import InputError

if TYPE_CHECKING:
    import datasets

T = TypeVar("T")

STATISTICS_SAMPLE = 2_000  # images of a lazy set that `statistics` looks at
_MODES = {1: "L", 3: "RGB"}  # PIL's name for gray and colour


class Track(Protocol):
    """Progress: hands the items of an iterable on, and may show how far it is."""

    def __call__(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]: ...


def untracked(iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The :class:`Track` that shows nothing."""
    return iterable


# ---- Stores: images as they came --------------------------------------------------------------


class Store(Protocol):
    """Stored images, by row; picklable, so that loader workers can read them."""

    def __len__(self) -> int: ...

    def place(self, row: int) -> str:
        """Where the image lies, in words a user can act on."""

    def image(self, row: int) -> Image.Image:
        """The decoded image; raises :class:`InputError` naming its place if it is not whole."""


@final
@dataclass(frozen=True)
class FileStore:
    """One file an image."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def place(self, row: int) -> str:
        return str(self.files[row])

    def image(self, row: int) -> Image.Image:
        return _decode(self.files[row], self.place(row))


@final
@dataclass(frozen=True)
class RowStore:
    """Encoded images in a column of a memory-mapped ``datasets.Dataset``.

    Attributes:
        rows: the data set; its image column holds ``{"bytes": ..., "path": ...}``.
        column: the name of the image column.
        shards: (name, number of rows) of each part, in order, to name an image's place.
    """

    rows: "datasets.Dataset"
    column: str
    shards: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        ends = list(accumulate(count for _, count in self.shards))
        shard = bisect_right(ends, row)
        name, count = self.shards[shard]
        return f"{name}, row {row - ends[shard] + count}"

    def image(self, row: int) -> Image.Image:
        # straight from the Arrow table: `rows[row]` would decode the image by itself, and raise
        # errors that do not name the row
        value = self.rows.data.column(self.column)[row].as_py()
        return _decode(BytesIO(value["bytes"] if value else b""), self.place(row))


@final
@dataclass(frozen=True)
class ArrayStore:
    """Gray images embedded in a package: (N, H, W) uint8."""

    name: str
    arrays: "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]"

    def __len__(self) -> int:
        return len(self.arrays)

    def place(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(self.arrays[row])


def _decode(file: Path | BytesIO, place: str) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
    except FileNotFoundError:
        raise InputError(f"{place}: the image is missing; restore the file") from None
    except Exception as error:  # broken bytes make decoders raise nearly anything
        reason = type(error).__name__
        raise InputError(
            f"{place}: the image is corrupt or truncated ({reason}); restore or remove it"
        ) from error
    if image.mode == "F" or image.mode.startswith("I"):
        raise InputError(f"{place}: the image has mode {image.mode}; save it with 8 bits a channel")
    return image


# ---- Image sets --------------------------------------------------------------------------------


class ImageSet(ABC):
    """N labelled images with C channels: one split of a data set.

    Attributes:
        labels: (N,) int64, each in [0, number of classes).
        channels: C, 1 (gray) or 3 (RGB).
    """

    labels: Tensor
    channels: int

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Image ``index`` as (C, H, W) uint8.

        Raises:
            InputError: the stored image is corrupt or truncated; names its file or row.
        """

    @abstractmethod
    def place(self, index: int) -> str:
        """Where image ``index`` comes from, in words."""

    @abstractmethod
    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at ``indices``, (M,) int64, in that order."""


@final
class MemoryImages(ImageSet):
    """Images of one size in one tensor.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise InputError(
                f"pixels must be (N, C, H, W) uint8, got {tuple(pixels.shape)} {pixels.dtype}"
            )
        _check_labels(labels, len(pixels))
        self.pixels = pixels
        self.labels = labels
        self.channels = pixels.shape[1]

    def image(self, index: int) -> Tensor:
        return self.pixels[index]

    def place(self, index: int) -> str:
        return f"image {index} in memory"

    def subset(self, indices: Tensor) -> "MemoryImages":
        return MemoryImages(self.pixels[indices], self.labels[indices])


@final
class LazyImages(ImageSet):
    """Stored images, decoded on access.

    Args:
        store: where the images lie.
        labels: (N,) int64.
        channels: 1 (colour becomes gray) or 3 (gray is replicated).
        size: pixels of the short side after an antialiased bilinear resize that keeps the shape,
            or (height, width) exactly, or ``None``: as stored.
        rows: (N,) int64, the images' rows in the store; by default all of them in order.
    """

    def __init__(
        self,
        store: Store,
        labels: Tensor,
        channels: int,
        size: int | tuple[int, int] | None = None,
        rows: Tensor | None = None,
    ) -> None:
        if channels not in _MODES:
            raise InputError(f"channels must be 1 (gray) or 3 (RGB), got {channels}")
        self.rows = torch.arange(len(store)) if rows is None else rows
        _check_labels(labels, len(self.rows))
        self.store = store
        self.labels = labels
        self.channels = channels
        self.size = size

    def image(self, index: int) -> Tensor:
        image = _convert(self.store.image(int(self.rows[index])), self.channels)
        array = np.array(_resize(image, self.size))  # (H, W) or (H, W, 3), a writable copy
        return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1).contiguous()

    def place(self, index: int) -> str:
        return self.store.place(int(self.rows[index]))

    def subset(self, indices: Tensor) -> "LazyImages":
        labels, rows = self.labels[indices], self.rows[indices]
        return LazyImages(self.store, labels, self.channels, self.size, rows)

    def decoded(self, description: str, track: Track = untracked) -> MemoryImages:
        """All images decoded once into one tensor; ``size`` must be (height, width)."""
        if not isinstance(self.size, tuple):
            raise InputError(f"size must be (height, width) to decode at once, got {self.size}")
        pixels = torch.empty((len(self), self.channels, *self.size), dtype=torch.uint8)
        for index in track(range(len(self)), description, len(self)):
            pixels[index] = self.image(index)
        return MemoryImages(pixels, self.labels)


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise InputError(
            f"labels must be ({count},) int64, one an image, got {tuple(labels.shape)} "
            f"{labels.dtype}"
        )


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns on a direct step from such a palette
    mode = _MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, size: int | tuple[int, int] | None) -> Image.Image:
    width, height = image.size
    if size is None:
        return image
    if isinstance(size, int):
        short = min(width, height)
        target = (round(width * size / short), round(height * size / short))
    else:
        target = (size[1], size[0])
    if target == image.size:
        return image
    return image.resize(target, Image.Resampling.BILINEAR)  # PIL antialiases when it shrinks


# ---- What a set holds, in numbers --------------------------------------------------------------


def fingerprint(images: ImageSet) -> str:
    """SHA-256 (hex) of all pixels and labels, in order; decodes every image of a lazy set."""
    return digest((images.image(index) for index in range(len(images))), images.labels)


def digest(images: Iterable[Tensor], labels: Tensor) -> str:
    """SHA-256 (hex) over the shapes and bytes of (C, H, W) uint8 images, then the labels."""
    sha = hashlib.sha256()
    for image in images:
        sha.update(str(tuple(image.shape)).encode())
        sha.update(image.numpy().tobytes())
    sha.update(labels.numpy().astype("<i8").tobytes())
    return sha.hexdigest()


def statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Exact, from a histogram, for images in memory. A lazy set is judged by at most 2,000 images at
    equal steps through it. The deviation of a constant channel is 0.

    Returns:
        (mean, std), each a tuple of C floats.
    """
    histogram = torch.zeros(images.channels, 256, dtype=torch.float64)
    for pixels in _channel_pixels(images):
        for channel, values in enumerate(pixels):
            histogram[channel] += torch.bincount(values, minlength=256)
    share = histogram / histogram.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels
    std = (share * (levels - mean[:, None]).square()).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _channel_pixels(images: ImageSet) -> Iterator[Tensor]:
    """Pieces of the set as (C, M) uint8, small enough for bounded memory."""
    if isinstance(images, MemoryImages):
        for piece in torch.split(images.pixels, 1_024):
            yield piece.transpose(0, 1).flatten(1)
    else:
        sample = min(len(images), STATISTICS_SAMPLE)
        for step in range(sample):
            yield images.image(step * len(images) // sample).flatten(1)
