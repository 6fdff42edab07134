"""Data sets by name: loaded, checked, split and verified."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ccloss.data.augment import draws
from ccloss.data.catalog import FOLDER_PREFIX, SOURCES
from ccloss.data.images import (
    ImageSet,
    LazyImages,
    Store,
    Track,
    digest,
    untracked,
)
from ccloss.data.layouts import (
    Split,
    Splits,
    read_class_folders,
    read_digits,
    read_hub,
    read_local,
)
from ccloss.errors import InputError, unknown_name

MEMORY_SIZE = 64  # images up to this side, in pixels, are decoded once into memory
DIGITS_TEST = 500  # 50 of each digit
FOLDER_TEST_FRACTION = 0.2  # held out of a folder that has no test split


class Dataset(NamedTuple):
    """A data set ready for the loaders.

    Attributes:
        name: as given to :func:`load`.
        train: training images.
        test: test images.
        classes: K class names; label k is ``classes[k]``.
        channels: 1 (gray) or 3 (RGB).
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    channels: int


def load(
    name: str,
    *,
    data_root: Path | None = None,
    image_size: int,
    channels: int | None = None,
    resize: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    track: Track = untracked,
) -> Dataset:
    """Loads a data set and checks its counts, classes and labels.

    Up to an ``image_size`` of 64 the images are resized to that square (antialiased bilinear) and
    decoded once into memory. Above, they are decoded on access with their short side resized to
    ``resize``, and the loader crops.

    Args:
        name: ``digits``, ``mnist``, ``cifar100``, ``cars196`` or ``folder:<path>``. The digits
            come with scikit-learn. A folder holds ``train/<class>/`` and ``test/<class>/`` (or
            ``val/``), or ``<class>/`` alone, of which 20 % of each class, the same images every
            time, are held out as the test split.
        data_root: the folder that holds a folder named as the data set, or that folder itself, as
            Hub parquet, class folders or (Cars) the devkit. ``None``: the Hugging Face Hub. Digits
            and ``folder:`` need none.
        image_size: height and width of a batch in pixels.
        channels: 1 turns colour to gray, 3 replicates gray; ``None``: the data set's own. A folder
            has 1 if every image is gray, else 3.
        resize: pixels of the short side of large images; ``None``: ``image_size``.
        train_limit: take only this many training images, balanced over the classes, the same ones
            every time. The count of that split is then not checked.
        test_limit: likewise for the test images.
        track: shows the progress of decoding.

    Raises:
        InputError: an argument out of range, data that is missing, incomplete or corrupt.
    """
    _check_arguments(image_size, channels, resize, train_limit, test_limit)
    stored = _read(name, data_root)
    checked = {"train": train_limit is None, "test": test_limit is None}
    for problem in _problems(name, stored, checked):
        raise InputError(problem)
    if channels is None:
        channels = _own_channels(name, stored)
    size = (image_size, image_size) if image_size <= MEMORY_SIZE else resize or image_size

    def images(split: Split, limit: int | None, argument: str) -> ImageSet:
        whole = LazyImages(split.store, split.labels, channels, size)
        part = whole if limit is None else _limited(whole, limit, argument)
        if image_size > MEMORY_SIZE:
            return part
        return part.decoded(f"{name}: {argument.removesuffix('_limit')}", track)

    train = images(stored.train, train_limit, "train_limit")
    test = images(stored.test, test_limit, "test_limit")
    return Dataset(name, train, test, stored.classes, channels)


def image_channels(name: str, data_root: Path | None = None) -> int:
    """Channels of a data set's images: 1 (gray) or 3 (RGB).

    A named data set is not read. A folder has 1 channel if every image is gray.

    Raises:
        InputError: the folder cannot be read.
    """
    return (
        SOURCES[name].channels if name in SOURCES else _own_channels(name, _read(name, data_root))
    )


def hold_out(images: ImageSet, fraction: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Splits off a part of every class, in the same proportion: (train, validation).

    Of a class of n >= 2 images, round(n * fraction) are held out, at least one and at most n - 1;
    a class of one image stays in train. The choice depends on the seed alone, and both parts keep
    the order of ``images``.

    Raises:
        InputError: ``fraction`` is not in (0, 1), or no image would be held out.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction must be above 0 and below 1, got {fraction}")
    held = _held_out(images.labels, fraction, seed)
    if not held.any():
        raise InputError(f"images: {len(images)} images with none to spare; give at least two")
    return images.subset(torch.where(~held)[0]), images.subset(torch.where(held)[0])


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes:
        name: the data set.
        train: number of training images.
        test: number of test images.
        classes: number of classes.
        problems: one line each; empty if the data set is whole.
        fingerprints: SHA-256 of the pixels (at their stored size) and labels of train and test, if
            the images are small and there is no problem, else ``None``.
    """

    name: str
    train: int
    test: int
    classes: int
    problems: tuple[str, ...]
    fingerprints: tuple[str, str] | None


def verify(name: str, data_root: Path | None = None, track: Track = untracked) -> Verification:
    """Checks counts, classes and label ranges, and decodes every image.

    Args:
        name: as for :func:`load`.
        data_root: as for :func:`load`.
        track: shows the progress.

    Raises:
        InputError: the data set is not there, or its layout cannot be read at all.
    """
    stored = _read(name, data_root)
    problems = list(_problems(name, stored, {"train": True, "test": True}))
    channels = SOURCES[name].channels if name in SOURCES else 3

    def decode(split: Split, description: str) -> Iterator[Tensor]:
        images = LazyImages(split.store, split.labels, channels)
        for index in track(range(len(images)), description, len(images)):
            try:
                yield images.image(index)
            except InputError as error:
                problems.append(str(error))

    train = digest(decode(stored.train, f"{name}: train"), stored.train.labels)
    test = digest(decode(stored.test, f"{name}: test"), stored.test.labels)
    small = name in SOURCES and SOURCES[name].size is not None
    return Verification(
        name=name,
        train=len(stored.train.labels),
        test=len(stored.test.labels),
        classes=len(stored.classes),
        problems=tuple(problems),
        fingerprints=(train, test) if small and not problems else None,
    )


# ---- Reading and checking ----------------------------------------------------------------------


class _Stored(NamedTuple):
    """A data set as it is stored, with both splits."""

    train: Split
    test: Split
    classes: tuple[str, ...]


def _read(name: str, data_root: Path | None) -> _Stored:
    if name.startswith(FOLDER_PREFIX):
        splits = read_class_folders(_folder_path(name))
    elif name == "digits":
        splits = read_digits()
    elif name in SOURCES:
        source = SOURCES[name]
        splits = read_hub(source) if data_root is None else read_local(source, data_root)
    else:
        raise unknown_name("data", name, SOURCES)
    if splits.test is not None:
        return _Stored(splits.train, splits.test, splits.classes)
    return _with_test_split(name, splits)


def _folder_path(name: str) -> Path:
    path = name.removeprefix(FOLDER_PREFIX)
    if not path:
        raise InputError(f"name: {FOLDER_PREFIX} names no folder; use {FOLDER_PREFIX}<path>")
    return Path(path).expanduser()


def _with_test_split(name: str, splits: Splits) -> _Stored:
    """Holds out the same test images on every machine where the source has one split only."""
    whole = splits.train
    if name == "digits":
        held = _balanced(whole.labels, DIGITS_TEST)
    else:
        held = _held_out(whole.labels, FOLDER_TEST_FRACTION, seed=0)
    return _Stored(_part(whole, ~held), _part(whole, held), splits.classes)


def _part(split: Split, mask: Tensor) -> Split:
    rows = torch.where(mask)[0]
    return Split(_PartStore(split.store, tuple(rows.tolist())), split.labels[rows])


@dataclass(frozen=True)
class _PartStore:
    """Some rows of another store."""

    store: Store
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int) -> str:
        return self.store.place(self.rows[row])

    def image(self, row: int) -> Image.Image:
        return self.store.image(self.rows[row])


def _problems(name: str, stored: _Stored, checked: dict[str, bool]) -> Iterator[str]:
    """What is wrong with the counts, classes and labels, one line each."""
    source = SOURCES.get(name)
    classes = len(stored.classes)
    if source and classes != source.classes:
        yield f"{name}: {classes} classes where {source.classes} are due; restore the data set"
    for title, split, due in (
        ("train", stored.train, source and source.train),
        ("test", stored.test, source and source.test),
    ):
        count = len(split.labels)
        if count == 0:
            yield f"{name}: the {title} split is empty; restore the data set"
        elif due and checked[title] and count != due:
            yield (
                f"{name}: {count:,} {title} images where {due:,} are due; restore the data set, "
                f"or ask for a subset with {title}_limit"
            )
        for row in torch.where((split.labels < 0) | (split.labels >= classes))[0].tolist():
            yield (
                f"{split.store.place(row)}: label {int(split.labels[row])} is outside "
                f"0..{classes - 1}; correct it"
            )


def _own_channels(name: str, stored: _Stored) -> int:
    if name in SOURCES:
        return SOURCES[name].channels
    for split in (stored.train, stored.test):
        for row in range(len(split.store)):  # most folders have colour: one image then decides
            if split.store.image(row).mode not in ("1", "L"):
                return 3
    return 1


def _check_arguments(
    image_size: int,
    channels: int | None,
    resize: int | None,
    train_limit: int | None,
    test_limit: int | None,
) -> None:
    if image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {image_size}")
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1 (gray), 3 (RGB) or none given, got {channels}")
    if resize is not None and resize < image_size:
        raise InputError(f"resize must be at least image_size {image_size}, got {resize}")
    if resize not in (None, image_size) and image_size <= MEMORY_SIZE:
        raise InputError(
            f"resize is for an image_size above {MEMORY_SIZE}, got {resize} with image_size "
            f"{image_size}; leave it out"
        )
    for argument, limit in (("train_limit", train_limit), ("test_limit", test_limit)):
        if limit is not None and limit < 1:
            raise InputError(f"{argument} must be at least 1 image, got {limit}")


# ---- Choosing by class -------------------------------------------------------------------------


def _limited(images: LazyImages, limit: int, argument: str) -> LazyImages:
    if limit > len(images):
        raise InputError(f"{argument} must be at most the {len(images)} images, got {limit}")
    return images.subset(torch.where(_balanced(images.labels, limit))[0])


def _balanced(labels: Tensor, count: int) -> Tensor:
    """(N,) bool, true for ``count`` images, as equally many of each class as there are."""
    turn = _turns(labels, seed=0)
    order = torch.argsort(
        turn * (labels.max() + 1) + labels, stable=True
    )  # all first turns, then all second
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen


def _held_out(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """(N,) bool, true for the given fraction of each class."""
    sizes = labels.bincount()
    share = (sizes * fraction).round().long().clamp(min=1).minimum(sizes - 1)
    return _turns(labels, seed) < share[labels]


def _turns(labels: Tensor, seed: int) -> Tensor:
    """(N,) int64: each image's place 0, 1, ... in its own class, shuffled by the seed."""
    shuffled = torch.argsort(draws(seed, 0, torch.arange(len(labels)), 1)[:, 0], stable=True)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    turns = torch.empty_like(labels)
    turns[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return turns
