"""Decoding: every file kind compared with Pillow, and a message for every defect."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin
from tiny_data import encoded, picture

from ccloss.data.decoding import REDUCED_MEAN, decode, inspect, read_content
from ccloss.data.stores import FileStore
from ccloss.errors import InputError


def tensor(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1)


def photograph(height: int, width: int) -> Image.Image:
    """A smooth color image with some noise."""
    y, x = np.mgrid[0:height, 0:width] / 100
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    channels = [128 + 100 * np.sin(y * (k + 1) + 3 * x) for k in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, -1) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_equal_those_of_pillow(kind: str, mode: str) -> None:
    data = encoded(picture(0, (21, 34), mode), kind)
    with Image.open(io.BytesIO(data)) as image:
        expected = tensor(image.convert("RGB"))
    assert torch.equal(decode(data, "x", 3), expected)


def test_gray_is_replicated_and_color_becomes_the_luma_of_pillow() -> None:
    gray, color = picture(0, (5, 7)), picture(1, (40, 60), "RGB")
    assert torch.equal(decode(encoded(gray), "x", 3), tensor(gray).expand(3, 5, 7))
    assert torch.equal(decode(encoded(color), "x", 1), tensor(color.convert("L")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    image = photograph(24, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        stored.load()
        expected = tensor(ImageOps.exif_transpose(stored).convert("RGB"))
    assert expected.shape[1:] == ((24, 40) if orientation < 5 else (40, 24))
    assert torch.equal(decode(data, "x", 3), expected)


def test_transparency_is_composited_on_white() -> None:
    alpha = picture(1, (6, 6))
    layer = picture(0, (6, 6), "RGB")
    layer.putalpha(alpha)
    weight = tensor(alpha).double() / 255
    expected = tensor(layer.convert("RGB")) * weight + 255 * (1 - weight)
    found = decode(encoded(layer), "x", 3).double()
    assert (found - expected).abs().max() <= 1
    black = Image.new("LA", (4, 4), (0, 0))  # a black glyph's background, fully transparent
    assert (decode(encoded(black), "x", 1) == 255).all()
    palette = picture(0, (4, 4), "RGB").quantize(4)
    data = encoded(palette, transparency=bytes([0, 255, 255, 255]))
    is_hidden = torch.from_numpy(np.array(palette)) == 0
    assert (decode(data, "x", 3)[:, is_hidden] == 255).all()


def test_resizing_differs_from_pillow_by_at_most_one_level() -> None:
    image = photograph(90, 150)
    for size in (50, 64, 120):
        found = decode(encoded(image), "x", 3, size)
        expected = image.resize((round(150 * size / 90), size), Image.Resampling.BILINEAR)
        assert found.shape[1:] == (size, expected.width)
        assert (found.int() - tensor(expected).int()).abs().max() <= 1
    exact = image.resize((8, 8), Image.Resampling.BILINEAR)
    assert torch.equal(decode(encoded(image), "x", 3, (8, 8)), tensor(exact))


def test_reduced_size_decoding_stays_within_its_bound() -> None:
    image = photograph(525, 700)
    for scale in (2, 3, 5):
        size = 525 // scale
        data = encoded(image, "JPEG", quality=90)
        found = decode(data, "x", 3, size)
        full = decode(data, "x", 3)
        expected = Image.fromarray(full.permute(1, 2, 0).numpy()).resize(
            found.shape[:0:-1], Image.Resampling.BILINEAR
        )
        difference = (found.int() - tensor(expected).int()).abs().double()
        assert 0 < difference.mean() < REDUCED_MEAN


def test_the_header_agrees_with_the_image() -> None:
    data = encoded(picture(0, (5, 9), "RGB"), "JPEG")
    assert inspect(data, "x")[:3] == (9, 5, "RGB")
    assert inspect(np.zeros((5, 9), dtype=np.uint8), "x").mode == "L"


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (2 << 20), zip=True)
    return encoded(picture(0), pnginfo=info)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"not an image", "is not an image that Pillow can read"),
        (encoded(picture(0))[:200], "is truncated"),
        (encoded(photograph(64, 64), "JPEG")[:900], "is truncated"),
        (encoded(Image.fromarray(np.full((3, 3), 60_000, np.uint16))), "has mode I;16"),
        (encoded(Image.new("L", (20_000, 1))), "20000 x 1 pixels, and one side may be at most 100"),
        (text_bomb(), "a text chunk of the image is too large"),
    ],
)
def test_a_defect_is_named_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        decode(data, "cat/1.png", 3, 64)
    assert str(caught.value).startswith("cat/1.png: ")
    assert "\n" not in str(caught.value)


def test_too_many_pixels_are_rejected_and_the_limit_can_be_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restored afterwards
    data = encoded(picture(0, (30, 30)))
    monkeypatch.setenv("CCLOSS_MAX_PIXELS", "800")
    with pytest.raises(InputError, match=r"more than 800 pixels; .*CCLOSS_MAX_PIXELS"):
        decode(data, "x", 1)
    monkeypatch.setenv("CCLOSS_MAX_PIXELS", "2000")
    assert decode(data, "x", 1).shape == (1, 30, 30)
    monkeypatch.setenv("CCLOSS_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="CCLOSS_MAX_PIXELS must be a positive integer"):
        decode(data, "x", 1)


def test_missing_files_folders_and_permissions_have_their_own_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.png").mkdir()
    store = FileStore(tmp_path, ("gone.png", "folder.png", "secret.png"))
    with pytest.raises(InputError, match=r"gone\.png: the image is missing"):
        read_content(store, 0)
    with pytest.raises(InputError, match=r"folder\.png: this is a folder"):
        read_content(store, 1)
    picture(0).save(tmp_path / "secret.png")
    if os.geteuid() == 0:  # permissions do not bind the administrator

        def deny(self: FileStore, row: int) -> bytes:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(FileStore, "read", deny)
    else:
        (tmp_path / "secret.png").chmod(0)
    with pytest.raises(InputError, match=r"secret\.png: permission to read"):
        read_content(store, 2)
