"""Image files with a class that is the name of their folder or is listed in a CSV file."""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ccloss.data.labels import normalized
from ccloss.data.names import counted, listed, printable
from ccloss.data.stores import FileStore
from ccloss.data.tables import TRAIN, Part, Table, split_of
from ccloss.data.tree import IMAGE_SUFFIXES, FileTree, common_folder, other_files_note, suffix
from ccloss.errors import InputError

_PATH_COLUMNS = (
    "path",
    "file_name",
    "filename",
    "file",
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "image",
    "img",
    "fname",
    "image_id",
    "id",
)
_LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "category",
    "target",
    "species",
    "breed",
)
_SPLIT_COLUMNS = ("split", "subset", "set", "partition", "data set")
_NO_LABELS = re.compile(r"submission", re.IGNORECASE)  # Kaggle's templates hold invented labels


# ---- Class folders -----------------------------------------------------------------------------


def read_class_folders(tree: FileTree) -> Table:
    """``train/CLASS/`` with ``val/CLASS/`` or ``test/CLASS/``, or ``CLASS/`` alone.

    Images in subfolders of a class belong to the class. Folders around the layout, such as
    ``cars_train/cars_train/``, are skipped.

    Raises:
        InputError: The images are not in class folders.
    """
    home = common_folder(tree.images)
    inner = tree.below(home)
    notes = [*_home_note(inner, home), *other_files_note(_not_images(inner.files))]
    groups = _by_first_folder(inner.images)
    splits = _split_folders(groups)
    if splits:
        parts = _split_parts(inner, splits)
    else:
        _reject_other_layouts(inner, groups)
        parts = [_class_part(inner, None)]
    notes += [
        f"{counted(len(files), 'image')} in {printable(name)}/ left out"
        for name, files in groups.items()
        if splits and name and name not in splits
    ]
    if groups.get(""):
        where = printable(str(inner.root))
        notes.append(f"{counted(len(groups['']), 'image')} directly in {where} left out")
    return Table(str(inner.root), parts, None, tuple(notes))


def _home_note(inner: FileTree, home: str) -> Iterator[str]:
    if home:
        yield f"class folders are read from {printable(str(inner.root))}"


def _not_images(files: Sequence[str]) -> list[str]:
    return [file for file in files if suffix(file) not in IMAGE_SUFFIXES]


def _by_first_folder(files: Sequence[str]) -> dict[str, list[str]]:
    """Files by their first folder; ``""`` has those without one."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        groups[file.partition("/")[0] if "/" in file else ""].append(file)
    return dict(groups)


def _split_folders(groups: dict[str, list[str]]) -> dict[str, str]:
    """The folders that are splits. A class may be called ``train``, too."""
    splits = {name: split for name in groups if (split := split_of(name))}
    is_nested = any(
        file.count("/") >= 2
        for name, split in splits.items()
        if split == TRAIN
        for file in groups[name]
    )
    has_others = len([name for name in groups if name]) > len(splits)
    is_alone = set(splits.values()) == {TRAIN}
    return splits if is_nested and not (is_alone and has_others) else {}


def _split_parts(tree: FileTree, splits: dict[str, str]) -> list[Part]:
    """One part per split folder. A folder around the class folders of a split is skipped.

    A split other than the training split may hold a single class, or images without a label. Its
    folders are therefore class folders only if the training split has a class of that name.
    """
    parts: list[Part] = []
    classes: set[str] = set()
    for folder, split in sorted(splits.items(), key=lambda item: item[1] != TRAIN):
        inner = tree.below(folder)
        home = PurePosixPath(common_folder(inner.images))
        above = [k for k, name in enumerate(home.parts) if normalized(printable(name)) in classes]
        if above:
            home = PurePosixPath(*home.parts[: above[0]])
        elif split == TRAIN and len(_by_first_folder(inner.below(_text(home)).images)) < 2:
            home = home.parent  # a single class
        part = _class_part(inner.below(_text(home)), split)
        parts.append(part)
        if split == TRAIN:
            classes |= {normalized(name) for name in part.names if name is not None}
    return parts


def _text(folder: PurePosixPath) -> str:
    return "" if folder == PurePosixPath() else str(folder)


def _class_part(tree: FileTree, split: str | None) -> Part:
    """The images of class folders; in a split folder, images outside of them have no label."""
    files = [file for file in tree.images if split is not None or "/" in file]
    names = [printable(file.partition("/")[0]) if "/" in file else None for file in files]
    store = FileStore(tree.root, tuple(files))
    return Part(f"{printable(str(tree.root))}/", split, store, range(len(files)), names)


def _reject_other_layouts(tree: FileTree, groups: dict[str, list[str]]) -> None:
    """Raises :class:`InputError` if the root is one level too low, or not in a known layout."""
    root, where = tree.root, printable(str(tree.root))
    folders = [name for name in groups if name]
    if any(_are_splits_of_one_set(root.name, other.name) for other in _folders_in(root.parent)):
        raise InputError(
            f"data: {where} is one split of a data set; give the folder {root.parent} that holds "
            "all splits"
        )
    if not folders:
        siblings = len(_folders_in(root.parent))
        hint = f"; give {printable(str(root.parent))}" if siblings > 1 else ""
        raise InputError(
            f"data: {where} holds images of a single class, but two or more class folders are "
            f"needed{hint}"
        )
    inner = {name: {f.split("/")[1] for f in groups[name] if f.count("/") >= 2} for name in folders}
    if all(TRAIN in {split_of(name) for name in inner[folder]} for folder in folders):
        raise InputError(
            f"data: {where} has split folders inside of other folders ({folders[0]}/train); give "
            "one of them if each is a data set, or sort the images as train/CLASS/ and test/CLASS/"
        )


def _are_splits_of_one_set(first: str, second: str) -> bool:
    """Whether two names differ only in their split, such as ``cars_train`` and ``cars_test``."""
    splits = split_of(first), split_of(second)
    if None in splits or splits[0] == splits[1]:
        return False
    words = [
        [word for word in re.split(r"[^a-z0-9]+", name.casefold()) if split_of(word) is None]
        for name in (first, second)
    ]
    return words[0] == words[1]


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError:
        return []


# ---- Lists -------------------------------------------------------------------------------------


def read_lists(tree: FileTree, lists: Sequence[str]) -> Table | None:
    """CSV files with a path, a label and possibly a split in each line.

    The split is a column, or the name of the file or its folder. A path is relative to the list or
    to the root, or a file name that occurs once, with or without extension.

    Returns:
        ``None`` if no file has columns of paths and labels.
    """
    rows: list[tuple[str, str | None, str | None]] = []  # file, label, split
    for file in lists:
        if not _NO_LABELS.search(file):
            rows += _read_list(tree, file)
    if not rows:
        return None
    store = FileStore(tree.root, tuple(file for file, _, _ in rows))
    parts = []
    for split in dict.fromkeys(split for _, _, split in rows):
        chosen = [number for number, row in enumerate(rows) if row[2] == split]
        title = f"{split or 'list'} in {printable(str(tree.root))}"
        parts.append(Part(title, split, store, chosen, [rows[number][1] for number in chosen]))
    unlisted = len(set(tree.images) - {file for file, _, _ in rows})
    notes = (f"{counted(unlisted, 'image')} left out that no CSV list names",) if unlisted else ()
    return Table(str(tree.root), parts, None, notes)


def _read_list(tree: FileTree, file: str) -> list[tuple[str, str | None, str | None]]:
    where = printable(str(tree.root / file))
    try:
        with open(tree.root / file, encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            delimiter = max(",;\t", key=head.count)
            lines = list(csv.DictReader(stream, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"data: {where} is not a readable CSV file in UTF-8 ({error})") from None
    columns = {str(name).strip().casefold(): name for name in (lines[0] if lines else {})}
    path = _first(columns, _PATH_COLUMNS)
    label = _first(columns, _LABEL_COLUMNS)
    split = _first(columns, _SPLIT_COLUMNS)
    if path is None or label is None:
        return []
    default = split_of(os.path.basename(file)) or split_of(os.path.dirname(file))
    rows = []
    missing: list[str] = []
    for line in lines:
        name = (line[label] or "").strip()
        part = _split_value(line[split], where) if split else default
        found = _find_image(tree, os.path.dirname(file), (line[path] or "").strip())
        if found is None:
            missing.append(str(line[path]))
        else:
            rows.append((found, printable(name) or None, part))
    if missing:
        raise InputError(
            f"data: {where} lists {counted(len(missing), 'image')} that cannot be found "
            f"({listed([printable(name) for name in missing], 3)}); correct the list"
        )
    return rows


def _first(columns: dict[str, str], names: Sequence[str]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _split_value(value: str | None, where: str) -> str | None:
    split = split_of(value or "")
    if split is None:
        raise InputError(
            f"data: {where} has the split {value!r}; use train, val or test in every line"
        )
    return split


def _find_image(tree: FileTree, folder: str, path: str) -> str | None:
    """The image that a list names, relative to the root of the tree."""
    path = path.replace("\\", "/")
    for candidate in (os.path.join(folder, path), path):
        normal = os.path.normpath(candidate)
        if (tree.root / normal).is_file():
            return normal
    named = tree.by_name.get(os.path.basename(path), [])
    ending = [file for file in named if f"/{file}".endswith(f"/{path}")] or named
    return ending[0] if len(ending) == 1 else None
