"""Image sets: decoding, conversion, resizing, errors that name the place, numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import picture

from ccloss.data.images import (
    ArrayStore,
    FileStore,
    LazyImages,
    MemoryImages,
    fingerprint,
    statistics,
    untracked,
)
from ccloss.errors import InputError


def saved(folder: Path, *pictures: Image.Image) -> FileStore:
    files = []
    for number, image in enumerate(pictures):
        files.append(folder / f"{number}.png")
        image.save(files[-1])
    return FileStore(tuple(files))


def lazy(store: FileStore, channels: int, size: int | tuple[int, int] | None = None) -> LazyImages:
    return LazyImages(store, torch.zeros(len(store), dtype=torch.int64), channels, size)


def test_pixels_are_those_stored(tmp_path: Path) -> None:
    colour = picture(0, (5, 7), "RGB")
    images = lazy(saved(tmp_path, colour), 3)
    assert images.image(0).dtype == torch.uint8
    assert torch.equal(images.image(0), torch.tensor(np.array(colour)).permute(2, 0, 1))


def test_gray_is_replicated_and_colour_becomes_luma(tmp_path: Path) -> None:
    gray, colour = picture(0, (5, 7)), picture(1, (5, 7), "RGB")
    store = saved(tmp_path, gray, colour)
    assert torch.equal(lazy(store, 3).image(0), torch.tensor(np.array(gray)).expand(3, 5, 7))
    weights = np.array([0.299, 0.587, 0.114])
    luma = lazy(store, 1).image(1)[0].numpy()
    assert np.abs(luma - np.array(colour) @ weights).max() <= 1


def test_palette_with_transparency_needs_no_warning(tmp_path: Path) -> None:
    image = picture(0, (4, 4), "RGB").quantize(4)
    image.info["transparency"] = bytes([0, 255, 255, 255])
    image.save(tmp_path / "p.png", transparency=bytes([0, 255, 255, 255]))
    images = lazy(FileStore((tmp_path / "p.png",)), 3)
    colours = torch.tensor(np.array(image.convert("RGBA")))[..., :3]
    assert torch.equal(images.image(0), colours.permute(2, 0, 1))


def test_resize_of_the_short_side_keeps_the_shape(tmp_path: Path) -> None:
    images = lazy(saved(tmp_path, picture(0, (40, 60)), picture(1, (60, 40))), 1, size=20)
    assert images.image(0).shape == (1, 20, 30)
    assert images.image(1).shape == (1, 30, 20)


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (32, 16)))
    images = lazy(saved(tmp_path, stripes), 1, size=(8, 8))
    assert (images.image(0)[0, :, 1:-1].float() - 127.5).abs().max() < 20


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "corrupt or truncated"),
        (lambda data: b"not an image", "corrupt or truncated"),
        (lambda data: b"", "corrupt or truncated"),
    ],
)
def test_a_broken_file_is_named_in_one_line(
    tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    store = saved(tmp_path, picture(0), picture(1))
    store.files[1].write_bytes(damage(store.files[1].read_bytes()))
    images = lazy(store, 1, (28, 28))
    images.image(0)
    with pytest.raises(InputError, match=words) as caught:
        images.decoded("pictures")
    assert "1.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_deep_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: the image is missing"):
        lazy(FileStore((tmp_path / "gone.png",)), 1).image(0)
    store = saved(tmp_path, Image.fromarray(np.full((3, 3), 60_000, dtype=np.uint16)))
    with pytest.raises(InputError, match=r"0\.png: the image has mode I;16"):
        lazy(store, 1).image(0)


def test_decoded_equals_lazy_and_reports_progress(tmp_path: Path) -> None:
    images = lazy(saved(tmp_path, *(picture(k, (9, 12)) for k in range(4))), 1, (8, 8))
    seen: list[object] = []

    def track(iterable, description, total):  # type: ignore[no-untyped-def]
        seen.extend([description, total])
        return untracked(iterable, description, total)

    memory = images.decoded("four pictures", track)
    assert seen == ["four pictures", 4]
    assert memory.pixels.shape == (4, 1, 8, 8)
    assert all(torch.equal(memory.image(k), images.image(k)) for k in range(4))
    assert fingerprint(memory) == fingerprint(images)


def test_subset_keeps_the_given_order(tmp_path: Path) -> None:
    store = saved(tmp_path, *(picture(k, (6, 6)) for k in range(4)))
    images = LazyImages(store, torch.arange(4), 1, (6, 6))
    chosen = torch.tensor([3, 1])
    part = images.subset(chosen).subset(torch.tensor([1, 0]))
    assert part.labels.tolist() == [1, 3]
    assert part.place(0).endswith("1.png")
    assert torch.equal(part.image(1), images.image(3))
    assert fingerprint(images.decoded("").subset(chosen)) == fingerprint(images.subset(chosen))


def test_fingerprint_sees_pixels_labels_and_order() -> None:
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


def test_statistics_of_a_large_lazy_set_take_equal_steps() -> None:
    arrays = np.zeros((4_000, 1, 1), dtype=np.uint8)
    arrays[::2] = 255  # every second image: all that the sample of 2,000 sees
    images = LazyImages(ArrayStore("dots", arrays), torch.zeros(4_000, dtype=torch.int64), 1)
    assert statistics(images) == ((1.0,), (0.0,))


def test_wrong_tensors_are_refused() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match="pixels must be"):
        MemoryImages(torch.zeros(2, 1, 4, 4), labels)
    with pytest.raises(InputError, match="labels must be"):
        MemoryImages(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), labels)
    with pytest.raises(InputError, match="channels must be"):
        LazyImages(FileStore(()), labels[:0], 2)
    with pytest.raises(InputError, match="size must be"):
        LazyImages(FileStore(()), labels[:0], 1, 8).decoded("")
