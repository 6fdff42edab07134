"""One split of a data set: images in memory, or decoded on access."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from ccloss.data.cache import Arrays, cached
from ccloss.data.decoding import Size, decode, read_content
from ccloss.data.progress import Track, untracked
from ccloss.data.stores import Store
from ccloss.errors import InputError

STATISTICS_SAMPLE = 2_000
"""Number of images that :func:`statistics` reads of a set that is not in memory."""

_CACHE_VERSION = 1  # to be raised when decoding or resizing changes pixels


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
            InputError: The stored image is corrupt or truncated. The message names its file or row.
        """

    @abstractmethod
    def location(self, index: int) -> str:
        """The file or row of image ``index``, for messages."""

    @abstractmethod
    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at ``indices``, (M,) int64, in that order."""

    @property
    @abstractmethod
    def keys(self) -> Tensor:
        """(N,) int64, for each image a hash that does not depend on the other images."""


@final
class MemoryImages(ImageSet):
    """Images of one size in one tensor.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64.
        keys: (N,) int64, see :attr:`ImageSet.keys`. By default they are hashes of the pixels.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, keys: Tensor | None = None) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise InputError(
                f"pixels must be (N, C, H, W) uint8, got {tuple(pixels.shape)} {pixels.dtype}"
            )
        _check_labels(labels, len(pixels))
        self.pixels = pixels
        self.labels = labels
        self.channels = pixels.shape[1]
        self._keys = keys

    def image(self, index: int) -> Tensor:
        return self.pixels[index]

    def location(self, index: int) -> str:
        return f"image {index} in memory"

    def subset(self, indices: Tensor) -> "MemoryImages":
        keys = None if self._keys is None else self._keys[indices]
        return MemoryImages(self.pixels[indices], self.labels[indices], keys)

    @property
    def keys(self) -> Tensor:
        if self._keys is None:
            self._keys = hash_keys(image.numpy().tobytes() for image in self.pixels)
        return self._keys


@final
class StoredImages(ImageSet):
    """Stored images that are decoded on access.

    Args:
        store: The images.
        labels: (N,) int64.
        channels: 1 (color becomes gray) or 3 (gray is replicated).
        size: Pixels of the short side after an antialiased bilinear resize, or (height, width), or
            ``None`` for the stored size.
        rows: (N,) int64, the rows of the images in the store. By default all of them in order.
        keys: (N,) int64, see :attr:`ImageSet.keys`. By default they are hashes of the paths, or of
            the contents where images have no path.
        digests: (N, 16) uint8, digests of the stored contents. They make the cache of
            :meth:`decoded` possible.
    """

    def __init__(
        self,
        store: Store,
        labels: Tensor,
        channels: int,
        size: Size = None,
        rows: Tensor | None = None,
        keys: Tensor | None = None,
        digests: Tensor | None = None,
    ) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels must be 1 (gray) or 3 (RGB), got {channels}")
        self.rows = torch.arange(len(store)) if rows is None else rows
        _check_labels(labels, len(self.rows))
        self.store = store
        self.labels = labels
        self.channels = channels
        self.size = size
        self.digests = digests
        self._keys = keys

    def image(self, index: int) -> Tensor:
        row = int(self.rows[index])
        content = read_content(self.store, row)
        return decode(content, self.store.location(row), self.channels, self.size)

    def location(self, index: int) -> str:
        return self.store.location(int(self.rows[index]))

    def subset(self, indices: Tensor) -> "StoredImages":
        return StoredImages(
            self.store,
            self.labels[indices],
            self.channels,
            self.size,
            self.rows[indices],
            None if self._keys is None else self._keys[indices],
            None if self.digests is None else self.digests[indices],
        )

    @property
    def keys(self) -> Tensor:
        if self._keys is None:
            self._keys = store_keys(self.store, self.rows.tolist())
        return self._keys

    def decoded(
        self, description: str, track: Track = untracked, title: str = "images"
    ) -> MemoryImages:
        """All images in one tensor. ``size`` must be (height, width).

        The pixels are cached if ``digests`` are known.

        Args:
            description: Title of the progress bar.
            track: Shows the progress.
            title: Start of the name of the cache entry.
        """
        if not isinstance(self.size, tuple):
            raise InputError(f"size must be (height, width) to decode all images, got {self.size}")
        shape = (len(self), self.channels, *self.size)

        def make() -> Arrays:
            pixels = torch.empty(shape, dtype=torch.uint8)
            for index in track(range(len(self)), description, len(self)):
                pixels[index] = self.image(index)
            return {"pixels": pixels.numpy()}

        if self.digests is None:
            arrays = make()
        else:
            digest = hashlib.sha256(f"{_CACHE_VERSION} {shape}".encode())
            digest.update(self.digests.numpy().tobytes())
            arrays = cached(f"{title}-{digest.hexdigest()[:32]}", make)
        return MemoryImages(torch.from_numpy(arrays["pixels"]), self.labels, self._keys)


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise InputError(
            f"labels must be ({count},) int64, one per image, got {tuple(labels.shape)} "
            f"{labels.dtype}"
        )


# ---- Keys --------------------------------------------------------------------------------------


def hash_keys(contents: Iterable[bytes]) -> Tensor:
    """(N,) int64, a hash of each item."""
    hashes = [hashlib.blake2b(content, digest_size=8).digest() for content in contents]
    return torch.from_numpy(np.frombuffer(b"".join(hashes), dtype="<i8").astype(np.int64))


def store_keys(store: Store, rows: Sequence[int], names: Sequence[str] | None = None) -> Tensor:
    """(N,) int64, hashes of class name and relative path, or of the content without a path."""

    def content(position: int, row: int) -> bytes:
        path = store.path(row)
        if path is not None:
            name = names[position] if names else ""
            return f"{name}/{path}".encode("utf-8", "surrogateescape")
        stored = read_content(store, row)
        return stored if isinstance(stored, bytes) else stored.tobytes()

    return hash_keys(content(position, row) for position, row in enumerate(rows))


# ---- Digests and statistics --------------------------------------------------------------------


def fingerprint(images: ImageSet) -> str:
    """SHA-256 (hex) of all pixels and labels in order. Decodes every image of the set."""
    return digest((images.image(index) for index in range(len(images))), images.labels)


def digest(images: Iterable[Tensor], labels: Tensor) -> str:
    """SHA-256 (hex) over the shapes and bytes of (C, H, W) uint8 images, then the labels."""
    sha = hashlib.sha256()
    for image in images:
        sha.update(str(tuple(image.shape)).encode())
        sha.update(image.numpy().tobytes())
    sha.update(labels.numpy().astype("<i8").tobytes())
    return sha.hexdigest()


def content_digest(images: ImageSet, classes: Sequence[str]) -> str:
    """SHA-256 (hex) of images and class names, without decoding images that are not in memory.

    Of images in memory it covers the pixels, so it does not depend on the file format. Of others
    it covers the stored bytes and the keys, which contain the relative paths.
    """
    if isinstance(images, MemoryImages):
        content = fingerprint(images).encode()
    else:
        assert isinstance(images, StoredImages)
        stored = images.digests
        if stored is None:
            contents = (read_content(images.store, row) for row in images.rows.tolist())
            stored = hash_keys(c if isinstance(c, bytes) else c.tobytes() for c in contents)
        parts = (stored, images.keys, images.labels)
        content = b"".join(part.numpy().tobytes() for part in parts)
    sha = hashlib.sha256(content)
    for name in classes:
        sha.update(f"\0{name}".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Exact, from a histogram, for images in memory. Otherwise computed from at most 2,000 images at
    equal steps through the set. The deviation of a constant channel is 0.

    Returns:
        (mean, std), each a tuple of C floats.
    """
    histogram = torch.zeros(images.channels, 256, dtype=torch.float64)
    for pixels in _channel_pixels(images):
        for channel, values in enumerate(pixels):
            histogram[channel] += torch.bincount(values, minlength=256)
    frequency = histogram / histogram.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = frequency @ levels
    std = (frequency * (levels - mean[:, None]).square()).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _channel_pixels(images: ImageSet) -> Iterator[Tensor]:
    """Parts of the set as (C, M) uint8, small enough for bounded memory."""
    if isinstance(images, MemoryImages):
        for part in torch.split(images.pixels, 1_024):
            yield part.transpose(0, 1).flatten(1)
    else:
        sample = min(len(images), STATISTICS_SAMPLE)
        for step in range(sample):
            yield images.image(step * len(images) // sample).flatten(1)
