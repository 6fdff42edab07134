"""A full check of a data set: counts, classes, and every image."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ccloss.data.catalog import SOURCES, resolve_data_name
from ccloss.data.decoding import decode, read_content
from ccloss.data.images import digest
from ccloss.data.names import counted, listed
from ccloss.data.progress import Track, untracked
from ccloss.data.scan import Scan, scan
from ccloss.data.sources import Split, Stored, check_identity, class_counts, read
from ccloss.data.tables import TEST, TRAIN
from ccloss.errors import InputError


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes:
        name: The data set.
        classes: Class names in label order.
        train: Number of training images of each class.
        test: Number of test images of each class.
        sizes: Number of images of each ``WIDTHxHEIGHT``, the most common first.
        modes: Number of images of each pixel format, by Pillow's names.
        problems: One line each; empty if the data set can be used as it is.
        notes: What was left out, duplicates, and messages of decoders, one line each.
        fingerprints: SHA-256 of the pixels (at their stored size) and labels of train and test, if
            all images have one size and there is no problem.
        revision: Commit of the Hub repository, if the images come from the Hub.
    """

    name: str
    classes: tuple[str, ...]
    train: dict[str, int]
    test: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprints: dict[str, str] | None
    revision: str | None


def verify(name: str, data_root: Path | None = None, track: Track = untracked) -> Verification:
    """Checks counts, classes and labels, and decodes every image.

    Args:
        name: As for :func:`ccloss.data.sources.load`.
        data_root: As for :func:`ccloss.data.sources.load`.
        track: Shows the progress.

    Raises:
        InputError: The data set is missing, or its layout or labels cannot be read.
    """
    name = resolve_data_name(name)
    stored = read(name, data_root, allow_missing_classes=True)
    source = SOURCES.get(name)
    problems = list(stored.problems())
    headers, digests = {}, {}
    for title, split in ((TRAIN, stored.train), (TEST, stored.test)):
        headers[title] = scan(
            split.store, split.rows.tolist(), f"{name}: {title} headers", track, use_cache=False
        )
        pixels = _decode_all(name, title, split, source.channels if source else 3, problems, track)
        digests[title] = digest(pixels, split.labels)
    if source is not None and not problems:
        try:
            check_identity(source, stored)
        except InputError as error:
            problems.append(str(error))
    sizes = _counts(f"{w}x{h}" for scan in headers.values() for w, h in scan.sizes.tolist() if w)
    return Verification(
        name=name,
        classes=stored.classes,
        train=class_counts(stored.train, stored.classes),
        test=class_counts(stored.test, stored.classes),
        sizes=sizes,
        modes=_counts(m for scan in headers.values() for m in scan.modes.tolist() if m),
        problems=tuple(problems),
        notes=(*stored.notes, *_duplicates(stored, headers), *_decoder_messages(headers)),
        fingerprints=digests if len(sizes) == 1 and not problems else None,
        revision=stored.revision,
    )


def _decode_all(
    name: str, title: str, split: Split, channels: int, problems: list[str], track: Track
) -> Iterator[Tensor]:
    """The pixels of all images that can be decoded; what is wrong with others goes to problems."""
    for row in track(split.rows.tolist(), f"{name}: {title}", len(split.rows)):
        location = split.store.location(row)
        try:
            yield decode(read_content(split.store, row), location, channels)
        except InputError as error:
            problems.append(str(error))


def _counts(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _duplicates(stored: Stored, headers: dict[str, Scan]) -> Iterator[str]:
    """Notes on images that occur in both splits, or under several classes."""
    rows = {title: [bytes(d) for d in scan.digests] for title, scan in headers.items()}
    zero = bytes(len(rows[TRAIN][0])) if rows[TRAIN] else b""
    both = (set(rows[TRAIN]) & set(rows[TEST])) - {zero}
    if both:
        indices = [k for k, value in enumerate(rows[TEST]) if value in both]
        names = [stored.test.store.location(int(stored.test.rows[k])) for k in indices]
        yield (
            f"{counted(len(indices), 'test image')} also in the training images: {listed(names, 3)}"
        )
    labels: dict[bytes, set[int]] = {}
    for title, split in ((TRAIN, stored.train), (TEST, stored.test)):
        for value, label in zip(rows[title], split.labels.tolist(), strict=True):
            labels.setdefault(value, set()).add(label)
    conflicting = sum(len(found) > 1 for value, found in labels.items() if value != zero)
    if conflicting:
        yield f"{counted(conflicting, 'image')} with more than one class"


def _decoder_messages(headers: dict[str, Scan]) -> Iterator[str]:
    for scan_of_split in headers.values():
        yield from scan_of_split.warnings
