"""Batches: order, shares, augmentation, in memory and from workers."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import picture, slow_crop

from ccloss.data.augment import crop_offsets, uniforms
from ccloss.data.images import ImageSet, MemoryImages, StoredImages
from ccloss.data.loader import Batch, Loader, eval_loader, train_loader
from ccloss.data.stores import FileStore
from ccloss.errors import InputError

SIZE = 8


def numbered(count: int) -> MemoryImages:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, SIZE, SIZE)
    pixels = torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)
    return MemoryImages(pixels, torch.arange(count) % 5)


def training(images: ImageSet, **changes: object) -> Loader:
    settings: dict[str, object] = {
        "batch_size": 8,
        "seed": 3,
        "device": "cpu",
        "image_size": SIZE,
        "padding": 2,
        "flip": 0.5,
        "workers": 0,
    }
    return train_loader(images, **{**settings, **changes})  # type: ignore[arg-type]


def evaluation(images: ImageSet, **changes: object) -> Loader:
    settings = {"batch_size": 8, "device": "cpu", "image_size": SIZE, "workers": 0}
    return eval_loader(images, **{**settings, **changes})  # type: ignore[arg-type]


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def stored(folder: Path, count: int, size: tuple[int, int] = (SIZE, SIZE)) -> StoredImages:
    files = tuple(f"{k}.png" for k in range(count))
    for seed, file in enumerate(files):
        picture(seed, size, "RGB").save(folder / file)
    return StoredImages(FileStore(folder, files), torch.arange(count) % 5, 3, SIZE)


# ---- Training ----------------------------------------------------------------------------------


def test_an_epoch_is_a_shuffle_without_the_rest() -> None:
    loader = training(numbered(30))
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 3
    seen = torch.cat([batch.index for batch in batches])
    assert len(seen.unique()) == 24
    assert seen.tolist() != sorted(seen.tolist())
    dropped = [
        set(range(30)) - set(torch.cat([b.index for b in loader.epoch(e)]).tolist())
        for e in range(2)
    ]
    assert dropped[0] != dropped[1]  # the rest is another one each epoch


def test_images_are_cropped_and_flipped_by_their_own_uniforms() -> None:
    images = numbered(16)
    for batch in training(images).epoch(5):
        for index, image, label in zip(*batch, strict=True):
            uniform = uniforms(3, 5, index[None], 4)[0]
            top, left = (int(crop_offsets(uniform[k], 5)) for k in (1, 2))
            expected = slow_crop(images.pixels[index], top, left, padding=2)
            if uniform[3] < 0.5:
                expected = expected.flip(-1)
            assert torch.equal(image, expected)
            assert label == images.labels[index]


def test_without_augmentation_pixels_pass_untouched() -> None:
    images = numbered(16)
    for batch in training(images, padding=0, flip=0.0).epoch(0):
        assert batch.images.dtype == torch.uint8
        assert batch.labels.dtype == torch.int64
        assert torch.equal(batch.images, images.pixels[batch.index])


def test_flip_always_and_never() -> None:
    images = numbered(16)
    batch = next(training(images, padding=0, flip=1.0).epoch(0))
    assert torch.equal(batch.images, images.pixels[batch.index].flip(-1))


def test_an_epoch_is_the_same_each_time_and_in_any_order_of_epochs() -> None:
    first, second = training(numbered(30)), training(numbered(30))
    list(second.epoch(9))
    next(second.epoch(1))  # an epoch left in its middle leaves no trace
    assert_same(list(first.epoch(1)), list(second.epoch(1)))


def test_epochs_and_seeds_differ() -> None:
    images = numbered(32)
    orders = {
        tuple(torch.cat([b.index for b in training(images, seed=seed).epoch(epoch)]).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    list(training(numbered(16)).epoch(0))
    list(training(stored(tmp_path, 8)).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_each_batch(world_size: int) -> None:
    images = numbered(30)
    whole = list(training(images).epoch(2))
    parts = [
        list(training(images, rank=rank, world_size=world_size).epoch(2))
        for rank in range(world_size)
    ]
    for number, batch in enumerate(whole):
        for rank, part in enumerate(parts):
            share = slice(rank, None, world_size)
            assert torch.equal(part[number].index, batch.index[share])
            assert torch.equal(part[number].images, batch.images[share])
            assert torch.equal(part[number].labels, batch.labels[share])


@pytest.mark.parametrize("changes", [{}, {"samples_per_class": None}])
def test_the_shuffle_is_the_order_of_the_uniforms(changes: dict[str, object]) -> None:
    order = torch.argsort(uniforms(3, 2, torch.arange(30), 1)[:, 0])
    seen = [batch.index for batch in training(numbered(30), **changes).epoch(2)]
    assert torch.equal(torch.cat(seen), order[:24])


# ---- Batches by class --------------------------------------------------------------------------

BALANCED = (12,) * 10
UNBALANCED = (7, 50, 4, 23, 9, 11)
TINY = (4, 60, 60)


def classed(counts: Sequence[int]) -> MemoryImages:
    """``counts`` images of the classes 0, 2, 4, ..., in some order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)) * 2
    generator = torch.Generator().manual_seed(len(labels))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    return MemoryImages(numbered(len(labels)).pixels, labels)


def epoch_indices(loader: Loader, epoch: int) -> list[list[int]]:
    return [batch.index.tolist() for batch in loader.epoch(epoch)]


def assert_by_class(labels: list[int], batches: list[list[int]], batch_size: int, m: int) -> None:
    """Checks the batches of an epoch with plain loops: sizes, classes of a batch, and passes."""
    assert len(batches) == len(labels) // batch_size
    passes: dict[int, list[int]] = {label: [] for label in labels}
    for batch in batches:
        assert len(set(batch)) == len(batch) == batch_size
        of_class = Counter(labels[index] for index in batch)
        assert set(of_class.values()) == {m}
        assert len(of_class) == batch_size // m
        for index in batch:
            passes[labels[index]].append(index)
    visits = [len(order) // m for order in passes.values()]
    assert max(visits) - min(visits) <= 1
    for label, order in passes.items():
        count = labels.count(label)
        for start in range(0, len(order), count):
            images = order[start : start + count]
            assert len(set(images)) == len(images)


@pytest.mark.parametrize(
    ("counts", "batch_size", "m"),
    [
        (BALANCED, 8, 4),
        (BALANCED, 40, 4),  # every class in every batch
        (BALANCED, 9, 3),
        (BALANCED, 10, 1),
        (BALANCED, 12, 12),  # one class a batch
        (UNBALANCED, 8, 2),
        (UNBALANCED, 16, 4),
        (UNBALANCED, 9, 3),
        (TINY, 8, 4),
        (TINY, 6, 3),
    ],
)
def test_each_batch_holds_as_many_images_of_each_of_its_classes(
    counts: tuple[int, ...], batch_size: int, m: int
) -> None:
    images = classed(counts)
    loader = training(images, batch_size=batch_size, samples_per_class=m)
    for epoch in range(3):
        batches = epoch_indices(loader, epoch)
        assert len(batches) == len(loader)
        assert_by_class(images.labels.tolist(), batches, batch_size, m)


@given(
    counts=st.lists(st.integers(4, 25), min_size=1, max_size=8),
    m=st.integers(1, 4),
    classes=st.integers(1, 8),
    seed=st.integers(-(2**63), 2**63 - 1),
    epoch=st.integers(0, 10_000),
)
@settings(deadline=None)
def test_every_epoch_of_every_set_is_by_class(
    counts: list[int], m: int, classes: int, seed: int, epoch: int
) -> None:
    images = classed(counts)
    batch_size = m * min(classes, len(counts))
    loader = training(images, batch_size=batch_size, samples_per_class=m, seed=seed)
    assert_by_class(images.labels.tolist(), epoch_indices(loader, epoch), batch_size, m)


def test_batches_by_class_are_augmented_like_others() -> None:
    images = classed(UNBALANCED)
    plain = {
        int(index): image
        for batch in training(images, batch_size=1).epoch(4)
        for index, image in zip(batch.index, batch.images, strict=True)
    }
    for batch in training(images, samples_per_class=2).epoch(4):
        assert torch.equal(batch.labels, images.labels[batch.index])
        for index, image in zip(batch.index, batch.images, strict=True):
            assert torch.equal(image, plain[int(index)])


def test_batches_by_class_depend_on_seed_and_epoch_alone() -> None:
    first, second = (training(classed(UNBALANCED), samples_per_class=2) for _ in range(2))
    before = torch.get_rng_state()
    forward = [list(first.epoch(epoch)) for epoch in (0, 1, 2)]
    next(second.epoch(9))  # an epoch left in its middle leaves no trace
    backward = [list(second.epoch(epoch)) for epoch in (2, 1, 0)]
    for one, other in zip(forward, reversed(backward), strict=True):
        assert_same(one, other)
    assert torch.equal(before, torch.get_rng_state())
    orders = {
        str(epoch_indices(training(classed(BALANCED), samples_per_class=2, seed=seed), epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_each_round_and_pass_has_its_own_order() -> None:
    images = classed((8, 200, 200))
    loader = training(images, batch_size=12, samples_per_class=4)
    batches = epoch_indices(loader, 0)
    visits = [images.labels[batch[:3]].tolist() for batch in batches + epoch_indices(loader, 1)]
    assert len({str(labels) for labels in visits}) == 6  # each order of the three classes
    small = [index for batch in batches for index in batch if images.labels[index] == 0]
    passes = [tuple(small[start : start + 8]) for start in range(0, len(small) // 8 * 8, 8)]
    assert len(set(passes)) == len(passes) == 17


def test_images_are_used_evenly_over_epochs() -> None:
    images = classed((30, 5))
    loader = training(images, batch_size=4, samples_per_class=2)
    seen = Counter(
        index for epoch in range(200) for batch in epoch_indices(loader, epoch) for index in batch
    )
    # 8 visits an epoch take 16 images: 16 of 30, or 3.2 times each of 5
    for label, mean in ((0, 200 * 16 / 30), (2, 200 * 16 / 5)):
        used = [seen[int(index)] for index in (images.labels == label).nonzero()]
        assert sum(used) == 200 * 16
        assert max(abs(count - mean) for count in used) < 30


@pytest.mark.parametrize(("world_size", "m"), [(2, 2), (4, 2), (2, 4), (4, 4), (8, 4)])
def test_processes_share_batches_by_class(world_size: int, m: int) -> None:
    images = classed(BALANCED)
    whole = list(training(images, batch_size=16, samples_per_class=m).epoch(1))
    changes = {"batch_size": 16, "samples_per_class": m, "world_size": world_size}
    parts = [list(training(images, rank=rank, **changes).epoch(1)) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts]
        assert all(len(share.index) == 16 // world_size for share in shares)
        for joined, expected in zip(zip(*shares, strict=True), batch, strict=True):
            assert torch.equal(torch.stack(joined, dim=1).flatten(0, 1), expected)
        if 16 // m % world_size == 0:  # then whole classes
            for share in shares:
                assert set(Counter(share.labels.tolist()).values()) == {m}


def test_memory_and_lazy_sets_give_the_same_batches_by_class(tmp_path: Path) -> None:
    lazy = stored(tmp_path, 23)
    memory = StoredImages(lazy.store, lazy.labels, 3, (SIZE, SIZE)).decoded("pictures")
    for rank in (0, 1):
        changes = {"samples_per_class": 2, "rank": rank, "world_size": 2}
        loaders = [training(images, **changes) for images in (lazy, memory)]
        for epoch in (3, 0):
            assert_same(*(list(loader.epoch(epoch)) for loader in loaders))


# ---- Evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 16, 17, 23])
@pytest.mark.parametrize("batch_size", [2, 8])
def test_evaluation_covers_each_image_once(world_size: int, count: int, batch_size: int) -> None:
    images = numbered(count)
    seen: list[int] = []
    for rank in range(world_size):
        loader = evaluation(images, batch_size=batch_size, rank=rank, world_size=world_size)
        batches = list(loader.epoch(0))
        assert len(batches) == len(loader)
        for batch in batches:
            assert 0 < len(batch.index) <= batch_size
            assert torch.equal(batch.images, images.pixels[batch.index])
            assert torch.equal(batch.labels, images.labels[batch.index])
            seen += batch.index.tolist()
    assert sorted(seen) == list(range(count))
    if world_size == 1:
        assert seen == sorted(seen)


def test_evaluation_crops_large_images_at_the_centre(tmp_path: Path) -> None:
    images = stored(tmp_path, 3, size=(8, 12))
    batch = next(evaluation(images).epoch(0))
    for index, image in zip(batch.index, batch.images, strict=True):
        assert torch.equal(image, images.image(int(index))[:, :, 2:10])


# ---- Workers -----------------------------------------------------------------------------------


def test_memory_and_lazy_sets_give_the_same_batches(tmp_path: Path) -> None:
    lazy = stored(tmp_path, 20)
    memory = StoredImages(lazy.store, lazy.labels, 3, (SIZE, SIZE)).decoded("pictures")
    for epoch in (0, 3):
        assert_same(list(training(lazy).epoch(epoch)), list(training(memory).epoch(epoch)))
    assert_same(list(evaluation(lazy).epoch(0)), list(evaluation(memory).epoch(0)))


def test_workers_give_the_same_batches_and_one_line_of_error(tmp_path: Path) -> None:
    lazy = stored(tmp_path, 20)
    loader = training(lazy, workers=2)
    expected = training(lazy)
    next(loader.epoch(0))  # an epoch left in its middle
    for epoch in (4, 1):
        assert_same(list(loader.epoch(epoch)), list(expected.epoch(epoch)))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match=r"\d\.png: the image is truncated") as caught:
        list(loader.epoch(2))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_workers_read_parquet(mnist_root: Path) -> None:
    from ccloss.data.sources import load

    found = load("mnist", data_root=mnist_root, image_size=80, train_limit=30, test_limit=10)
    batches = [
        list(training(found.train, image_size=80, workers=workers).epoch(0)) for workers in (0, 1)
    ]
    assert_same(*batches)


def test_large_images_are_cropped_to_size(tmp_path: Path) -> None:
    images = stored(tmp_path, 8, size=(9, 13))
    batch = next(training(images).epoch(0))
    assert batch.images.shape == (8, 3, SIZE, SIZE)


# ---- Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 17}, "batch_size 17 is more than the 16 images"),
        ({"batch_size": 9, "world_size": 2}, "batch_size 9 must be divisible by the 2 processes"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to world_size - 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"flip": 1.5}, "flip in"),
        ({"image_size": 9}, "image_size 9 differs from the 8x8 images in memory"),
        ({"samples_per_class": 0}, "samples_per_class must be at least 1, got 0"),
        ({"samples_per_class": -2}, "samples_per_class must be at least 1, got -2"),
        ({"samples_per_class": 3}, "batch_size 8 must be divisible by samples_per_class 3"),
        ({"samples_per_class": 1}, "needs 8 classes, but the images have 5; lower batch_size"),
        (
            {"samples_per_class": 4},
            r"samples_per_class 4 is more than the images of 4 of 5 classes \(class 1 has 3, "
            r"class 2 has 3, class 3 has 3, class 4 has 3\); lower it",
        ),
    ],
)
def test_arguments_are_checked(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        training(numbered(16), **changes)


def test_many_small_classes_are_named_in_part() -> None:
    with pytest.raises(InputError, match=r"8 of 9 classes .* class 8 has 1, and 3 more\);"):
        training(classed([1] * 8 + [8]), samples_per_class=2)


def test_an_image_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    images = stored(tmp_path, 8)
    with pytest.raises(InputError, match=r"\d\.png: the image is smaller than image_size 9"):
        list(training(images, image_size=9).epoch(0))


def test_a_missing_file_in_evaluation_is_named(
    class_folders: Callable[..., Path],
) -> None:
    from ccloss.data.sources import load

    counts = {"a": 1, "b": 1}
    root = class_folders({"train": counts, "test": counts}, (70, 70))
    found = load(f"folder:{root}", image_size=66)
    gone = Path(found.test.location(1))
    gone.unlink()
    with pytest.raises(InputError, match="the image is missing") as caught:
        list(evaluation(found.test, image_size=66).epoch(0))
    assert str(gone) in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_sees_the_same_batches(tmp_path: Path) -> None:
    for images in (numbered(30), stored(tmp_path, 20)):
        found = list(training(images, device="cuda").epoch(1))
        assert all(batch.images.is_cuda and batch.labels.is_cuda for batch in found)
        moved = [Batch(b.index, b.images.cpu(), b.labels.cpu()) for b in found]
        assert_same(moved, list(training(images).epoch(1)))
    index = torch.arange(1_000)
    assert torch.equal(uniforms(1, 2, index.cuda(), 4).cpu(), uniforms(1, 2, index, 4))
