"""Readers of files that hold many images: idx, CIFAR pickles, parquet, Arrow, and the Hub.

The annotations of Stanford Cars, MATLAB files beside single images, are read here too.
"""

import gzip
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ccloss.data.names import printable
from ccloss.data.stores import ArrayStore, FileStore, Pixels, RowStore
from ccloss.data.tables import TEST, TRAIN, Part, Table, split_of
from ccloss.data.tree import FileTree
from ccloss.errors import InputError

if TYPE_CHECKING:
    import datasets

_IMAGE_COLUMNS = ("image", "img", "pixel_values", "images", "picture", "file_name", "path")
_LABEL_COLUMNS = ("fine_label", "label", "labels", "class", "target", "category")


# ---- idx files of MNIST ------------------------------------------------------------------------


def read_idx(tree: FileTree, found: Sequence[str], classes: Sequence[str]) -> Table:
    """The four idx files of MNIST and its relatives, plain or compressed."""
    home = _only_folder(tree, found)
    parts = [
        _idx_part(tree.root / home, split, prefix, classes)
        for split, prefix in ((TRAIN, "train"), (TEST, "t10k"))
    ]
    return Table(str(tree.root / home), parts, classes or None)


def _idx_part(folder: Path, split: str, prefix: str, classes: Sequence[str]) -> Part:
    file, images = _read_idx(folder, f"{prefix}-images", 3)
    label_file, labels = _read_idx(folder, f"{prefix}-labels", 1)
    if len(images) != len(labels):
        raise InputError(
            f"data: {file} has {len(images):,} images and {label_file} {len(labels):,} labels; "
            "restore both files"
        )
    names = _named(labels.tolist(), classes, lambda row: f"{label_file}, row {row}")
    return Part(str(file), split, ArrayStore(str(file), images), range(len(images)), names)


def _read_idx(folder: Path, start: str, dimensions: int) -> tuple[Path, Pixels]:
    """(file, array) of the file such as ``train-images-idx3-ubyte.gz``."""
    names = [f"{start}{dot}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    for file in (folder / name for name in names):
        if file.is_file():
            break
    else:
        raise InputError(f"data: {folder} has no {names[0]}[.gz]; add it")
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
        assert data[:4] == bytes([0, 0, 8, dimensions])
        shape = np.frombuffer(data, ">i4", dimensions, offset=4)
        return file, np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, AssertionError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise InputError(f"data: {file} is not a complete idx file; restore it") from error


# ---- CIFAR pickles -----------------------------------------------------------------------------

_CIFAR_FILES = {  # marker: (training files, test file, meta file, label key, class name key)
    "train": (("train",), "test", "meta", "fine_labels", "fine_label_names"),
    "data_batch_1": (
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
}


def read_cifar(tree: FileTree, found: Sequence[str]) -> Table:
    """The Python version of CIFAR-10 or CIFAR-100."""
    home = tree.root / _only_folder(tree, found)
    train, test, meta, label_key, name_key = _CIFAR_FILES[os.path.basename(found[0])]
    names = _unpickle(home / meta)[name_key]
    classes = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    parts = [_cifar_part(home, TRAIN, train, label_key, classes)]
    parts.append(_cifar_part(home, TEST, (test,), label_key, classes))
    return Table(str(home), parts, classes)


def _cifar_part(
    home: Path, split: str, files: Sequence[str], key: str, classes: Sequence[str]
) -> Part:
    batches = [_unpickle(home / file) for file in files]
    try:
        arrays = [np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32) for batch in batches]
        labels = [int(label) for batch in batches for label in batch[key]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"data: {home / files[0]} is not a CIFAR file; restore it") from error
    images = np.ascontiguousarray(np.concatenate(arrays).transpose(0, 2, 3, 1))
    title = str(home / files[0])
    names = _named(labels, classes, lambda row: f"{title}, row {row}")
    return Part(title, split, ArrayStore(title, images), range(len(images)), names)


class _ArrayUnpickler(pickle.Unpickler):
    """Loads arrays and plain types only: a pickle of unknown origin could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
        if (module.split(".")[0] == "numpy" and name in allowed) or (
            (module, name) == ("_codecs", "encode")
        ):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            loaded = _ArrayUnpickler(stream, encoding="latin1").load()
        return {k.decode() if isinstance(k, bytes) else k: v for k, v in loaded.items()}
    except FileNotFoundError:
        raise InputError(f"data: {file} is missing; add it") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise InputError(f"data: {file} is not a readable CIFAR file; restore it") from error


# ---- Stanford Cars -----------------------------------------------------------------------------


def read_cars_devkit(tree: FileTree, found: Sequence[str]) -> Table:
    """``cars_train_annos.mat`` and ``cars_test_annos_withlabels.mat`` of the devkit."""
    classes = _mat_names(_load_mat(tree, "cars_meta.mat", "class_names"))
    parts = []
    for split, file in (
        (TRAIN, "cars_train_annos.mat"),
        (TEST, "cars_test_annos_withlabels.mat"),
    ):
        annotations = _load_mat(tree, file, "annotations")
        names, labels = _mat_fields(file, annotations, "fname", "class")
        parts.append(_cars_part(tree, split, f"cars_{split}", names, labels, classes))
    return Table(str(tree.root), parts, classes)


def read_cars_annotations(tree: FileTree, found: Sequence[str]) -> Table:
    """``cars_annos.mat`` with the images in ``car_ims/``."""
    classes = _mat_names(_load_mat(tree, "cars_annos.mat", "class_names"))
    annotations = _load_mat(tree, "cars_annos.mat", "annotations")
    fields = ("relative_im_path", "class", "test")
    paths, labels, tests = _mat_fields("cars_annos.mat", annotations, *fields)
    parts = []
    for split, wanted in ((TRAIN, 0), (TEST, 1)):
        chosen = [k for k, is_test in enumerate(tests) if int(is_test) == wanted]
        names = [os.path.basename(str(paths[k])) for k in chosen]
        part_labels = [labels[k] for k in chosen]
        parts.append(_cars_part(tree, split, "car_ims", names, part_labels, classes))
    return Table(str(tree.root), parts, classes)


def _cars_part(
    tree: FileTree,
    split: str,
    folder: str,
    names: Sequence[Any],
    labels: Sequence[Any],
    classes: Sequence[str],
) -> Part:
    files = {
        os.path.basename(file): file for file in tree.images if f"/{folder}/" in f"/{file}".lower()
    }
    if not files:
        raise InputError(f"data: {tree.root} has no {folder}/; unpack the images there")
    paths = tuple(files.get(str(name), f"{folder}/{name}") for name in names)
    store = FileStore(tree.root, paths)
    zero_based = [int(label) - 1 for label in labels]  # the annotations count from 1
    for row, label in enumerate(zero_based):
        if not 0 <= label < len(classes):
            raise InputError(
                f"data: {store.location(row)}: class {label + 1} is outside 1..{len(classes)}; "
                "correct the annotations"
            )
    title = str(tree.root / folder)
    return Part(title, split, store, range(len(paths)), [classes[k] for k in zero_based])


def _mat_names(names: Any) -> list[str]:
    return [str(name) for name in names]


def _mat_fields(file: str, annotations: Any, *fields: str) -> list[Any]:
    missing = set(fields) - set(annotations.dtype.names or ())
    if missing:
        raise InputError(f"data: {file} needs the fields {' and '.join(sorted(missing))}")
    return [annotations[field] for field in fields]


def _load_mat(tree: FileTree, file: str, variable: str) -> Any:
    """A variable of a MATLAB file, as a vector."""
    from scipy.io import loadmat

    found = tree.matching(rf"(^|/){re.escape(file)}$")
    if not found:
        raise InputError(f"data: {tree.root} has no {file}; add it")
    path = tree.root / found[0]
    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True)[variable])
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        raise InputError(f"data: {path} holds no readable {variable}; restore it") from error


# ---- Parquet, Arrow and the Hub ----------------------------------------------------------------


def read_parquet(tree: FileTree, found: Sequence[str], classes: Sequence[str]) -> Table:
    """Parquet files; the split is in the name of the file or of its folder."""
    import datasets
    from pyarrow import ArrowException, parquet

    by_split: dict[str | None, list[Path]] = {}
    for file in found:
        split = split_of(os.path.basename(file)) or _last_split(os.path.dirname(file))
        by_split.setdefault(split, []).append(tree.root / file)
    parts, declared = [], None
    for split, files in by_split.items():
        shards = []
        for path in files:
            try:
                shards.append((str(path), parquet.read_metadata(path).num_rows))
            except (ArrowException, OSError) as error:
                raise InputError(
                    f"data: {path} is not a complete parquet file; restore it"
                ) from error
        with _quiet_datasets():
            try:
                rows = datasets.Dataset.from_parquet([str(path) for path in files])
            except Exception as error:  # the library raises many types
                raise InputError(
                    f"data: the parquet files of the split {split or 'train'} in {tree.root} "
                    f"cannot be read together ({_first_line(error)}); restore them, or set "
                    "HF_DATASETS_CACHE to a folder with free space"
                ) from error
        store = _row_store(rows, tuple(shards), tree.root, tuple(files))
        part, names = _row_part(store, split, classes)
        parts.append(part)
        declared = names if split in (TRAIN, None) else declared
    return Table(str(tree.root), parts, declared)


def _last_split(folder: str) -> str | None:
    return next((s for name in reversed(folder.split("/")) if (s := split_of(name))), None)


def read_saved(tree: FileTree, found: Sequence[str], classes: Sequence[str]) -> Table:
    """What ``datasets.Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote."""
    import datasets

    home = tree.root / os.path.dirname(min(found, key=lambda file: file.count("/")))
    files = tuple(tree.root / file for file in tree.matching(r"\.arrow$"))
    try:
        loaded = datasets.load_from_disk(str(home))
    except Exception as error:
        raise InputError(
            f"data: {home} cannot be read by datasets ({_first_line(error)}); save it again"
        ) from error
    splits = loaded if isinstance(loaded, dict) else {TRAIN: loaded}
    return _from_dict(str(home), splits, classes, files, home)


def read_hub(name: str, revision: str | None, classes: Sequence[str] = ()) -> Table:
    """A data set of the Hugging Face Hub, downloaded or from its cache.

    Args:
        name: ``OWNER/NAME``.
        revision: Commit or tag; ``None`` for the newest commit, which is looked up and recorded.
        classes: Class names of integer labels that have none.

    Raises:
        InputError: The Hub cannot be reached, or has no such data set.
    """
    import datasets

    revision = revision or _newest_revision(name)
    with _quiet_datasets():
        try:
            loaded = datasets.load_dataset(name, revision=revision)
        except Exception as error:  # whatever went wrong, the remedy is the same
            raise InputError(
                f"data: {name} cannot be loaded from the Hugging Face Hub "
                f"({_first_line(error)}); check the name and the network, or use --data-root or "
                "folder:PATH with a local copy"
            ) from error
    table = _from_dict(f"{name} on the Hub", loaded, classes, (), None)
    return table._replace(revision=revision)


def _newest_revision(name: str) -> str | None:
    """The newest commit of a Hub data set, or ``None`` without a network."""
    try:
        from huggingface_hub import HfApi

        return HfApi().dataset_info(name, timeout=10).sha
    except Exception:  # `load_dataset` uses its cache, or reports the reason
        return None


def _from_dict(
    location: str,
    splits: Mapping[str, "datasets.Dataset"],
    classes: Sequence[str],
    files: tuple[Path, ...],
    root: Path | None,
) -> Table:
    parts, declared = [], None
    notes: list[str] = []
    for title, rows in splits.items():
        split = split_of(title)
        if split is None and len(splits) > 1:
            notes.append(f"the split {title} of {location} left out")
            continue
        store = _row_store(rows, ((f"{location}, split {title}", len(rows)),), root, files)
        part, names = _row_part(store, split, classes)
        parts.append(part)
        declared = names if split in (TRAIN, None) else declared
    return Table(location, parts, declared, tuple(notes))


def _row_store(
    rows: "datasets.Dataset",
    shards: tuple[tuple[str, int], ...],
    root: Path | None,
    files: tuple[Path, ...],
) -> RowStore:
    import datasets

    if getattr(rows, "_indices", None) is not None:  # rows were selected, the table has them all
        rows = rows.flatten_indices()
    column = _column(rows, _IMAGE_COLUMNS, datasets.Image, "images", shards[0][0])
    kind = str(rows.data.column(column).type)
    if not kind.startswith(("struct", "binary", "large_binary", "string", "large_string")):
        raise InputError(
            f"data: {shards[0][0]}: column {column} holds {kind} and no encoded images; store the "
            "bytes of image files"
        )
    return RowStore(rows, column, shards, root, files)


def _row_part(
    store: RowStore, split: str | None, classes: Sequence[str]
) -> tuple[Part, Sequence[str] | None]:
    """The part, and the class names that the label column declares."""
    import datasets

    rows, title = store.rows, store.shards[0][0]
    column = _column(rows, _LABEL_COLUMNS, datasets.ClassLabel, "labels", title)
    values = rows.data.column(column).to_pylist()
    kind = str(rows.data.column(column).type)
    declared: Sequence[str] | None = getattr(rows.features[column], "names", None)
    if kind.startswith(("int", "uint")):
        known = declared or classes
        if not known:
            numbers = [None if value is None or value < 0 else str(value) for value in values]
            return Part(title, split, store, range(len(rows)), numbers), None
        names = _named(values, known, store.location)
    elif all(value is None or isinstance(value, str) for value in values):
        names = [printable(value) if value else None for value in values]
    else:
        raise InputError(
            f"data: {title}: column {column} must hold integers or text, got {kind}; convert it"
        )
    return Part(title, split, store, range(len(rows)), names), declared


def _column(
    rows: "datasets.Dataset", names: Sequence[str], feature: type, what: str, title: str
) -> str:
    """The column with a usual name, or the only one of the feature type."""
    for name in names:
        if name in rows.column_names:
            return name
    typed = [str(name) for name, kind in rows.features.items() if isinstance(kind, feature)]
    if len(typed) == 1:
        return typed[0]
    raise InputError(
        f"data: {title}: no column of {what} among {', '.join(rows.column_names)}; rename one to "
        f"{names[0]}"
    )


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    import datasets

    enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if enabled:
            datasets.enable_progress_bars()


# ---- Shared ------------------------------------------------------------------------------------


def _named(labels: Sequence[int | None], classes: Sequence[str], location: Any) -> list[Any]:
    """Class names of integer labels; without class names, the numbers.

    A negative label, as the Hub uses it, is none.
    """
    if not classes:
        return [str(label) for label in labels]
    for row, label in enumerate(labels):
        if label is not None and label >= len(classes):
            raise InputError(
                f"data: {location(row)}: label {label} is outside 0..{len(classes) - 1}; correct it"
            )
    return [None if label is None or label < 0 else classes[label] for label in labels]


def _only_folder(tree: FileTree, found: Sequence[str]) -> str:
    folders = sorted({os.path.dirname(file) for file in found})
    if len(folders) > 1:
        names = " and ".join(printable(str(tree.root / folder)) for folder in folders[:3])
        raise InputError(f"data: several data sets in {tree.root}; give one of {names}")
    return folders[0]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def read_digits() -> Table:
    """scikit-learn's 1,797 digits of 8x8 pixels, 0..16 scaled to 0..255; one split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = [str(label) for label in digits.target]
    part = Part("digits", None, ArrayStore("digits", arrays), range(len(arrays)), names)
    return Table("scikit-learn", [part], [str(name) for name in digits.target_names])
