"""The layouts images lie in on disk, and the Hub: from a place to stored images and labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ccloss.data.catalog import Source
from ccloss.data.images import ArrayStore, FileStore, RowStore, Store
from ccloss.errors import InputError

if TYPE_CHECKING:
    import datasets

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_TEST_FOLDERS = ("test", "val")


class Split(NamedTuple):
    """N stored images and their labels, (N,) int64, not yet checked."""

    store: Store
    labels: Tensor


class Splits(NamedTuple):
    """A data set as it is stored; ``test`` is ``None`` if the layout has one split only."""

    train: Split
    test: Split | None
    classes: tuple[str, ...]


def accepted_layouts(source: Source) -> str:
    """The local layouts of a data set, in words for an error message."""
    layouts = (
        f"{source.name}/ (or the folder itself) with train-*.parquet and test-*.parquet, "
        "or train/<class>/ and test/<class>/ image folders"
    )
    if source.name == "cars196":
        layouts += ", or devkit/cars_train_annos.mat beside cars_train/ and cars_test/"
    return layouts


def read_local(source: Source, data_root: Path) -> Splits:
    """Finds a named data set under ``data_root``, in whichever layout it lies.

    Raises:
        InputError: nothing there, or a part of what is there is missing or unreadable.
    """
    named = data_root / source.name
    home = named if named.is_dir() else data_root
    for folder in (home, *_subfolders(home)):
        if list(folder.glob("train-*.parquet")):
            return _read_parquet(source, folder)
    if source.name == "cars196" and _find_file(home, "cars_train_annos.mat"):
        return _read_cars_devkit(home)
    if (home / "train").is_dir():
        return read_class_folders(home)
    raise InputError(
        f"data_root: no {source.name} in {data_root}; looked for {accepted_layouts(source)}"
    )


# ---- Parquet as the Hub lays it out, and the Hub itself ----------------------------------------


def _read_parquet(source: Source, folder: Path) -> Splits:
    train = _open_parquet(folder, "train")
    test = _open_parquet(folder, "test")
    return _from_rows(source, train, test)


def read_hub(source: Source) -> Splits:
    """Downloads a named data set from the Hugging Face Hub, or takes it from the Hub's cache.

    Raises:
        InputError: the Hub cannot be reached; says how to use a local copy.
    """
    import datasets

    try:
        parts = [datasets.load_dataset(source.hub, split=split) for split in ("train", "test")]
    except Exception as error:  # whatever went wrong, the way out is the same
        raise InputError(
            f"data_root was not given and {source.hub} cannot be had from the Hub "
            f"({type(error).__name__}); pass --data-root with a folder that holds "
            f"{accepted_layouts(source)}"
        ) from error
    train, test = (
        (rows, ((f"{source.hub}, {split} split", len(rows)),))
        for rows, split in zip(parts, ("train", "test"), strict=True)
    )
    return _from_rows(source, train, test)


_Rows = tuple["datasets.Dataset", tuple[tuple[str, int], ...]]  # rows, and (shard, its rows)


def _open_parquet(folder: Path, split: str) -> _Rows:
    """All shards of a split as one memory-mapped table, which `datasets` keeps in its cache."""
    import datasets
    from pyarrow import ArrowException, parquet

    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise InputError(f"data_root: {folder} has no {split}-*.parquet; add the {split} split")
    shards = []
    for file in files:
        try:
            shards.append((str(file), parquet.read_metadata(file).num_rows))
        except (ArrowException, OSError) as error:
            raise InputError(f"data_root: {file} is no whole parquet file; restore it") from error
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        rows = datasets.Dataset.from_parquet([str(file) for file in files])
    except Exception as error:
        raise InputError(
            f"data_root: the {split} parquet files in {folder} cannot be read together "
            f"({type(error).__name__}); restore them, or give HF_DATASETS_CACHE a roomy folder"
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    return rows, tuple(shards)


def _from_rows(source: Source, train: _Rows, test: _Rows) -> Splits:
    label = _column(train[0], source.label_columns, train[1][0][0])
    names = getattr(train[0].features[label], "names", None)
    classes = names or [str(number) for number in range(source.classes)]
    return Splits(_split(source, *train), _split(source, *test), tuple(classes))


def _split(source: Source, rows: "datasets.Dataset", shards: tuple[tuple[str, int], ...]) -> Split:
    import datasets

    place = shards[0][0]
    image = _column(rows, source.image_columns, place)
    label = _column(rows, source.label_columns, place)
    if not isinstance(rows.features[image], datasets.Image | dict):
        raise InputError(f"{place}: column {image} holds no encoded images; restore the data set")
    labels = rows.data.column(label)
    if labels.null_count or not str(labels.type).startswith(("int", "uint")):
        raise InputError(
            f"{place}: column {label} must hold whole numbers, got {labels.type} with "
            f"{labels.null_count} missing; use labels from 0"
        )
    store = RowStore(rows, image, shards)
    return Split(store, torch.tensor(labels.to_numpy(), dtype=torch.int64))


def _column(rows: "datasets.Dataset", candidates: Sequence[str], place: str) -> str:
    for name in candidates:
        if name in rows.column_names:
            return name
    raise InputError(
        f"{place}: needs a column {' or '.join(candidates)}, has {', '.join(rows.column_names)}; "
        "rename it"
    )


# ---- One folder a class ------------------------------------------------------------------------


def read_class_folders(root: Path) -> Splits:
    """``train/<class>/`` with ``test/<class>/`` or ``val/<class>/``, or ``<class>/`` alone.

    Class names are sorted as text, and so are the files within a class; label k is the k-th class.
    A root with class folders alone is returned without a test split.

    Raises:
        InputError: no images, an empty class, a train folder without a test folder, or classes
            that differ between the two.
    """
    if not root.is_dir():
        raise InputError(f"folder: {root} is no folder; give one that holds class folders")
    if not (root / "train").is_dir():
        classes, split = _read_classes(root)
        return Splits(split, None, classes)
    for name in _TEST_FOLDERS:
        if (root / name).is_dir():
            break
    else:
        raise InputError(f"folder: {root} has train/ but neither test/ nor val/; add one")
    classes, train = _read_classes(root / "train")
    test_classes, test = _read_classes(root / name)
    if classes != test_classes:
        raise InputError(
            f"folder: the classes of {root} differ: only in train/: "
            f"{_listed(set(classes) - set(test_classes))}; only in {name}/: "
            f"{_listed(set(test_classes) - set(classes))}; give both the same class folders"
        )
    return Splits(train, test, classes)


def _read_classes(folder: Path) -> tuple[tuple[str, ...], Split]:
    files: list[Path] = []
    labels: list[int] = []
    folders = _subfolders(folder)
    for label, class_folder in enumerate(folders):
        found = sorted(p for p in class_folder.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise InputError(f"folder: {class_folder} holds no images; fill or remove it")
        files += found
        labels += [label] * len(found)
    if not files:
        raise InputError(f"folder: {folder} holds no class folders; put images in <class>/ folders")
    split = Split(FileStore(tuple(files)), torch.tensor(labels))
    return tuple(path.name for path in folders), split


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listed(names: set[str], most: int = 5) -> str:
    shown = ", ".join(sorted(names)[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# ---- The Stanford Cars devkit ------------------------------------------------------------------


def _read_cars_devkit(home: Path) -> Splits:
    names = _load_mat(home, "cars_meta.mat", "class_names")
    return Splits(
        _read_annotations(home, "cars_train_annos.mat", home / "cars_train"),
        _read_annotations(home, "cars_test_annos_withlabels.mat", home / "cars_test"),
        tuple(str(name) for name in names),
    )


def _read_annotations(home: Path, file: str, folder: Path) -> Split:
    if not folder.is_dir():
        raise InputError(f"data_root: {home} has no {folder.name}/; unpack the images there")
    annotations = _load_mat(home, file, "annotations")
    fields = annotations.dtype.names or ()
    if not {"fname", "class"} <= set(fields):
        raise InputError(f"data_root: {file} in {home} needs the fields fname and class")
    files = tuple(folder / str(name) for name in annotations["fname"])
    labels = [int(label) - 1 for label in annotations["class"]]  # the devkit counts from 1
    return Split(FileStore(files), torch.tensor(labels))


def _load_mat(home: Path, file: str, variable: str) -> Any:
    """A variable of a MATLAB file, as a vector."""
    import numpy as np
    from scipy.io import loadmat

    path = _find_file(home, file)
    if path is None:
        raise InputError(f"data_root: {home} has no devkit/{file} nor {file}; add it")
    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[variable])
    except Exception as error:  # a broken file makes the reader raise nearly anything
        raise InputError(f"data_root: {path} holds no readable {variable}; restore it") from error


def _find_file(home: Path, file: str) -> Path | None:
    for path in (home / "devkit" / file, home / file):
        if path.is_file():
            return path
    return None


# ---- The embedded digits -----------------------------------------------------------------------


def read_digits() -> Splits:
    """scikit-learn's 1,797 digits of 8x8 pixels, 0..16 scaled to 0..255; one split."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    classes = tuple(str(name) for name in digits.target_names)
    return Splits(Split(ArrayStore("digits", arrays), labels), None, classes)
