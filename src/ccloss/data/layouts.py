"""The layouts that data sets have on disk, and which of them a folder has."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ccloss.data.archives import (
    read_cars_annotations,
    read_cars_devkit,
    read_cifar,
    read_idx,
    read_parquet,
    read_saved,
)
from ccloss.data.catalog import SOURCES, letters
from ccloss.data.folders import read_class_folders, read_lists
from ccloss.data.names import listed, printable
from ccloss.data.source import Source
from ccloss.data.tables import Table
from ccloss.data.tree import FileTree, list_files
from ccloss.errors import InputError

_Found = Sequence[str]
_Classes = Sequence[str]


class Layout(NamedTuple):
    """One way to store a data set.

    Attributes:
        title: What a user sees.
        marker: Regular expression of relative paths that only this layout has.
        read: Reads the data set from the tree, the files that match, and the class names that
            integer labels stand for. ``None`` if the files turn out to be something else.
    """

    title: str
    marker: str
    read: Callable[[FileTree, _Found, _Classes], Table | None]


LAYOUTS = (
    Layout("datasets.save_to_disk", r"(^|/)(dataset_dict|state)\.json$", read_saved),
    Layout("parquet: train-*.parquet and test-*.parquet", r"\.parquet$", read_parquet),
    Layout("MNIST idx files", r"(^|/)train-images[-.]idx3-ubyte(\.gz)?$", read_idx),
    Layout(
        "cifar-100-python or cifar-10-batches-py",
        r"(^|/)cifar-100-python/train$|^train$|(^|/)data_batch_1$",
        lambda tree, found, classes: read_cifar(tree, found),
    ),
    Layout(
        "the Cars-196 devkit",
        r"(^|/)cars_train_annos\.mat$",
        lambda tree, found, classes: read_cars_devkit(tree, found),
    ),
    Layout(
        "cars_annos.mat with car_ims/",
        r"(^|/)cars_annos\.mat$",
        lambda tree, found, classes: read_cars_annotations(tree, found),
    ),
    Layout(
        "CSV lists with path, label and split",
        r"\.csv$",
        lambda tree, found, classes: read_lists(tree, found),
    ),
    Layout(
        "train/CLASS/ and test/CLASS/ folders, or CLASS/ folders",
        r"",
        lambda tree, found, classes: read_class_folders(tree) if tree.images else None,
    ),
)
"""The first layout that matches is used."""


def read_folder(root: Path) -> Table:
    """Reads a data set of a user.

    Args:
        root: A folder in one of :data:`LAYOUTS`, or a CSV list.

    Raises:
        InputError: The folder has none of the layouts, or its data set is damaged.
    """
    if root.suffix.lower() == ".csv" and root.is_file():
        table = read_lists(list_files(root.parent), [root.name])
        if table is None:
            raise InputError(
                f"data: {printable(str(root))} needs a column path and a column label; rename them"
            )
        return table
    return _read(list_files(root), ())


def read_named(source: Source, data_root: Path) -> Table:
    """Reads a known data set from a folder that is or contains it.

    Raises:
        InputError: The data set is not there, or damaged.
    """
    if not data_root.is_dir():
        raise InputError(f"data_root: the folder {data_root} does not exist; check the path")
    homes = [path for path in data_root.iterdir() if path.is_dir()]
    own = [path for path in homes if letters(path.name) in source.folders]
    others = {folder for other in SOURCES.values() for folder in other.folders}
    others -= set(source.folders)
    skip = frozenset(path.name for path in homes if letters(path.name) in others)
    if letters(data_root.name) in source.folders or not own:
        tree = list_files(data_root, skip)
    else:
        tree = list_files(min(own, key=lambda path: source.folders.index(letters(path.name))))
    return _read(tree, source.class_names)


def _read(tree: FileTree, classes: _Classes) -> Table:
    for layout in LAYOUTS:
        found = tree.matching(layout.marker)
        if found:
            table = layout.read(tree, found, classes)
            if table is not None:
                return table
    where = printable(str(tree.root))
    files = [printable(file) for file in tree.files]
    seen = f"it has {listed(files, 3)}" if files else "it is empty"
    titles = "; ".join(layout.title for layout in LAYOUTS)
    raise InputError(f"data: no images in {where} ({seen}); layouts that are read: {titles}")
