"""Every layout of a data set, and what is left out of it, on small generated files."""

import gzip
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_data import encoded, mnist_picture, picture, png, save_tree, write_annotations

from ccloss.data.catalog import resolve_data_name
from ccloss.data.images import fingerprint
from ccloss.data.names import printable
from ccloss.data.sources import Stored, load, read
from ccloss.data.verification import verify
from ccloss.errors import InputError

PICTURE = picture(0, (6, 6))


def folder(root: Path, **options: Any) -> Stored:
    return read(resolve_data_name(str(root)), **options)


def names(stored: Stored, split: str = "train") -> list[str]:
    """``class/file`` of each image, sorted."""
    part = getattr(stored, split)
    return sorted(
        f"{stored.classes[label]}/{Path(part.store.location(row)).name}"
        for row, label in zip(part.rows.tolist(), part.labels.tolist(), strict=True)
    )


def tree(root: Path, *files: str) -> Path:
    return save_tree(root, dict.fromkeys(files, PICTURE))


TRAIN = ["a/1.png", "a/2.png", "b/3.png"]
TEST = ["a/8.png", "b/9.png"]


@pytest.mark.parametrize("train", ["train", "Training", "cars_train", "TRAIN"])
@pytest.mark.parametrize(
    "test", ["test", "Testing", "val", "VALID", "validation", "dev", "eval", "cars_test"]
)
def test_split_folders_in_any_spelling(tmp_path: Path, train: str, test: str) -> None:
    tree(tmp_path, *(f"{train}/{f}" for f in TRAIN), *(f"{test}/{f}" for f in TEST))
    found = folder(tmp_path)
    assert found.classes == ("a", "b")
    assert (names(found), names(found, "test")) == (TRAIN, TEST)


@pytest.mark.parametrize(
    ("prefix", "train", "test"),
    [
        ("flowers/", "train", "test"),  # the root is one level too high
        ("", "cars_train/cars_train", "cars_test/cars_test"),
        ("car_data/car_data/", "train", "test"),
        ("archive/data/", "training/images", "validation/images"),
    ],
)
def test_folders_around_a_layout_are_skipped(
    tmp_path: Path, prefix: str, train: str, test: str
) -> None:
    tree(tmp_path, *(f"{prefix}{train}/{f}" for f in TRAIN), *(f"{prefix}{test}/{f}" for f in TEST))
    found = folder(tmp_path)
    assert (names(found), names(found, "test")) == (TRAIN, TEST)
    assert any("are read from" in note for note in found.notes) == bool(prefix)


def test_a_root_one_level_too_low_is_rejected(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train/{f}" for f in TRAIN), *(f"test/{f}" for f in TEST))
    with pytest.raises(InputError, match="is one split of a data set; give the folder"):
        folder(tmp_path / "train")
    with pytest.raises(InputError, match=r"images of a single class, .*; give "):
        folder(tmp_path / "train" / "a")


def test_a_flat_unlabelled_test_folder_gives_way_to_val(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train/{f}" for f in TRAIN), *(f"val/{f}" for f in TEST), "test/x.png")
    found = folder(tmp_path)
    assert names(found, "test") == TEST
    assert any("1 image without labels and is not used" in note for note in found.notes)
    assert any("the test images are those of" in note and "val/" in note for note in found.notes)


def test_an_unused_validation_split_is_reported(tmp_path: Path) -> None:
    splits = [f"{split}/{f}" for split in ("train", "val", "test") for f in TRAIN]
    notes = folder(tree(tmp_path, *splits)).notes
    assert any("val/ (3 images) is not used" in note for note in notes)


def test_nested_images_belong_to_their_class(tmp_path: Path) -> None:
    tree(tmp_path, "train/a/1.png", "train/a/deep/er/2.png", "train/b/x/3.png", "test/a/8.png")
    tree(tmp_path, "test/b/y/9.png")
    found = folder(tmp_path)
    assert (names(found), names(found, "test")) == (TRAIN, TEST)


@pytest.mark.parametrize("name", ["[b]", "b\n", os.fsdecode(b"\xe9"), "猫"])
def test_a_test_split_of_one_class_of_any_name(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "train/a/1.png", f"train/{name}/2.png", f"test/{name}/3.png")
    found = folder(tmp_path, allow_missing_classes=True)
    shown = printable(name)
    assert names(found) == sorted(["a/1.png", f"{shown}/2.png"])
    assert names(found, "test") == [f"{shown}/3.png"]


def test_other_files_are_counted_and_system_files_ignored(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train/{f}" for f in TRAIN), *(f"test/{f}" for f in TEST))
    ignored = ["._1.png", "Thumbs.db", "__MACOSX/1.png", ".ipynb_checkpoints/1.png"]
    save_tree(tmp_path / "train/a", dict.fromkeys([*ignored, "1.heic", "2.heic", "r.txt"], b"x"))
    tree(tmp_path, "train/stray.png")
    found = folder(tmp_path)
    assert names(found) == TRAIN
    assert "3 files with other extensions left out: .heic 2, .txt 1" in found.notes
    assert any("1 image without a label left out" in note for note in found.notes)


@pytest.mark.parametrize("kind", [".jfif", ".avif", ".jp2", ".tga", ".mpo", ".webp", ".JPG"])
def test_file_extensions(tmp_path: Path, kind: str) -> None:
    image = picture(0, (20, 20), "RGB")
    options = {"format": "JPEG"} if kind in (".jfif", ".JPG") else {}
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            image.save(tmp_path / split / name / f"1{kind}", **options)
    found = load(str(tmp_path), image_size=20)
    assert (len(found.train), len(found.test), found.channels) == (2, 2, 3)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}/{k}.png" for name in ("bus", "train") for k in range(40)))
    found = folder(tmp_path)
    assert found.classes == ("bus", "train")
    assert len(found.train.rows) + len(found.test.rows) == 80


def test_a_class_without_test_images_is_found_even_if_only_one_has_them(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train/{f}" for f in TRAIN), "test/a/8.png")
    with pytest.raises(InputError, match=r"test split has no images of 1 class \(b\); .*--allow-"):
        folder(tmp_path)
    found = folder(tmp_path, allow_missing_classes=True)
    assert (names(found), names(found, "test")) == (TRAIN, ["a/8.png"])


def test_a_single_class_is_rejected(tmp_path: Path) -> None:
    tree(tmp_path, "train/a/1.png", "test/a/2.png")
    with pytest.raises(InputError, match=r"has 1 class \(a\), but at least 2 are needed"):
        folder(tmp_path)


def test_splits_inside_of_classes_are_rejected(tmp_path: Path) -> None:
    tree(tmp_path, "a/train/1.png", "a/test/2.png", "b/train/3.png", "b/test/4.png")
    with pytest.raises(InputError, match=r"split folders inside of other folders \(a/train\)"):
        folder(tmp_path)


def test_numeric_classes_are_in_natural_order(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{split}/{k}/1.png" for split in ("train", "test") for k in (10, 2, 1)))
    assert folder(tmp_path).classes == ("1", "2", "10")


def test_links_are_followed_once(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "1.png", "2.png")
    tree(tmp_path / "set", "train/b/3.png", "test/a/8.png", "test/b/9.png")
    (tmp_path / "set/train/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/train/b/up").symlink_to(tmp_path / "set")
    assert names(folder(tmp_path / "set")) == TRAIN


def test_a_link_to_another_split_is_followed(tmp_path: Path) -> None:
    tree(tmp_path / "set", *(f"train/{file}" for file in TRAIN))
    (tmp_path / "set/val").symlink_to(tmp_path / "set/train")
    found = folder(tmp_path / "set")
    assert names(found) == names(found, "test") == TRAIN


def test_missing_files_are_reported_with_the_expected_layouts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no images .*it is empty.*train/CLASS/ and test/CLASS/"):
        folder(tmp_path)
    save_tree(tmp_path, {"test/a/1.png": PICTURE, "val/a/1.png": PICTURE, "x.txt": "x"})
    with pytest.raises(InputError, match=r"no images in .*x.txt"):
        folder(save_tree(tmp_path / "other", {"x.txt": "x"}))


# ---- Lists -------------------------------------------------------------------------------------

LISTS = {
    "a column for the split": {"list.csv": "path,label,split\n{train}{test}", "split": True},
    "a list per split": {"train.csv": "file;class\n{train}", "val.csv": "file;class\n{test}"},
    "metadata.csv": {
        "train/metadata.csv": "file_name,label\n{train}",
        "test/metadata.csv": "file_name,label\n{test}",
    },
}


@pytest.mark.parametrize("kind", LISTS)
def test_csv_lists(tmp_path: Path, kind: str) -> None:
    layout: dict[str, Any] = dict(LISTS[kind])
    has_column = layout.pop("split", False)
    rows = {"train": ("1.png", "2.png", "3.png"), "test": ("8.png", "9.png")}
    labels = {"1.png": "a", "2.png": "a", "3.png": "b", "8.png": "a", "9.png": "b"}
    for split, files in rows.items():
        for file in files:
            home = f"{split}/" if kind == "metadata.csv" else "images/"
            tree(tmp_path, home + file)
    for file, text in layout.items():
        mark = ";" if ";" in text else ","
        lines = {
            split: "".join(
                mark.join([f, labels[f], *([split] if has_column else [])]) + "\n" for f in files
            )
            for split, files in rows.items()
        }
        save_tree(tmp_path, {file: text.format(**lines)})
    tree(tmp_path, "images/unlisted.png")
    save_tree(tmp_path, {"sample_submission.csv": "id,label\n1,b\n"})
    found = folder(tmp_path)
    assert (names(found), names(found, "test")) == (TRAIN, TEST)
    assert "1 image left out that no CSV list names" in found.notes
    if len(layout) == 1:
        assert names(folder(tmp_path / "list.csv")) == TRAIN


def test_ids_without_extension_and_missing_files(tmp_path: Path) -> None:
    lines = [f"{k},{'ab'[k % 2]}" for k in range(40)]
    tree(tmp_path, *(f"train/{k}.png" for k in range(40)))
    save_tree(tmp_path, {"labels.csv": "\n".join(["id,breed", *lines])})
    found = folder(tmp_path)
    assert len(found.train.rows) + len(found.test.rows) == 40
    save_tree(tmp_path, {"labels.csv": "\n".join(["id,breed", *lines, "77,a"])})
    with pytest.raises(InputError, match=r"labels\.csv lists 1 image that cannot be found \(77\)"):
        folder(tmp_path)
    save_tree(tmp_path, {"labels.csv": "path,label,split\n1.png,a,holdout"})
    with pytest.raises(InputError, match="has the split 'holdout'; use train, val or test"):
        folder(tmp_path)


# ---- Parquet and Arrow -------------------------------------------------------------------------


def rows_of(*labels: Any) -> list[tuple[bytes, Any]]:
    return [(encoded(picture(k, (6, 6))), label) for k, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("train", "test", "image", "label"),
    [
        ("train.parquet", "test.parquet", "image", "label"),
        ("train/0000.parquet", "test/0000.parquet", "img", "labels"),
        ("data/train-00000-of-00001.parquet", "data/validation-0.parquet", "pixel_values", "label"),
        ("plain/train-0.parquet", "plain/test-0.parquet", "img", "fine_label"),
    ],
)
def test_parquet(
    tmp_path: Path,
    write_parquet: Callable[..., None],
    train: str,
    test: str,
    image: str,
    label: str,
) -> None:
    write_parquet(tmp_path / "set" / train, rows_of(0, 1, 1), image, label, ["cat", "dog"])
    write_parquet(tmp_path / "set" / test, rows_of(1, 0), image, label, ["dog", "cat"])
    found = folder(tmp_path / "set")
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [0, 1, 1]
    assert found.test.labels.tolist() == [0, 1]  # mapped by name: the test split has another order


def test_parquet_with_text_labels_bytes_and_paths(
    tmp_path: Path, write_parquet: Callable[..., None]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    home = tree(tmp_path / "set", "images/1.png", "images/2.png")
    paths = pa.table({"image": ["images/1.png", "images/2.png"], "label": ["yes", "no"]})
    parquet.write_table(paths, home / "train.parquet")
    content = pa.table({"image": [encoded(PICTURE)] * 2, "label": ["no", "yes"]})
    parquet.write_table(content, home / "test.parquet")
    found = load(str(home), image_size=6)
    assert found.classes == ("no", "yes")
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([1, 0], [0, 1])
    assert (found.train.image(0) == found.test.image(0)).all()
    save_tree(home, {"images/1.png": picture(1, (6, 6))})
    changed = load(str(home), image_size=6)
    assert (changed.train.image(0) != found.train.image(0)).any()


def test_lists_of_labels_are_rejected(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    home = tree(tmp_path / "set")
    home.mkdir(parents=True, exist_ok=True)
    labels = pa.table({"image": [encoded(PICTURE)] * 2, "label": [["cat"], ["dog", "cat"]]})
    parquet.write_table(labels, home / "train.parquet")
    with pytest.raises(InputError, match="column label must hold integers or text, got list"):
        folder(home)


def test_damaged_parquet_is_named(tmp_path: Path, write_parquet: Callable[..., None]) -> None:
    home = tmp_path / "set"
    write_parquet(home / "test.parquet", rows_of(0, 1), "image", "label", ["a", "b"])
    save_tree(home, {"train.parquet": b"PAR1 and no more"})
    with pytest.raises(InputError, match=r"train\.parquet is not a complete parquet file"):
        folder(home)
    write_parquet(home / "train.parquet", rows_of(0, 1), "x", "y", None)
    with pytest.raises(InputError, match="no column of images among x, y; rename one to image"):
        folder(home)
    write_parquet(home / "train.parquet", rows_of(0, 1, 7), "image", "label", ["a", "b"])
    with pytest.raises(InputError, match=r"train\.parquet, row 2: label 7 is outside 0\.\.1"):
        folder(home)
    broken = [(b"" if k == 4 else png(k), k % 2) for k in range(6)]
    write_parquet(home / "train.parquet", broken, "image", "label", ["a", "b"])
    with pytest.raises(InputError, match=r"train\.parquet, row 4: the file is empty"):
        load(str(home), image_size=6)


def test_save_to_disk(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])}
    )
    part = datasets.Dataset.from_dict(
        {"image": [picture(k, (6, 6)) for k in range(4)], "label": [0, 1, 0, 1]}, features
    )
    selected = part.select([3, 0, 1])
    datasets.DatasetDict({"train": selected, "test": part}).save_to_disk(tmp_path / "set")
    found = load(str(tmp_path / "set"), image_size=6)
    assert found.classes == ("b", "a")
    assert found.train.labels.tolist() == [1, 0, 1]
    assert (found.train.image(0)[0].numpy() == np.array(picture(3, (6, 6)))).all()


# ---- Files of torchvision ----------------------------------------------------------------------


def write_idx(root: Path, images: np.ndarray, labels: list[int], prefix: str, end: str) -> None:
    for name, array in (("images", images), ("labels", np.array(labels, np.uint8))):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        data = head + array.tobytes()
        file = root / f"{prefix}-{name}-idx{array.ndim}-ubyte{end}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(data) if end else data)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files_equal_parquet(mnist_root: Path, tmp_path: Path, end: str) -> None:
    home = tmp_path / "tv" / "MNIST" / "raw"
    for prefix, start, count in (("train", 0, 30), ("t10k", 100, 10)):
        images = np.stack([np.array(mnist_picture(start + k)) for k in range(count)])
        write_idx(home, images, [k % 10 for k in range(count)], prefix, end)
    options: dict[str, Any] = {"image_size": 28, "train_limit": 30, "test_limit": 10}
    found = load("MNIST", data_root=tmp_path / "tv", **options)
    other = load("mnist", data_root=mnist_root, **options)
    assert (found.name, found.classes) == (other.name, other.classes)
    assert found.digests() == other.digests()
    file = home / f"t10k-labels-idx1-ubyte{end}"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(InputError, match="is not a complete idx file"):
        load("mnist", data_root=tmp_path / "tv", **options)


def test_cifar_pickles(tmp_path: Path) -> None:
    home = tmp_path / "cifar-100-python"
    home.mkdir()
    classes = ["one", "two", "three"]
    for split, count in (("train", 6), ("test", 3)):
        pictures = [np.array(picture(k, (32, 32), "RGB")) for k in range(count)]
        data = np.stack([p.transpose(2, 0, 1).ravel() for p in pictures])
        content = {b"data": data, b"fine_labels": [k % 3 for k in range(count)]}
        (home / split).write_bytes(pickle.dumps(content, protocol=2))
    for names in (classes, [name.encode() for name in classes]):
        (home / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, protocol=2))
        found = load(str(home), image_size=32)
        assert found.classes == tuple(classes)
    expected = np.array(picture(4, (32, 32), "RGB")).transpose(2, 0, 1)
    assert (found.train.image(4).numpy() == expected).all()
    (home / "meta").write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(InputError, match="is not a readable CIFAR file"):
        folder(home)


# ---- Cars --------------------------------------------------------------------------------------


def test_cars_devkit(cars_root: Path) -> None:
    options: dict[str, Any] = {"image_size": 65, "train_limit": 4, "test_limit": 3}
    found = load("cars196", data_root=cars_root, **options)
    assert found.train.labels.tolist() == [0, 195, 13, 13]
    assert found.test.labels.tolist() == [195, 0, 1]
    assert found.classes[0] == "Car 1"
    assert found.train.location(1).endswith("cars_train/00002.jpg")
    assert found.train.image(3).shape == (3, 72, 65)  # 100x90 pixels with the short side at 65
    before = fingerprint(found.train), found.digests()["test"]
    home = cars_root / "cars196"
    shutil.move(home / "cars_train", home / "moved")
    shutil.move(home / "moved", home / "cars_train" / "cars_train")
    shutil.move(home, cars_root / "stanford_cars")
    again = load("Cars196", data_root=cars_root, **options)
    assert (fingerprint(again.train), again.digests()["test"]) == before


def test_cars_annotations_in_one_file(tmp_path: Path) -> None:
    from scipy.io import savemat

    classes = np.array([f"Car {k}" for k in range(1, 4)], dtype=object)
    fields = [("relative_im_path", object), ("class", object), ("test", object)]
    annotations = np.empty((1, 4), dtype=fields)
    for k, (label, is_test) in enumerate([(1, 0), (3, 1), (2, 0), (1, 1)]):
        annotations[0, k] = (f"car_ims/{k}.png", label, is_test)
        tree(tmp_path, f"car_ims/{k}.png")
    savemat(tmp_path / "cars_annos.mat", {"annotations": annotations, "class_names": classes})
    with pytest.raises(InputError, match=r"no images of 1 class .Car 2."):
        folder(tmp_path)
    found = folder(tmp_path, allow_missing_classes=True)
    assert names(found) == ["Car 1/0.png", "Car 2/2.png"]
    assert names(found, "test") == ["Car 1/3.png", "Car 3/1.png"]


def test_cars_defects_are_named(cars_root: Path) -> None:
    def loaded() -> object:
        return load("cars196", data_root=cars_root, image_size=65, train_limit=3, test_limit=3)

    home = cars_root / "cars196"
    with pytest.raises(InputError, match="4 train images, expected 8,144"):
        load("cars196", data_root=home, image_size=65)
    write_annotations(home, "train", "devkit/cars_train_annos.mat", [1, 0, 197], "cars_train")
    with pytest.raises(InputError, match=r"cars_train/00002\.jpg: class 0 is outside 1\.\.196"):
        loaded()
    (home / "devkit" / "cars_meta.mat").write_bytes(b"no MATLAB")
    with pytest.raises(InputError, match=r"cars_meta\.mat holds no readable class_names"):
        loaded()
    shutil.rmtree(home / "cars_test")
    with pytest.raises(InputError, match="class_names"):
        loaded()


# ---- Names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MNIST", "mnist"),
        ("Fashion_MNIST", "fashion-mnist"),
        ("CIFAR-100", "cifar100"),
        ("hub:owner/name@main", "hub:owner/name@main"),
        ("/some/where", "folder:/some/where"),
        ("folder:/some/where/", "folder:/some/where"),
    ],
)
def test_names_have_one_form(name: str, expected: str) -> None:
    assert resolve_data_name(name) == expected


def test_stored_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cars").mkdir()  # also the name of a folder that cars196 is looked for in
    for name in ("cars", "./cars", "folder:cars"):
        assert resolve_data_name(name) == f"folder:{tmp_path / 'cars'}"
    for name, words in (
        ("minst", "did you mean 'mnist'"),
        ("folder:", "names no folder"),
        ("hub:mnist", "must have the form hub:OWNER/NAME"),
    ):
        with pytest.raises(InputError, match=words):
            resolve_data_name(name)


def test_names_are_printable(tmp_path: Path) -> None:
    odd = ["new\nline", "日本", "[bold]", "a\udcff"]
    tree(tmp_path, *(f"{s}/{name}/1.png" for s in ("train", "test") for name in odd))
    found = verify(str(tmp_path))
    assert found.problems == ()
    assert set(found.classes) == {"new\\nline", "日本", "[bold]", "a\\xff"}
    "".join(found.classes).encode()


def test_an_image_folder_that_cannot_be_read(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match="images of a single class, but two or more"):
        folder(tmp_path)
