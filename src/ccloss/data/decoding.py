"""Decoding: from stored bytes to uint8 tensors.

JPEG and PNG files without transparency are decoded by torchvision, all others by Pillow. Both
link libjpeg-turbo and libpng and give the same pixels. Resizing the short side uses torchvision
and differs from Pillow by at most 1 of 255 levels. A JPEG file whose short side is at least twice
the requested one is decoded at reduced size, which changes pixels more: see ``REDUCED_MEAN``.

EXIF orientation is applied. Transparent pixels are composited on white. ICC profiles are not
applied: pixel values are used as they are stored.
"""

import os
import warnings
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ccloss.data.stores import Pixels, Store
from ccloss.errors import InputError

MAX_ASPECT_RATIO = 100
"""Largest ratio of the sides of an image. Resizing the short side of longer images fills memory."""

REDUCED_MEAN = 3.0
"""Bound on the mean difference, in levels of 255, that reduced-size decoding makes on photographs.
"""

MAX_PIXELS_VARIABLE = "CCLOSS_MAX_PIXELS"

_ORIENTATION = 0x0112  # EXIF tag
_MODES = {1: "L", 3: "RGB"}
GRAY_MODES = ("1", "L", "LA")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

Size = int | tuple[int, int] | None
"""Length of the short side, (height, width), or the stored size."""


class ImageWarning(UserWarning):
    """A decoder reports a defect of a file that it can still read."""


class Header(NamedTuple):
    """What the first bytes of an image say about it.

    Attributes:
        width: In pixels, before EXIF orientation.
        height: In pixels, before EXIF orientation.
        mode: Pillow's name of the pixel format.
        warnings: Messages of the decoder.
    """

    width: int
    height: int
    mode: str
    warnings: tuple[str, ...] = ()


def read_content(store: Store, row: int) -> bytes | Pixels:
    """The stored form of an image.

    Raises:
        InputError: The file is missing or cannot be read. The message names it.
    """
    try:
        return store.read(row)
    except OSError as error:
        raise InputError(f"{store.location(row)}: {_reason(error)}") from None


def inspect(content: bytes | Pixels, location: str) -> Header:
    """Reads the header of an image without decoding its pixels.

    Raises:
        InputError: The image cannot be decoded, or has a format or shape that is not supported.
    """
    if isinstance(content, np.ndarray):
        return Header(content.shape[1], content.shape[0], "L" if content.ndim == 2 else "RGB")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = _open(content, location)
        _orientation(image)
    messages = tuple(" ".join(str(warning.message).split()) for warning in caught)
    return Header(*image.size, image.mode, messages)


def decode(
    content: bytes | Pixels | Image.Image, location: str, channels: int, size: Size = None
) -> Tensor:
    """Decodes an image.

    Args:
        content: Encoded bytes, pixels as (H, W) or (H, W, 3) uint8, or an image of Pillow.
        location: Name of the file or row, for messages.
        channels: 1 converts color to gray (ITU-R 601 luma), 3 replicates gray.
        size: Antialiased bilinear resize of the short side, or to (height, width).

    Returns:
        (channels, H, W) uint8. The layout in memory is that of the decoder, usually channels last,
        which torchvision resizes fastest.

    Raises:
        InputError: The image is corrupt, truncated or of an unsupported format.
    """
    if isinstance(content, np.ndarray):
        pixels = _from_array(content)
    elif isinstance(content, Image.Image):
        pixels = _pillow_pixels(_checked(content, location), location, None)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `inspect` has reported what the header causes
            image = _open(content, location)
        fast = _torchvision_pixels(image, content) if not _is_reducible(image, size) else None
        pixels = _pillow_pixels(image, location, size) if fast is None else fast
    return _resized(_with_channels(pixels, channels), size)


# ---- Opening -----------------------------------------------------------------------------------


def _open(content: bytes, location: str) -> Image.Image:
    """Opens an image and checks its format and shape; its pixels are decoded later."""
    _apply_pixel_limit()
    try:
        image = Image.open(BytesIO(content))
    except UnidentifiedImageError:
        what = "is not an image that Pillow can read" if content else "is empty"
        raise InputError(f"{location}: the file {what}; replace or remove it") from None
    except Exception as error:  # damaged files make decoders raise nearly anything
        raise InputError(f"{location}: {_reason(error)}") from error
    return _checked(image, location)


def _checked(image: Image.Image, location: str) -> Image.Image:
    """The image if its format and shape are supported."""
    if image.mode == "F" or image.mode.startswith("I"):
        raise InputError(
            f"{location}: the image has mode {image.mode}; save it with 8 bits per channel"
        )
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise InputError(
            f"{location}: the image has {image.width} x {image.height} pixels, and one side may be "
            f"at most {MAX_ASPECT_RATIO} times the other; crop or remove it"
        )
    return image


def _apply_pixel_limit() -> None:
    limit = os.environ.get(MAX_PIXELS_VARIABLE)
    if limit is not None:
        if not limit.isdecimal() or not int(limit):
            raise InputError(f"{MAX_PIXELS_VARIABLE} must be a positive integer, got {limit!r}")
        Image.MAX_IMAGE_PIXELS = int(limit) // 2  # Pillow warns at half of what it rejects


def _reason(error: Exception) -> str:
    """What is wrong with an image, and what to do about it."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "the image is missing; restore the file"
    if isinstance(error, IsADirectoryError):
        return "this is a folder and not an image; remove it from the list of images"
    if isinstance(error, PermissionError):
        return "permission to read the image is denied; change the permissions of the file"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return (
            f"the image has more than {limit:,} pixels; shrink it, or raise the limit with the "
            f"environment variable {MAX_PIXELS_VARIABLE}"
        )
    if "MAX_TEXT" in text or "text chunk" in text.casefold():
        return "a text chunk of the image is too large; save the image without its metadata"
    if "truncated" in text or isinstance(error, EOFError):
        return "the image is truncated; restore or remove it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the image cannot be read ({error.strerror}); check the disk"
    return f"the image is corrupt ({type(error).__name__}); restore or remove it"


# ---- Pixels ------------------------------------------------------------------------------------


def _from_array(array: Pixels) -> Tensor:
    """(H, W) or (H, W, C) as (C, H, W), a copy with the layout in memory of the array."""
    tensor = torch.from_numpy(np.array(array))
    return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def _is_reducible(image: Image.Image, size: Size) -> bool:
    return image.format == "JPEG" and isinstance(size, int) and min(image.size) >= 2 * size


def _torchvision_pixels(image: Image.Image, content: bytes) -> Tensor | None:
    """(1 or 3, H, W) uint8, or ``None`` if Pillow has to decode the image."""
    if image.format not in ("JPEG", "PNG") or image.mode not in ("L", "RGB"):
        return None
    if "transparency" in image.info or getattr(image, "n_frames", 1) > 1:
        return None
    try:
        with warnings.catch_warnings():
            # Deprecated in favor of torchcodec. Without these decoders Pillow is used.
            warnings.simplefilter("ignore", DeprecationWarning)
            from torchvision.io import decode_image

            pixels: Tensor = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    except (RuntimeError, ImportError):
        return None  # Pillow decodes the image or reports what is wrong with it
    if pixels.dtype != torch.uint8 or len(pixels) != len(image.getbands()):
        return None
    return _oriented(pixels, _orientation(image))


def _pillow_pixels(image: Image.Image, location: str, size: Size) -> Tensor:
    """(1 or 3, H, W) uint8."""
    if isinstance(size, int) and _is_reducible(image, size):
        image.draft(image.mode, (size, size))  # the smallest scale with both sides >= size
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            image.load()
            orientation = _orientation(image)  # after load: TIFF files are then oriented already
            pixels = _from_array(np.asarray(_opaque(image)))
        except Exception as error:
            raise InputError(f"{location}: {_reason(error)}") from error
    for warning in caught:
        message = " ".join(str(warning.message).split())
        warnings.warn(f"{location}: {message}", ImageWarning, stacklevel=4)
    return _oriented(pixels, orientation)


def _opaque(image: Image.Image) -> Image.Image:
    """The image as gray or RGB; transparent pixels are composited on white."""
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        gray = image.mode in GRAY_MODES
        return Image.alpha_composite(white, layer).convert("L" if gray else "RGB")
    return image.convert("L" if image.mode in GRAY_MODES else "RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Damaged EXIF data count as 1."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1  # `getexif` would decode the pixels of a PNG file
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the parser raises many types on damaged data
        return 1


def _oriented(pixels: Tensor, orientation: int) -> Tensor:
    """(C, H, W) turned upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    flips = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return pixels.flip(flips) if flips else pixels


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return pixels.expand(3, -1, -1).contiguous()
    red, green, blue = pixels.to(torch.int32)  # Pillow's conversion to gray, in integers
    luma: Tensor = (19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16
    return luma.to(torch.uint8)[None]


def _resized(pixels: Tensor, size: Size) -> Tensor:
    height, width = pixels.shape[1:]
    if size is None or size == (height, width):
        return pixels
    if isinstance(size, tuple):
        mode = _MODES[len(pixels)]
        array = pixels.permute(1, 2, 0).squeeze(2).contiguous().numpy()
        image = Image.fromarray(array, mode=None)
        assert image.mode == mode
        return _from_array(np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)))
    short = min(height, width)
    target = [round(height * size / short), round(width * size / short)]
    if target == [height, width]:
        return pixels
    from torchvision.transforms.v2 import functional

    resized: Tensor = functional.resize(pixels, target, antialias=True)
    return resized
