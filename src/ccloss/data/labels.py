"""Class names and labels: compared and mapped by name, never by position."""

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from ccloss.data.catalog import letters
from ccloss.data.names import counted, listed
from ccloss.data.source import Source
from ccloss.data.tables import Part, Table
from ccloss.errors import InputError


def normalized(name: str) -> str:
    """The composed Unicode form (NFC): one name has one spelling on every file system."""
    return unicodedata.normalize("NFC", name)


def natural_order(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key that puts ``class 2`` before ``class 10``."""
    pieces = re.findall(r"\d+|\D+", name.casefold())
    key = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces)
    return key, name


def resolve_classes(
    table: Table, train: Part, test: Part | None, source: Source | None
) -> tuple[str, ...]:
    """The class names of a data set in label order.

    The order is that of the catalog, or that which the training split declares, or the natural
    order of the names. Classes that only one split has are included.

    Raises:
        InputError: There is only one class, or the classes are not those of a known data set.
    """
    parts = [part for part in (train, test) if part is not None]
    found = {normalized(name) for part in parts for name in part.names if name is not None}
    if source is not None and source.class_names:
        known = {letters(name) for name in source.class_names}
        others = sorted(
            {name for name in (*found, *(table.classes or ())) if letters(name) not in known},
            key=natural_order,
        )
        if others:
            raise InputError(
                f"data {source.name}: {table.location} has the classes {listed(others)}, which "
                f"{source.name} does not have; check --data-root"
            )
        return source.class_names
    declared = [normalized(name) for name in table.classes or ()]
    extra = sorted(found - set(declared), key=natural_order)
    classes = tuple(dict.fromkeys([*declared, *extra]))
    if source is not None and len(classes) != source.classes:
        raise InputError(
            f"data {source.name}: {table.location} has {len(classes)} classes, expected "
            f"{source.classes}; restore the data set"
        )
    if len(found) < 2:
        raise InputError(
            f"data: {table.location} has {counted(len(found), 'class', 'classes')} "
            f"({listed(sorted(found))}), but at least 2 are needed; give the folder that holds the "
            "class folders"
        )
    return classes


def resolve_labels(part: Part, classes: Sequence[str]) -> tuple[Tensor, Tensor, int]:
    """Rows and labels of the images that have a class.

    Args:
        part: Images with class names.
        classes: Class names in label order.

    Returns:
        ((M,) int64 rows, (M,) int64 labels, number of images without a class name).
    """
    exact = {name: label for label, name in enumerate(classes)}
    spelled = {letters(name): label for label, name in enumerate(classes)}
    label_of: dict[str, int] = {}
    for name in {name for name in part.names if name is not None}:
        composed = normalized(name)
        label_of[name] = exact[composed] if composed in exact else spelled[letters(composed)]
    pairs = [
        (row, label_of[name])
        for row, name in zip(part.rows, part.names, strict=True)
        if name is not None
    ]
    rows, labels = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return rows.contiguous(), labels.contiguous(), len(part.names) - len(pairs)
