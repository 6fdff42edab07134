"""Labels by name, splits by content, identity, digests, the cache, and verification."""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import encoded, mnist_picture, picture, png, save_tree

from ccloss.data import cache
from ccloss.data.catalog import SOURCES
from ccloss.data.images import MemoryImages, StoredImages, fingerprint, statistics
from ccloss.data.scan import scan
from ccloss.data.sources import check_same_data, load
from ccloss.data.splitting import hold_out
from ccloss.data.stores import ArrayStore, FileStore
from ccloss.data.verification import verify
from ccloss.errors import InputError

DIGITS_TRAIN = "eec9a3cc9ba89bed6ec80f6c44bf33652a2543873f1d0fa3d23e411b53cd12de"
DIGITS_TEST = "42fcb43d10c179f3a277938806585fdcce64c5eb041305eafdcef6fccc0eed85"


def class_tree(root: Path, count: int = 12, size: tuple[int, int] = (6, 6)) -> Path:
    files = {
        f"{name}/{k}.png": picture(100 * i + k, size)
        for i, name in enumerate("ab")
        for k in range(count)
    }
    return save_tree(root, files)


def split_tree(root: Path) -> Path:
    for number, split in enumerate(("train", "test")):
        for k, name in enumerate("ab"):
            save_tree(root, {f"{split}/{name}/1.png": picture(10 * number + k, (6, 6), "RGB")})
    return root


# ---- Digits ------------------------------------------------------------------------------------


def test_digits_are_the_same_everywhere() -> None:
    digits = load("digits", image_size=8)
    assert (len(digits.train), len(digits.test), digits.channels) == (1_297, 500, 1)
    assert digits.classes == tuple("0123456789")
    assert digits.test.labels.bincount().tolist() == [50] * 10
    assert (fingerprint(digits.train), fingerprint(digits.test)) == (DIGITS_TRAIN, DIGITS_TEST)
    assert verify("Digits").fingerprints == {"train": DIGITS_TRAIN, "test": DIGITS_TEST}
    resized = load("digits", image_size=16, channels=3).train
    assert isinstance(resized, MemoryImages)
    assert resized.pixels.shape == (1_297, 3, 16, 16)


def test_limits_are_balanced_and_fixed() -> None:
    found = load("digits", image_size=8, train_limit=105, test_limit=7)
    assert sorted(found.train.labels.bincount().tolist()) == [10] * 5 + [11] * 5
    assert found.test.labels.bincount().max() == 1
    again = load("digits", image_size=8, train_limit=105, test_limit=7)
    assert found.digests() == again.digests()
    assert fingerprint(load("digits", image_size=8, train_limit=1_297).train) == DIGITS_TRAIN


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "imagenet"}, "data must be one of digits, mnist, .*, got 'imagenet'"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"channels": 2}, "channels must be 1"),
        ({"resize": 7}, "resize must be at least image_size 8, got 7"),
        ({"resize": 9}, "resize is for an image_size above 64"),
        ({"train_limit": 0}, "train_limit must be at least 1"),
        ({"test_limit": -1}, "test_limit must be at least 1"),
        ({"train_limit": 1_298}, "train_limit must be at most the 1297 images, got 1298"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(**{"name": "digits", "image_size": 8, **arguments})
    assert "\n" not in str(caught.value)


# ---- Labels by name ----------------------------------------------------------------------------


def test_one_class_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    for split, form in zip(("train", "test"), forms, strict=True):
        save_tree(tmp_path, {f"{split}/{name}/1.png": picture(0) for name in (form, "tea")})
    found = load(str(tmp_path), image_size=28)
    assert found.classes == (forms[0], "tea")
    assert found.train.labels.tolist() == sorted(found.test.labels.tolist()) == [0, 1]


def test_a_single_class_is_rejected(tmp_path: Path) -> None:
    save_tree(tmp_path, {f"photos/{k}.png": picture(k) for k in range(9)})
    with pytest.raises(InputError, match="a single class, but two or more class folders"):
        load(str(tmp_path), image_size=28)


def test_classes_missing_from_a_split(tmp_path: Path) -> None:
    files = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png")
    save_tree(tmp_path, {file: picture(0) for file in files})
    with pytest.raises(InputError, match=r"train split has no .*\(c\); the test split has no .*b"):
        load(str(tmp_path), image_size=28)
    found = load(str(tmp_path), image_size=28, allow_missing_classes=True)
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([0, 1], [0, 2])
    assert "the test split has no images of 1 class (b)" in found.notes


# ---- Held-out images ---------------------------------------------------------------------------


def held_files(root: Path) -> set[str]:
    found = load(str(root), image_size=6).test
    return {Path(str(k)).name for k in found.keys.tolist()}


def test_adding_and_removing_files_moves_no_other_image(tmp_path: Path) -> None:
    root = class_tree(tmp_path / "set", 30)
    before = held_files(root)
    assert 4 <= len(before) <= 22  # about 12 of 60
    save_tree(root, {f"a/{k}.png": picture(k, (6, 6)) for k in range(1_000, 1_040)})
    grown = load(str(root), image_size=6)
    assert before <= held_files(root)
    assert not before & {str(k) for k in grown.train.keys.tolist()}
    for k in range(15):
        (root / "b" / f"{k}.png").unlink()
    assert held_files(root) <= {str(k) for k in grown.test.keys.tolist()}
    assert any("there is no test split" in note for note in grown.notes)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=60, unique=True), st.integers(0, 5))
def test_hold_out_decides_for_each_image_alone(numbers: list[int], seed: int) -> None:
    def parts(chosen: list[int]) -> list[set[int]]:
        pixels = torch.tensor(chosen).view(torch.uint8).reshape(-1, 1, 2, 4)
        images = MemoryImages(pixels, torch.zeros(len(chosen), dtype=torch.int64))
        try:
            both = hold_out(images, 0.5, seed)
        except InputError:
            return []
        return [set(p.pixels.reshape(-1, 8).view(torch.int64).ravel().tolist()) for p in both]

    whole, part = parts(numbers), parts(numbers[::2])
    if whole:
        assert whole[0] | whole[1] == set(numbers)
    if whole and part:
        assert part[0] <= whole[0]
        assert part[1] <= whole[1]


def test_hold_out_takes_the_fraction_and_checks_it() -> None:
    images = load("digits", image_size=8).train
    train, validation = hold_out(images, 0.1)
    assert abs(len(validation) - 130) < 40  # 4 standard deviations
    assert len(train) + len(validation) == 1_297
    assert fingerprint(hold_out(images, 0.1, 1)[1]) != fingerprint(validation)
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="fraction must be above 0 and below 1"):
            hold_out(images, fraction)
    with pytest.raises(InputError, match="leaves no image in one of the two parts"):
        hold_out(images.subset(torch.tensor([0])), 0.5)


# ---- Known data sets ---------------------------------------------------------------------------


def test_parquet_in_the_layout_of_the_hub(mnist_root: Path) -> None:
    for root in (mnist_root, mnist_root / "mnist"):
        found = load("mnist", data_root=root, image_size=28, train_limit=30, test_limit=10)
        assert found.train.labels.tolist() == [k % 10 for k in range(30)]
        expected = torch.from_numpy(np.array(mnist_picture(25)))
        assert torch.equal(found.train.image(25)[0], expected)
    with pytest.raises(InputError, match=r"30 train images, expected 60,000; .* --train-limit"):
        load("mnist", data_root=mnist_root, image_size=28)


def test_another_data_set_is_not_accepted_by_name(
    mnist_root: Path, write_parquet: Callable[..., None]
) -> None:
    options: dict[str, Any] = {"image_size": 28, "train_limit": 10, "test_limit": 10}
    fashion = SOURCES["fashion-mnist"].class_names
    rows = [(png(k), k) for k in range(10)]
    for folder, names in (("set", list(fashion)), ("plain", None)):
        for split in ("train", "test"):
            write_parquet(mnist_root / folder / f"{split}-0.parquet", rows, "image", "label", names)
    with pytest.raises(InputError, match=r"has the classes .*which mnist does not have"):
        load("mnist", data_root=mnist_root / "set", **options)
    assert load("mnist", data_root=mnist_root / "plain", **options).classes == tuple("0123456789")
    bright = [(encoded(picture(k, brightness=147)), k) for k in range(10)]
    write_parquet(mnist_root / "plain" / "train-0.parquet", bright, "image", "label", None)
    with pytest.raises(InputError, match=r"not those of mnist: .* as those of fashion-mnist have"):
        load("mnist", data_root=mnist_root / "plain", **options)
    large = [(encoded(picture(k, (32, 32), brightness=68)), k) for k in range(10)]
    write_parquet(mnist_root / "plain" / "train-0.parquet", large, "image", "label", None)
    with pytest.raises(InputError, match="has 32 x 32 pixels"):
        load("mnist", data_root=mnist_root / "plain", **options)
    only = mnist_root / "only" / "cifar100"
    (mnist_root / "plain").rename(mnist_root / "moved")
    (mnist_root / "only").mkdir()
    (mnist_root / "moved").rename(only)
    with pytest.raises(InputError, match=r"no images in .*only"):
        load("mnist", data_root=mnist_root / "only", **options)


def test_the_hub_revision_is_pinned_and_recorded(
    mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    asked: list[tuple[str, str | None]] = []

    def local(name: str, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, revision))
        home = mnist_root / "mnist"
        files = {s: [str(f) for f in sorted(home.glob(f"{s}-*"))] for s in ("train", "test")}
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_parquet(paths) for split, paths in files.items()}
        )

    class Api:
        def dataset_info(self, name: str, timeout: float) -> Any:
            return type("Info", (), {"sha": "newest"})

    monkeypatch.setattr(datasets, "load_dataset", local)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    found = load("mnist", image_size=28, train_limit=20, test_limit=10)
    assert asked == [("ylecun/mnist", SOURCES["mnist"].revision)]
    assert found.revision == SOURCES["mnist"].revision
    assert load("hub:owner/set", image_size=28).revision == "newest"
    assert load("hub:owner/set@v1", image_size=28).revision == "v1"
    assert asked[1:] == [("owner/set", "newest"), ("owner/set", "v1")]

    def refuse(*args: object, **named: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match=r"ConnectionError: no route.*--data-root") as caught:
        load("mnist", image_size=28)
    assert "\n" not in str(caught.value)


# ---- Digests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("image_size", [6, 80])
def test_changed_data_are_refused(tmp_path: Path, image_size: int) -> None:
    root = split_tree(tmp_path / "set")
    stored = load(str(root), image_size=image_size).digests()
    assert check_same_data(stored, load(str(root), image_size=image_size)) is None
    assert check_same_data(None, load(str(root), image_size=image_size)) is None
    changes: list[Callable[[], object]] = [
        lambda: picture(77, (6, 6), "RGB").save(root / "test/a/1.png"),
        lambda: picture(78, (6, 6), "RGB").save(root / "test/a/2.png"),
        lambda: (root / "test/a/2.png").rename(root / "test/b/2.png"),
    ]
    for change in changes:
        change()
        changed = load(str(root), image_size=image_size)
        with pytest.raises(InputError, match=r"the test images .* --allow-changed-data"):
            check_same_data(stored, changed)
        warning = check_same_data(stored, changed, allow_changed=True)
        assert warning is not None
        assert "not those of the run" in warning
        assert check_same_data(stored, changed, splits=("train",)) is None
        stored = changed.digests()


def test_unreadable_images_are_found_before_training(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "set")
    for name in ("a", "b"):
        (root / f"test/{name}/1.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"test/a/1\.png: .*\(2 images in all\)"):
        load(str(root), image_size=80)


def test_channels_are_one_only_if_all_images_are_gray(tmp_path: Path) -> None:
    root = class_tree(tmp_path / "set")
    assert load(str(root), image_size=6).channels == 1
    picture(0, (6, 6), "RGB").save(root / "b" / "2.png")
    assert load(str(root), image_size=6).channels == 3
    assert load(str(root), image_size=6, channels=1).train.image(0).shape == (1, 6, 6)


# ---- Image sets --------------------------------------------------------------------------------


def test_subsets_keep_the_given_order(tmp_path: Path) -> None:
    save_tree(tmp_path, {f"{k}.png": picture(k, (6, 6)) for k in range(4)})
    store = FileStore(tmp_path, tuple(f"{k}.png" for k in range(4)))
    images = StoredImages(store, torch.arange(4), 1, (6, 6))
    chosen = torch.tensor([3, 1])
    part = images.subset(chosen).subset(torch.tensor([1, 0]))
    assert part.labels.tolist() == [1, 3]
    assert part.location(0).endswith("1.png")
    assert torch.equal(part.image(1), images.image(3))
    memory = images.decoded("")
    assert fingerprint(memory.subset(chosen)) == fingerprint(images.subset(chosen))


def test_fingerprint_depends_on_pixels_labels_and_order() -> None:
    pixels = torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2)
    labels = torch.tensor([0, 1])
    base = fingerprint(MemoryImages(pixels, labels))
    assert base == fingerprint(MemoryImages(pixels.clone(), labels.clone()))
    others = [
        MemoryImages(pixels.flip(0), labels),
        MemoryImages(pixels, labels.flip(0)),
        MemoryImages(pixels + 1, labels),
        MemoryImages(pixels.reshape(2, 1, 4, 1), labels),
    ]
    assert len({base, *map(fingerprint, others)}) == 5


def test_statistics_equal_float64_over_all_pixels() -> None:
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (3_000, 3, 4, 5), dtype=torch.uint8, generator=generator)
    pixels[:, 1] //= 3
    pixels[:, 2] = 51
    mean, std = statistics(MemoryImages(pixels, torch.zeros(3_000, dtype=torch.int64)))
    scaled = pixels.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), rel=1e-9, abs=1e-12)


def test_statistics_of_a_large_stored_set_use_equal_steps() -> None:
    arrays = np.zeros((4_000, 1, 1), dtype=np.uint8)
    arrays[::2] = 255  # every second image: all that the sample of 2,000 contains
    images = StoredImages(ArrayStore("dots", arrays), torch.zeros(4_000, dtype=torch.int64), 1)
    assert statistics(images) == ((1.0,), (0.0,))


def test_wrong_tensors_are_rejected() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    store = FileStore(Path(), ())
    with pytest.raises(InputError, match="pixels must be"):
        MemoryImages(torch.zeros(2, 1, 4, 4), labels)
    with pytest.raises(InputError, match="labels must be"):
        MemoryImages(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), labels)
    with pytest.raises(InputError, match="channels must be"):
        StoredImages(store, labels[:0], 2)
    with pytest.raises(InputError, match="size must be"):
        StoredImages(store, labels[:0], 1, 8).decoded("")


# ---- Cache -------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_second_start_decodes_nothing(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = split_tree(tmp_path / "set")
    first = load(str(root), image_size=6)

    def fail(*args: object) -> None:
        raise AssertionError("an image is decoded")

    monkeypatch.setattr("ccloss.data.images.decode", fail)
    monkeypatch.setattr("ccloss.data.scan.inspect", fail)
    second = load(str(root), image_size=6)
    assert second.digests() == first.digests()
    (root / "test/a/1.png").write_bytes(encoded(picture(50, (6, 6), "RGB")))
    with pytest.raises(AssertionError, match="an image is decoded"):
        load(str(root), image_size=6)


def test_the_cache_is_bounded_and_the_oldest_entry_goes_first(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> cache.Arrays:
        return {"x": np.zeros(400_000, np.uint8)}

    monkeypatch.setenv(cache.SIZE_VARIABLE, "0.001")
    for number in range(4):
        cache.cached(f"entry-{number}", make)
        if number == 1:
            cache.cached("entry-0", make)
            os.utime(own_cache / "entry-1.npz", (1, 1))
    assert "entry-1.npz" not in {entry.path.name for entry in cache.entries()}
    assert len(cache.entries()) == 2
    assert cache.clear() > 800_000
    assert cache.entries() == []
    monkeypatch.setenv(cache.SIZE_VARIABLE, "0")
    cache.cached("none", make)
    assert cache.entries() == []
    monkeypatch.setenv(cache.SIZE_VARIABLE, "big")
    with pytest.raises(InputError, match="CCLOSS_CACHE_GB must be a number"):
        cache.limit()


def test_an_unreadable_image_is_read_again(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_tree(tmp_path / "set", size=(30, 30))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", PIL.Image.MAX_IMAGE_PIXELS)  # restored
    monkeypatch.setenv("CCLOSS_MAX_PIXELS", "800")
    with pytest.raises(InputError, match="CCLOSS_MAX_PIXELS"):
        load(str(root), image_size=6)
    monkeypatch.setenv("CCLOSS_MAX_PIXELS", "2000")
    assert len(load(str(root), image_size=6).train) > 0


def test_a_damaged_entry_is_made_again(own_cache: Path) -> None:
    made: list[int] = []

    def make() -> cache.Arrays:
        made.append(1)
        return {"x": np.arange(1_000)}

    cache.cached("entry", make)
    file = own_cache / "entry.npz"
    data = bytearray(file.read_bytes())
    for damage in (data[:500], data[:700] + b"\xff\xff" + data[702:], b""):
        file.write_bytes(damage)
        assert (cache.cached("entry", make)["x"] == np.arange(1_000)).all()
    assert len(made) == 4


def test_a_cache_that_cannot_be_written_is_reported(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("a file in the place of the folder")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert cache.cached("entry", lambda: {"x": np.ones(3)})["x"].sum() == 3


PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from ccloss.data.cache import cached

def make():
    with open(sys.argv[1], "a") as file:
        file.write("made ")
    time.sleep(0.5)
    return {"x": np.arange(100_000)}

assert (cached("shared", make)["x"] == np.arange(100_000)).all()
"""


def test_processes_make_an_entry_once(tmp_path: Path, own_cache: Path) -> None:
    log = tmp_path / "log"
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(log)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert log.read_text() == "made "


# ---- Verification ------------------------------------------------------------------------------


def test_verify_reports_counts_sizes_modes_and_what_is_left_out(tmp_path: Path) -> None:
    root = split_tree(tmp_path / "set")
    save_tree(
        root,
        {
            "train/a/deep/2.png": picture(20, (5, 9)),
            "train/c/1.png": picture(21, (6, 6), "RGB"),
            "test/b/again.png": (root / "train/a/1.png").read_bytes(),
            "train/a/x.heic": b"x",
            "train/stray.png": picture(22),
        },
    )
    found = verify(str(root))
    assert found.problems == ()
    assert found.train == {"a": 2, "b": 1, "c": 1}
    assert found.test == {"a": 1, "b": 2, "c": 0}
    assert found.sizes == {"6x6": 6, "9x5": 1}
    assert found.modes == {"RGB": 6, "L": 1}
    notes = " | ".join(found.notes)
    for words in (
        "1 file with other extensions left out: .heic 1",
        "1 image without a label left out",
        "the test split has no images of 1 class (c)",
        "1 test image also in the training images",
        "1 image with more than one class",
    ):
        assert words in notes
    assert found.fingerprints is None


def test_verify_lists_every_problem(mnist_root: Path, write_parquet: Callable[..., None]) -> None:
    file = mnist_root / "mnist" / "test-00000-of-00001.parquet"
    rows = [(b"x" if k in (2, 5) else png(k), k) for k in range(10)]
    write_parquet(file, rows, "image", "label", [str(k) for k in range(10)])
    found = verify("mnist", mnist_root)
    assert [p.split(":")[0].rsplit("/")[-1] for p in found.problems] == [
        "data mnist",
        "data mnist",
        "test-00000-of-00001.parquet, row 2",
        "test-00000-of-00001.parquet, row 5",
    ]
    assert (sum(found.train.values()), sum(found.test.values())) == (30, 10)


def test_a_warning_of_a_decoder_names_the_file(tmp_path: Path) -> None:
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01"
    save_tree(tmp_path, {"1.jpg": encoded(picture(0), "JPEG", exif=exif), "2.png": picture(1)})
    found = scan(FileStore(tmp_path, ("1.jpg", "2.png")), [0, 1], use_cache=False)
    assert found.problems == ()
    assert len(found.warnings) == 1
    assert "1.jpg: " in found.warnings[0]


def test_the_catalog_needs_no_torch() -> None:
    program = "import sys, ccloss.data.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert len(SOURCES["cifar100"].class_names) == 100
