"""Data sets by name or folder: read, checked, and split into training and test images."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccloss.data.archives import read_digits, read_hub
from ccloss.data.catalog import FOLDER_PREFIX, HUB_PREFIX, SOURCES, resolve_data_name
from ccloss.data.decoding import GRAY_MODES, decode, read_content
from ccloss.data.images import ImageSet, StoredImages, content_digest, store_keys
from ccloss.data.labels import resolve_classes, resolve_labels
from ccloss.data.layouts import read_folder, read_named
from ccloss.data.names import counted, listed
from ccloss.data.progress import Track, untracked
from ccloss.data.scan import Scan, scan
from ccloss.data.source import Source
from ccloss.data.splitting import balanced, held_out
from ccloss.data.stores import Store
from ccloss.data.tables import TEST, TRAIN, VALIDATION, Part, Table
from ccloss.errors import InputError

MEMORY_SIZE = 64
"""Images up to this side in pixels are decoded once and kept in memory."""

DIGITS_TEST = 500  # 50 of each digit
TEST_FRACTION = 0.2  # held out of a data set without a test split

_MEAN_SAMPLE = 256  # images whose mean pixel tells similar data sets apart
_MEAN_TOLERANCE = 0.04  # about ten standard errors of that mean


class Dataset(NamedTuple):
    """A data set ready for the loaders.

    Attributes:
        name: Canonical name, see :func:`ccloss.data.catalog.resolve_data_name`.
        train: Training images.
        test: Test images.
        classes: K class names; label k is ``classes[k]``.
        channels: 1 (gray) or 3 (RGB).
        notes: What was left out or decided, one line each, to be shown to the user.
        revision: Commit of the Hub repository, if the images come from the Hub.
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    channels: int
    notes: tuple[str, ...] = ()
    revision: str | None = None

    def digests(self) -> dict[str, str]:
        """SHA-256 (hex) of the ``train`` and ``test`` images, their labels and class names."""
        return {
            TRAIN: content_digest(self.train, self.classes),
            TEST: content_digest(self.test, self.classes),
        }


def load(
    name: str,
    *,
    data_root: Path | None = None,
    image_size: int,
    channels: int | None = None,
    resize: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    allow_missing_classes: bool = False,
    track: Track = untracked,
) -> Dataset:
    """Loads a data set and checks its counts, classes, labels and the headers of its images.

    Up to an ``image_size`` of 64 the images are resized to that square (antialiased bilinear) and
    kept in memory; the decoded pixels are cached on disk. Above, they are decoded on access with
    their short side resized to ``resize``, and the loader crops.

    Args:
        name: A name of the catalog in any case, ``folder:PATH`` or a path, or ``hub:OWNER/NAME``.
            See :mod:`ccloss.data.layouts` for the layouts of a folder. A data set without a test
            split holds out about 20 %, chosen image by image with a hash of class and path.
        data_root: Folder that is or contains a data set of the catalog. ``None``: the Hugging Face
            Hub. The digits, folders and ``hub:`` need none.
        image_size: Height and width of a batch in pixels.
        channels: 1 converts color to gray, 3 replicates gray. ``None``: those of a known data set;
            otherwise 1 if every image is gray, else 3.
        resize: Pixels of the short side of large images. ``None``: ``image_size``.
        train_limit: Use only this many training images, balanced over the classes, the same ones
            every time. The number of images in the split is then not checked.
        test_limit: The same for the test images.
        allow_missing_classes: Accept classes that only one of the two splits has.
        track: Shows the progress.

    Raises:
        InputError: An argument is out of range, or the data are missing, incomplete or damaged.
    """
    _check_arguments(image_size, channels, resize, train_limit, test_limit)
    name = resolve_data_name(name)
    stored = read(name, data_root, allow_missing_classes=allow_missing_classes)
    for problem in stored.problems(train_limit is None, test_limit is None):
        raise InputError(problem)
    source = SOURCES.get(name)
    all_modes = channels is None and source is None
    size = decoded_size(image_size, resize)
    splits = []
    for title, split, limit in (
        (TRAIN, stored.train, train_limit),
        (TEST, stored.test, test_limit),
    ):
        part = split if limit is None else _limited(split, limit, f"{title}_limit")
        scanned = split if all_modes else part
        headers = scan(scanned.store, scanned.rows.tolist(), f"{name}: {title} headers", track)
        splits.append((title, part, scanned, headers))
    scans = [headers for *_, headers in splits]
    _reject_unreadable(scans)
    channels = channels or (source and source.channels) or _own_channels(scans)
    images = []
    for title, part, scanned, headers in splits:
        digests = torch.from_numpy(headers.digests)
        if scanned is not part:
            digests = digests[torch.isin(scanned.rows, part.rows)]
        lazy = StoredImages(part.store, part.labels, channels, size, part.rows, part.keys, digests)
        image_set: ImageSet = lazy
        if image_size <= MEMORY_SIZE:
            image_set = lazy.decoded(f"{name}: {title}", track, f"{_file_name(name)}-{title}")
        images.append(image_set)
    if source is not None:
        check_identity(source, stored)
    warnings = [message for headers in scans for message in headers.warnings]
    notes = (*stored.notes, *_shortened(warnings))
    return Dataset(name, images[0], images[1], stored.classes, channels, notes, stored.revision)


def decoded_size(image_size: int, resize: int | None) -> int | tuple[int, int]:
    """The size to which images are decoded: a square up to 64 pixels, else the short side."""
    return (image_size, image_size) if image_size <= MEMORY_SIZE else resize or image_size


def image_channels(name: str, data_root: Path | None = None) -> int:
    """Channels of the images of a data set: 1 (gray) or 3 (RGB).

    A data set of the catalog is not read. Others have 1 channel if every image is gray.

    Raises:
        InputError: The data set cannot be read.
    """
    name = resolve_data_name(name)
    if name in SOURCES:
        return SOURCES[name].channels
    stored = read(name, data_root, allow_missing_classes=True)
    scans = [scan(split.store, split.rows.tolist()) for split in (stored.train, stored.test)]
    _reject_unreadable(scans)
    return _own_channels(scans)


def check_same_data(
    stored: Mapping[str, str | None] | None,
    dataset: Dataset,
    *,
    allow_changed: bool = False,
    splits: Sequence[str] = (TRAIN, TEST),
) -> str | None:
    """Compares a data set with the digests in the record of a run.

    Args:
        stored: ``Dataset.digests()`` of the run; ``None`` or missing entries are not compared.
        dataset: The data set that is loaded now.
        allow_changed: Continue with changed images.
        splits: The splits that matter: evaluation needs the test images only.

    Returns:
        A warning if images have changed and ``allow_changed`` is set, else ``None``.

    Raises:
        InputError: Images have changed and ``allow_changed`` is not set.
    """
    known = {split: value for split in splits if (value := (stored or {}).get(split))}
    if not known:
        return None
    current = dataset.digests()
    changed = [split for split, value in known.items() if current[split] != value]
    if not changed:
        return None
    text = f"the {' and '.join(changed)} images of {dataset.name} are not those of the run"
    if allow_changed:
        return text
    raise InputError(f"data: {text}; restore them, or continue with --allow-changed-data")


# ---- Reading -----------------------------------------------------------------------------------


class Split(NamedTuple):
    """N stored images of one split.

    Attributes:
        store: The images.
        rows: (N,) int64 rows of the store.
        labels: (N,) int64.
        keys: (N,) int64, or ``None`` if they are not needed yet.
    """

    store: Store
    rows: Tensor
    labels: Tensor
    keys: Tensor | None = None

    def select(self, mask: Tensor) -> "Split":
        """The images for which ``mask``, (N,) bool, is true."""
        keys = None if self.keys is None else self.keys[mask]
        return Split(self.store, self.rows[mask], self.labels[mask], keys)


class Stored(NamedTuple):
    """A data set with labels and splits, before decoding."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    revision: str | None

    def problems(self, check_train: bool = True, check_test: bool = True) -> Iterable[str]:
        """What is wrong with the numbers of classes and images, one line each."""
        source = SOURCES.get(self.name)
        for title, split, is_checked, expected in (
            (TRAIN, self.train, check_train, source and source.train),
            (TEST, self.test, check_test, source and source.test),
        ):
            count = len(split.labels)
            if count == 0:
                yield f"data {self.name}: the {title} split has no images; restore the data set"
            elif expected and is_checked and count != expected:
                yield (
                    f"data {self.name}: {counted(count, f'{title} image')}, expected {expected:,}; "
                    f"restore the data set, or use a subset with --{title}-limit"
                )


def read(
    name: str, data_root: Path | None = None, *, allow_missing_classes: bool = False
) -> Stored:
    """Reads the labels and splits of a data set, without decoding its images.

    Args:
        name: A canonical name, see :func:`ccloss.data.catalog.resolve_data_name`.
        data_root: As for :func:`load`.
        allow_missing_classes: As for :func:`load`.

    Raises:
        InputError: The data set is missing, or its labels are wrong.
    """
    source = SOURCES.get(name)
    table = _read_table(name, source, data_root)
    train, test, notes = _choose_parts(table)
    classes = resolve_classes(table, train, test, source)
    splits = []
    for part in (train, test):
        if part is None:
            continue
        rows, labels, dropped = resolve_labels(part, classes)
        splits.append(Split(part.store, rows, labels))
        if dropped:
            notes.append(f"{counted(dropped, 'image')} without a label left out of {part.title}")
    if len(splits) == 1:
        pair = _hold_out_test(name, splits[0], classes, notes)
    else:
        pair = (splits[0], splits[1])
        if source is None:
            notes += _missing_classes(pair, classes, table.location, allow_missing_classes)
    return Stored(name, *pair, classes, (*table.notes, *notes), table.revision)


def _read_table(name: str, source: Source | None, data_root: Path | None) -> Table:
    if name.startswith(FOLDER_PREFIX):
        return read_folder(Path(name.removeprefix(FOLDER_PREFIX)))
    if name.startswith(HUB_PREFIX):
        repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
        return read_hub(repository, revision or None)
    assert source is not None, "resolve_data_name rejects other names"
    if not source.hub:
        return read_digits()
    if data_root is None:
        return read_hub(source.hub, source.revision, source.class_names)
    return read_named(source, data_root)


def _choose_parts(table: Table) -> tuple[Part, Part | None, list[str]]:
    """(train, test, notes). ``test`` is ``None`` if it has to be held out of ``train``."""
    parts = {part.split: part for part in table.parts}
    notes: list[str] = []
    train = parts.get(TRAIN) or parts.get(None)
    if train is None:
        found = ", ".join(str(split) for split in parts)
        raise InputError(
            f"data: {table.location} has the splits {found} but no training split; add train"
        )
    test = None
    for part in (parts.get(TEST), parts.get(VALIDATION)):
        if part is None:
            continue
        images = counted(len(part.rows), "image")
        if not any(name is not None for name in part.names):
            notes.append(f"{part.title} has {images} without labels and is not used")
        elif test is None:
            test = part
            if part.split == VALIDATION:
                notes.append(f"the test images are those of {part.title}")
        else:
            notes.append(f"{part.title} ({images}) is not used")
    if train.split is not None and None in parts:
        notes.append(f"{counted(len(parts[None].rows), 'image')} without a split left out")
    return train, test, notes


def _hold_out_test(
    name: str, whole: Split, classes: Sequence[str], notes: list[str]
) -> tuple[Split, Split]:
    """Holds out test images of a data set that has one split only."""
    if name == "digits":
        chosen = balanced(whole.labels, DIGITS_TEST)
        return whole.select(~chosen), whole.select(chosen)
    names = [classes[label] for label in whole.labels.tolist()]
    whole = whole._replace(keys=store_keys(whole.store, whole.rows.tolist(), names))
    assert whole.keys is not None
    held = held_out(whole.keys, TEST_FRACTION, seed=0)
    if held.all() or not held.any():
        raise InputError(
            f"data: {name} has {counted(len(held), 'image')}, too few to hold out a test split; "
            "add images, or a test folder"
        )
    notes.append(
        f"there is no test split: {counted(int(held.sum()), 'image')} of {len(held):,} are held "
        "out as test images"
    )
    pair = whole.select(~held), whole.select(held)
    for split, title in zip(pair, ("training", "test"), strict=True):
        absent = _absent(split.labels, classes)
        if absent:
            notes.append(f"{_classes_text(absent)} without {title} images after holding out")
    return pair


def _missing_classes(
    pair: tuple[Split, Split], classes: Sequence[str], location: str, allow: bool
) -> list[str]:
    """Notes on classes that are missing in one split.

    Raises:
        InputError: There are such classes, and ``allow`` is not set.
    """
    absent = [
        (title, _absent(s.labels, classes)) for s, title in zip(pair, (TRAIN, TEST), strict=True)
    ]
    lines = [f"the {title} split has no images of {_classes_text(a)}" for title, a in absent if a]
    if lines and not allow:
        raise InputError(
            f"data: {location}: {'; '.join(lines)}; add them, or continue with "
            "--allow-missing-classes"
        )
    return lines


def _absent(labels: Tensor, classes: Sequence[str]) -> list[str]:
    counts = labels.bincount(minlength=len(classes))
    return [classes[k] for k in torch.where(counts == 0)[0].tolist()]


def _classes_text(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'class', 'classes')} ({listed(names)})"


# ---- Checks ------------------------------------------------------------------------------------


def check_identity(source: Source, stored: Stored) -> None:
    """Checks that images are those of a known data set, by size, channels and mean pixel.

    Raises:
        InputError: They are not. The message names the data set that they look like.
    """
    split = stored.train
    count = min(_MEAN_SAMPLE, len(split.rows))
    rows = split.rows[torch.arange(count) * len(split.rows) // count].tolist()
    total = 0.0
    for row in rows:
        location = split.store.location(row)
        pixels = decode(read_content(split.store, row), location, source.channels)
        if source.size is not None and pixels.shape[1:] != (source.size, source.size):
            raise InputError(
                f"data {source.name}: {location} has {pixels.shape[2]} x {pixels.shape[1]} pixels "
                f"and those of {source.name} have {source.size} x {source.size}; check --data-root"
            )
        total += float(pixels.double().mean()) / 255
    mean = total / count
    if source.mean is not None and abs(mean - source.mean) > _MEAN_TOLERANCE:
        similar = [s for s in SOURCES.values() if s.mean and abs(s.mean - mean) < _MEAN_TOLERANCE]
        hint = f", as those of {similar[0].name} have" if similar else ""
        raise InputError(
            f"data {source.name}: the images are not those of {source.name}: their mean pixel is "
            f"{mean:.3f}{hint}, expected {source.mean:.3f}; check --data-root"
        )


def _reject_unreadable(scans: Sequence[Scan]) -> None:
    problems = [problem for headers in scans for problem in headers.problems]
    if problems:
        more = f" ({counted(len(problems), 'image')} in all)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}; `ccloss data verify` lists all problems")


def _own_channels(scans: Sequence[Scan]) -> int:
    return 1 if all(np.isin(headers.modes, GRAY_MODES).all() for headers in scans) else 3


def _shortened(lines: Sequence[str], most: int = 10) -> list[str]:
    more = [f"{counted(len(lines) - most, 'more warning')} of the decoder"]
    return [*lines[:most], *(more if len(lines) > most else [])]


def _file_name(name: str) -> str:
    """A name in letters, digits and hyphens, for the cache."""
    short = name.rpartition("/")[2] if ":" in name else name
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in short)[:40]


def _limited(split: Split, limit: int, argument: str) -> Split:
    if limit > len(split.rows):
        raise InputError(f"{argument} must be at most the {len(split.rows)} images, got {limit}")
    return split.select(balanced(split.labels, limit))


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
        raise InputError(f"channels must be 1 (gray), 3 (RGB) or left out, got {channels!r}")
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


def class_counts(split: Split, classes: Sequence[str]) -> dict[str, int]:
    """Number of images of each class."""
    counts = Counter(split.labels.tolist())
    return {name: counts[label] for label, name in enumerate(classes)}
