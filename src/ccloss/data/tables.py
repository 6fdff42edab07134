"""Tables of stored images: what a layout reader returns, before labels and splits are resolved."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ccloss.data.stores import Store

TRAIN, VALIDATION, TEST = "train", "validation", "test"

SPLIT_WORDS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("val", "valid", "validation", "dev", "eval"),
    TEST: ("test", "testing"),
}
"""Names of splits in folders, files and columns, in any case."""

_SPLITS = {word: split for split, words in SPLIT_WORDS.items() for word in words}


class Part(NamedTuple):
    """Stored images that belong to one split.

    Attributes:
        title: Where they are stored, for messages.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``None`` if the layout does not say.
        store: The images.
        rows: (N,) rows of the store.
        names: (N,) class names; ``None`` for images without a label.
    """

    title: str
    split: str | None
    store: Store
    rows: Sequence[int]
    names: Sequence[str | None]


class Table(NamedTuple):
    """A data set as it is stored.

    Attributes:
        location: Folder or repository, for messages.
        parts: The images.
        classes: Class names in label order, or ``None`` if the layout does not declare them.
        notes: What was left out, one line each.
        revision: Commit of a Hub repository.
    """

    location: str
    parts: Sequence[Part]
    classes: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    revision: str | None = None


def split_of(name: str) -> str | None:
    """The split that a folder, file or column value names, such as ``cars_train`` or ``Val``."""
    found = {_SPLITS[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None
