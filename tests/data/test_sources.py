"""Data sets by name, from every layout, and what is refused."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import picture, png, write_annotations

from ccloss.data.catalog import SOURCES
from ccloss.data.images import LazyImages, MemoryImages, fingerprint
from ccloss.data.sources import hold_out, load, verify
from ccloss.errors import InputError

DIGITS_TRAIN = "eec9a3cc9ba89bed6ec80f6c44bf33652a2543873f1d0fa3d23e411b53cd12de"
DIGITS_TEST = "42fcb43d10c179f3a277938806585fdcce64c5eb041305eafdcef6fccc0eed85"


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- Digits ------------------------------------------------------------------------------------


def test_digits_are_the_same_everywhere() -> None:
    digits = load("digits", image_size=8)
    assert (len(digits.train), len(digits.test), digits.channels) == (1_297, 500, 1)
    assert digits.classes == tuple("0123456789")
    assert digits.test.labels.bincount().tolist() == [50] * 10
    assert fingerprint(digits.train) == DIGITS_TRAIN
    assert fingerprint(digits.test) == DIGITS_TEST


def test_digits_fill_the_range_and_resize() -> None:
    digits = load("digits", image_size=16, channels=3)
    assert isinstance(digits.train, MemoryImages)
    assert digits.train.pixels.shape == (1_297, 3, 16, 16)
    native = load("digits", image_size=8).train
    assert isinstance(native, MemoryImages)
    assert native.pixels.max() == 255
    assert len(native.pixels.unique()) == 17


def test_verify_digits() -> None:
    found = verify("digits")
    assert found.problems == ()
    assert found.fingerprints == (DIGITS_TRAIN, DIGITS_TEST)
    assert (found.train, found.test, found.classes) == (1_297, 500, 10)


# ---- Parquet -----------------------------------------------------------------------------------


def test_parquet_in_hub_layout(mnist_root: Path) -> None:
    for root in (mnist_root, mnist_root / "mnist"):
        found = load("mnist", data_root=root, image_size=28, train_limit=30, test_limit=10)
        assert isinstance(found.train, MemoryImages)
        assert torch.equal(found.train.pixels[25, 0], torch.tensor(np.array(picture(25))))
        assert found.train.labels.tolist() == [k % 10 for k in range(30)]
        assert torch.equal(found.test.image(3)[0], torch.tensor(np.array(picture(103))))


@pytest.mark.parametrize("folder", ["data", "mnist"])
def test_parquet_in_a_subfolder(mnist_root: Path, folder: str) -> None:
    home = mnist_root / "mnist"
    files = list(home.iterdir())
    (home / folder).mkdir()
    for file in files:
        shutil.move(file, home / folder / file.name)
    found = load("mnist", data_root=mnist_root, image_size=24, train_limit=30, test_limit=10)
    assert found.train.image(0).shape == (1, 24, 24)


def test_counts_are_checked(mnist_root: Path) -> None:
    with pytest.raises(InputError, match="30 train images where 60,000 are due") as caught:
        load("mnist", data_root=mnist_root, image_size=28)
    assert "train_limit" in one_line(caught)
    with pytest.raises(InputError, match="10 test images where 10,000 are due"):
        load("mnist", data_root=mnist_root, image_size=28, train_limit=30)
    with pytest.raises(InputError, match="train_limit must be at most the 30 images, got 31"):
        load("mnist", data_root=mnist_root, image_size=28, train_limit=31, test_limit=1)


def test_cifar_columns_and_class_count(tmp_path: Path, write_parquet: Callable[..., None]) -> None:
    rows = [(png(k, (32, 32), "RGB"), k) for k in range(100)]
    for split in ("train", "test"):
        names = [f"c{k}" for k in range(100)]
        write_parquet(tmp_path / f"{split}-0.parquet", rows, "img", "fine_label", names)
    found = load("cifar100", data_root=tmp_path, image_size=32, train_limit=100, test_limit=100)
    assert found.channels == 3
    assert found.classes[7] == "c7"
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-0.parquet", rows[:99], "img", "fine_label", names[:99])
    with pytest.raises(InputError, match="99 classes where 100 are due"):
        load("cifar100", data_root=tmp_path, image_size=32, train_limit=9, test_limit=9)


def test_parquet_without_class_names(tmp_path: Path, write_parquet: Callable[..., None]) -> None:
    for split in ("train", "test"):
        rows = [(png(k), k) for k in range(10)]
        write_parquet(tmp_path / f"{split}-0.parquet", rows, "image", "label", None)
    found = load("mnist", data_root=tmp_path, image_size=28, train_limit=10, test_limit=10)
    assert found.classes == tuple("0123456789")


def test_a_label_out_of_range_is_named(tmp_path: Path, write_parquet: Callable[..., None]) -> None:
    for split in ("train", "test"):
        rows = [(png(0), 3), (png(1), 12)]
        write_parquet(tmp_path / f"{split}-0.parquet", rows, "image", "label", None)
    with pytest.raises(InputError, match=r"train-0\.parquet, row 1: label 12 is outside 0\.\.9"):
        load("mnist", data_root=tmp_path, image_size=28, train_limit=1, test_limit=1)


@pytest.mark.parametrize("damage", [b"", b"rubbish", png(9)[:200]])
def test_a_broken_parquet_row_is_named(
    mnist_root: Path, write_parquet: Callable[..., None], damage: bytes
) -> None:
    file = mnist_root / "mnist" / "train-00001-of-00002.parquet"
    rows = [(damage if k == 4 else png(k), k) for k in range(10)]
    write_parquet(file, rows, "image", "label", [str(k) for k in range(10)])
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet, row 4: .*corrupt") as e:
        load("mnist", data_root=mnist_root, image_size=28, train_limit=30, test_limit=10)
    one_line(e)


def test_other_columns_a_broken_file_and_a_missing_split(
    mnist_root: Path, write_parquet: Callable[..., None]
) -> None:
    file = mnist_root / "mnist" / "train-00001-of-00002.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet is no whole parquet file"):
        load("mnist", data_root=mnist_root, image_size=28)
    (mnist_root / "mnist" / "test-00000-of-00001.parquet").unlink()
    file.unlink()
    with pytest.raises(InputError, match=r"has no test-\*\.parquet; add the test split"):
        load("mnist", data_root=mnist_root, image_size=28)
    for split in ("train", "test"):
        part = file.parent / f"{split}-00000-of-00002.parquet"
        write_parquet(part, [(png(0), 0)], "x", "y", None)
    with pytest.raises(InputError, match="needs a column label, has x, y"):
        load("mnist", data_root=mnist_root, image_size=28)


def test_verify_lists_every_problem(mnist_root: Path, write_parquet: Callable[..., None]) -> None:
    file = mnist_root / "mnist" / "test-00000-of-00001.parquet"
    rows = [(b"x" if k in (2, 5) else png(k), k) for k in range(10)]
    write_parquet(file, rows, "image", "label", [str(k) for k in range(10)])
    found = verify("mnist", mnist_root)
    assert [p.split(":")[0].rsplit("/")[-1] for p in found.problems] == [
        "mnist",
        "mnist",
        "test-00000-of-00001.parquet, row 2",
        "test-00000-of-00001.parquet, row 5",
    ]
    assert found.fingerprints is None
    assert (found.train, found.test) == (30, 10)


# ---- The Hub -----------------------------------------------------------------------------------


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*args: object, **named: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match="pass --data-root with a folder that holds mnist/") as e:
        load("mnist", image_size=28)
    assert "train-*.parquet" in one_line(e)
    assert "train/<class>/" in one_line(e)
    with pytest.raises(InputError, match=r"devkit/cars_train_annos\.mat"):
        load("cars196", image_size=224)


def test_the_hub_is_asked_for_both_splits(
    mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    asked: list[tuple[str, str]] = []

    def local(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        files = sorted((mnist_root / "mnist").glob(f"{split}-*.parquet"))
        return datasets.Dataset.from_parquet([str(file) for file in files])

    monkeypatch.setattr(datasets, "load_dataset", local)
    found = load("mnist", image_size=28, train_limit=20, test_limit=10)
    assert asked == [("ylecun/mnist", "train"), ("ylecun/mnist", "test")]
    assert len(found.train) == 20


# ---- Class folders -----------------------------------------------------------------------------


def test_a_named_data_set_in_class_folders(class_folders: Callable[..., Path]) -> None:
    counts = {str(k): 2 for k in range(10)}
    root = class_folders({"train": counts, "test": counts}, (28, 28), "L", "mnist")
    found = load("mnist", data_root=root.parent, image_size=28, train_limit=20, test_limit=20)
    assert found.train.labels.tolist() == [k // 2 for k in range(20)]
    shutil.rmtree(root / "test")
    with pytest.raises(InputError, match="has train/ but neither test/ nor val/"):
        load("mnist", data_root=root, image_size=28)


@pytest.mark.parametrize("test", ["test", "val"])
def test_folder_with_both_splits(class_folders: Callable[..., Path], test: str) -> None:
    root = class_folders({"train": {"b": 3, "a": 2}, test: {"b": 1, "a": 1}})
    found = load(f"folder:{root}", image_size=12)
    assert found.classes == ("a", "b")
    assert found.channels == 3
    assert found.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert (len(found.train), len(found.test)) == (5, 2)
    assert verify(f"folder:{root}").problems == ()


def test_folder_of_one_level_holds_out_a_fifth(class_folders: Callable[..., Path]) -> None:
    root = class_folders({"": {"a": 10, "b": 25}})
    found, again = (load(f"folder:{root}", image_size=12) for _ in range(2))
    assert found.train.labels.bincount().tolist() == [8, 20]
    assert found.test.labels.bincount().tolist() == [2, 5]
    assert fingerprint(found.test) == fingerprint(again.test)


def test_folder_channels_are_one_only_if_all_are_gray(class_folders: Callable[..., Path]) -> None:
    root = class_folders({"": {"a": 3, "b": 3}}, mode="L")
    assert load(f"folder:{root}", image_size=12).channels == 1
    picture(0, (12, 12), "RGB").save(root / "b" / "2.png")
    assert load(f"folder:{root}", image_size=12).channels == 3
    assert load(f"folder:{root}", image_size=12, channels=1).channels == 1


def test_folder_sizes_may_differ(class_folders: Callable[..., Path]) -> None:
    root = class_folders({"": {"a": 5, "b": 5}})
    picture(0, (30, 20), "RGB").save(root / "a" / "0.png")
    assert load(f"folder:{root}", image_size=16).train.image(0).shape == (3, 16, 16)
    large = load(f"folder:{root}", image_size=80, resize=90)
    assert isinstance(large.train, LazyImages)
    shapes = {tuple(part.image(k).shape) for part in large[1:3] for k in range(len(part))}
    assert shapes == {(3, 90, 90), (3, 135, 90)}


def test_folder_faults_are_named(class_folders: Callable[..., Path], tmp_path: Path) -> None:
    root = class_folders({"train": {"a": 1, "b": 1}, "test": {"a": 1, "c": 1}})
    with pytest.raises(InputError, match="only in train/: b; only in test/: c"):
        load(f"folder:{root}", image_size=12)
    (root / "train" / "b" / "0.png").unlink()
    with pytest.raises(InputError, match="b holds no images"):
        load(f"folder:{root}", image_size=12)
    with pytest.raises(InputError, match="is no folder"):
        load(f"folder:{tmp_path / 'nowhere'}", image_size=12)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no class folders"):
        load(f"folder:{tmp_path / 'empty'}", image_size=12)
    with pytest.raises(InputError, match="names no folder"):
        load("folder:", image_size=12)


# ---- Cars --------------------------------------------------------------------------------------


def test_cars_devkit(cars_root: Path) -> None:
    found = load("cars196", data_root=cars_root, image_size=65, train_limit=4, test_limit=3)
    assert found.train.labels.tolist() == [0, 195, 13, 13]
    assert found.test.labels.tolist() == [195, 0, 1]
    assert found.classes[0] == "Car 1"
    assert len(found.classes) == 196
    assert isinstance(found.train, LazyImages)
    assert found.train.place(1).endswith("cars_train/00002.jpg")
    assert found.train.image(3).shape == (3, 72, 65)  # 100x90 pixels with the short side at 65


def test_cars_faults_are_named(cars_root: Path) -> None:
    def loaded() -> object:
        return load("cars196", data_root=cars_root, image_size=65, train_limit=3, test_limit=3)

    home = cars_root / "cars196"
    with pytest.raises(InputError, match="4 train images where 8,144 are due"):
        load("cars196", data_root=home, image_size=65)
    write_annotations(home, "train", "devkit/cars_train_annos.mat", [1, 0, 197])
    with pytest.raises(InputError, match=r"cars_train/00002\.jpg: label -1 is outside 0\.\.195"):
        loaded()
    (home / "devkit" / "cars_meta.mat").write_bytes(b"no MATLAB")
    with pytest.raises(InputError, match=r"cars_meta\.mat holds no readable class_names"):
        loaded()
    (home / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(InputError, match=r"has no devkit/cars_meta\.mat nor cars_meta\.mat"):
        loaded()


def test_cars_without_images(cars_root: Path) -> None:
    shutil.rmtree(cars_root / "cars196" / "cars_test")
    with pytest.raises(InputError, match="has no cars_test/; unpack the images there"):
        load("cars196", data_root=cars_root, image_size=224)


# ---- Arguments ---------------------------------------------------------------------------------


def test_a_root_without_the_data_says_what_was_sought(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="data_root: no mnist in ") as caught:
            load("mnist", data_root=root, image_size=28)
        assert str(root) in one_line(caught)
        assert "train-*.parquet" in one_line(caught)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"name": "imagenet"},
            "data must be one of digits, mnist, cifar100, cars196 or folder:<path>, got 'imagenet'",
        ),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"channels": 2}, "channels must be 1"),
        ({"resize": 7}, "resize must be at least image_size 8, got 7"),
        ({"resize": 9}, "resize is for an image_size above 64"),
        ({"train_limit": 0}, "train_limit must be at least 1"),
        ({"test_limit": -1}, "test_limit must be at least 1"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(**{"name": "digits", "image_size": 8, **arguments})  # type: ignore[arg-type]
    one_line(caught)


def test_limits_are_balanced_and_fixed() -> None:
    found = load("digits", image_size=8, train_limit=105, test_limit=7)
    counts = found.train.labels.bincount()
    assert sorted(counts.tolist()) == [10] * 5 + [11] * 5
    assert found.test.labels.bincount().max() == 1
    again = load("digits", image_size=8, train_limit=105, test_limit=7)
    assert fingerprint(found.train) == fingerprint(again.train)
    rest = load("digits", image_size=8, train_limit=1_297)
    assert fingerprint(rest.train) == DIGITS_TRAIN


def test_hold_out_is_stratified_and_complete() -> None:
    images = load("digits", image_size=8).train
    assert isinstance(images, MemoryImages)
    numbers = torch.arange(len(images))  # in two pixels, to tell images apart
    pixels = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)[:, :, None, None]
    parts = hold_out(MemoryImages(pixels, images.labels), 0.1)
    chosen = [
        [256 * int(high) + int(low) for high, low in (part.image(k) for k in range(len(part)))]
        for part in parts
    ]
    assert sorted(chosen[0] + chosen[1]) == numbers.tolist()
    assert all(part == sorted(part) for part in chosen)  # in the old order
    expected = (images.labels.bincount() * 0.1).round().long()
    assert torch.equal(parts[1].labels.bincount(), expected)
    assert torch.equal(parts[1].labels, images.labels[chosen[1]])


def test_hold_out_depends_on_the_seed_alone() -> None:
    images = load("digits", image_size=8).test
    prints = [fingerprint(hold_out(images, 0.5, seed)[1]) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_hold_out_leaves_both_parts_an_image_of_a_small_class() -> None:
    pixels = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images = MemoryImages(pixels, torch.tensor([0, 0, 1, 1, 2]))
    train, validation = hold_out(images, 0.01)
    assert train.labels.tolist() == [0, 1, 2]
    assert validation.labels.tolist() == [0, 1]
    train, validation = hold_out(images, 0.99)
    assert train.labels.tolist() == [0, 1, 2]
    assert validation.labels.tolist() == [0, 1]
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="fraction must be above 0 and below 1"):
            hold_out(images, fraction)
    with pytest.raises(InputError, match="none to spare"):
        hold_out(images.subset(torch.tensor([0])), 0.5)


def test_the_catalogue_needs_no_torch() -> None:
    program = "import sys, ccloss.data.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert list(SOURCES) == ["digits", "mnist", "cifar100", "cars196"]
