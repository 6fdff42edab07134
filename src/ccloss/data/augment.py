"""Random draws that depend on (seed, epoch, sample index) alone, and what they drive.

Nothing here has a state: a resumed run, another batch size, another number of processes or
workers, CPU or CUDA see the same draw for the same sample in the same epoch.
"""

import torch
from torch import Tensor

from ccloss.errors import InputError

# splitmix64 (Steele, Lea, Flood 2014), its unsigned constants as the int64 of the same bits
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)

# what each column of a training epoch's draws is for; ROUND's rows are classes, not samples
ORDER, TOP, LEFT, FLIP, ROUND = range(5)


def draws(seed: int, epoch: int, indices: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), a pure function of (seed, epoch, index, column).

    Args:
        seed: any integer of 64 bits.
        epoch: any integer of 64 bits.
        indices: (N,) int64 sample indices.
        count: columns.

    Returns:
        (N, count) float64 on the device of ``indices``, each with 53 random bits.
    """
    key = torch.tensor(seed, dtype=torch.int64, device=indices.device)
    key = _mix(_mix(key + _GAMMA) + epoch)
    stream = _mix(_mix(key + _GAMMA) + indices)  # (N,)
    columns = torch.arange(1, count + 1, device=indices.device)
    bits = _mix(stream[:, None] + columns * _GAMMA)  # (N, count)
    return _shift(bits, 11).double() * 2.0**-53


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of splitmix64; int64 products wrap around as unsigned ones do."""
    bits = (bits ^ _shift(bits, 30)) * _MIX_1
    bits = (bits ^ _shift(bits, 27)) * _MIX_2
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical right shift: int64's own shift would carry the sign in from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def crop_offsets(uniform: Tensor, positions: int) -> Tensor:
    """Offsets in [0, positions) of any shape, int64, from uniform draws of that shape."""
    return (uniform * positions).long()


def random_crop(images: Tensor, offsets_y: Tensor, offsets_x: Tensor, padding: int) -> Tensor:
    """Pads with zeros on every side, then cuts each image at its own offset to its old size.

    Args:
        images: (N, C, H, W) uint8.
        offsets_y: (N,) int64 in [0, 2 padding]; ``padding`` leaves the image in place.
        offsets_x: (N,) int64 in [0, 2 padding].
        padding: pixels of zeros on every side.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        InputError: ``images`` is not (N, C, H, W), or an offset count differs from N.
    """
    if images.ndim != 4 or not offsets_y.shape == offsets_x.shape == images.shape[:1]:
        raise InputError(
            f"images must be (N, C, H, W) with N offsets each way, got {tuple(images.shape)}, "
            f"{tuple(offsets_y.shape)} and {tuple(offsets_x.shape)}"
        )
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    # every crop of every image as a view, (N, C, 2p + 1, 2p + 1, H, W); one gather picks ours
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, offsets_y, offsets_x]


def random_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirrors left and right the images whose mask is true: (N, C, H, W) and (N,) bool."""
    return torch.where(mask[:, None, None, None], images.flip(-1), images)


def augment_one(image: Tensor, uniform: Tensor, size: int, padding: int, flip: float) -> Tensor:
    """Zero pad, random crop to ``size``, random flip of one image larger than the crop.

    Args:
        image: (C, H, W) uint8 with H, W >= size.
        uniform: one row of :func:`draws` with the columns ORDER, TOP, LEFT, FLIP.
        size: height and width of the crop in pixels.
        padding: pixels of zeros on every side.
        flip: probability of a left-right flip.

    Returns:
        (C, size, size) uint8; for H = W = size what :func:`random_crop` and :func:`random_flip`
        give.
    """
    from torchvision.transforms.v2 import functional

    height, width = image.shape[1:]
    top = int(crop_offsets(uniform[TOP], height + 2 * padding - size + 1))
    left = int(crop_offsets(uniform[LEFT], width + 2 * padding - size + 1))
    # torchvision's crop fills with zeros what lies outside the image: pad and crop in one step
    cropped: Tensor = functional.crop(image, top - padding, left - padding, size, size)
    return cropped.flip(-1) if uniform[FLIP] < flip else cropped


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The central (C, size, size) of a (C, H, W) image."""
    from torchvision.transforms.v2 import functional

    cropped: Tensor = functional.center_crop(image, [size, size])
    return cropped
