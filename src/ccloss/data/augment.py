"""Counter-based random numbers, and the random crops and flips that use them.

Each number depends on (seed, epoch, sample index) only. There is no state: a resumed run, another
batch size, another number of processes or workers, and CPU or CUDA give the same number for the
same sample in the same epoch.
"""

import torch
from torch import Tensor

from ccloss.errors import InputError

# splitmix64 (Steele, Lea, Flood 2014); the unsigned constants as int64 with the same bits
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)

# The use of each column of random numbers. The rows of CLASS_ORDER are classes, those of MIX
# batches, all others samples.
ORDER, TOP, LEFT, FLIP, CLASS_ORDER, TRANSFORM, MIX = range(7)


def uniforms(seed: int, epoch: int, indices: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), a pure function of (seed, epoch, index, column).

    Args:
        seed: Any 64-bit integer.
        epoch: Any 64-bit integer.
        indices: (N,) int64 sample indices.
        count: Number of columns.

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
    """The finalizer of splitmix64. Products of int64 wrap around like unsigned ones."""
    bits = (bits ^ _shift(bits, 30)) * _MIX_1
    bits = (bits ^ _shift(bits, 27)) * _MIX_2
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical right shift. The shift of int64 would repeat the sign bit."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def crop_offsets(uniform: Tensor, positions: int) -> Tensor:
    """Offsets in [0, positions), int64, from uniform numbers of any shape."""
    return (uniform * positions).long()


def random_crop(images: Tensor, offsets_y: Tensor, offsets_x: Tensor, padding: int) -> Tensor:
    """Pads images with zeros on every side and crops each at its own offset to the original size.

    Args:
        images: (N, C, H, W) uint8.
        offsets_y: (N,) int64 in [0, 2 padding]; ``padding`` keeps the image where it is.
        offsets_x: (N,) int64 in [0, 2 padding].
        padding: Pixels of zeros on every side.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        InputError: ``images`` is not (N, C, H, W), or an offset count differs from N.
    """
    if images.ndim != 4 or not offsets_y.shape == offsets_x.shape == images.shape[:1]:
        raise InputError(
            f"images must be (N, C, H, W) with N offsets per axis, got {tuple(images.shape)}, "
            f"{tuple(offsets_y.shape)} and {tuple(offsets_x.shape)}"
        )
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    # All crops of all images as a view, [N, C, 2p + 1, 2p + 1, H, W]; indexing selects one each.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, offsets_y, offsets_x]


def random_flip(images: Tensor, mask: Tensor) -> Tensor:
    """Flips horizontally the images, (N, C, H, W), for which the mask, (N,) bool, is true."""
    return torch.where(mask[:, None, None, None], images.flip(-1), images)


def augment_one(image: Tensor, uniform: Tensor, size: int, padding: int, flip: float) -> Tensor:
    """Pads one image with zeros, crops it at random to ``size``, and flips it at random.

    Args:
        image: (C, H, W) uint8 with H, W >= size.
        uniform: One row of :func:`uniforms` with the columns ORDER, TOP, LEFT, FLIP.
        size: Height and width of the crop in pixels.
        padding: Pixels of zeros on every side.
        flip: Probability of a horizontal flip.

    Returns:
        (C, size, size) uint8. For H = W = size it equals the result of :func:`random_crop` and
        :func:`random_flip`.
    """
    from torchvision.transforms.v2 import functional

    height, width = image.shape[1:]
    top = int(crop_offsets(uniform[TOP], height + 2 * padding - size + 1))
    left = int(crop_offsets(uniform[LEFT], width + 2 * padding - size + 1))
    # The crop of torchvision pads with zeros outside of the image.
    cropped: Tensor = functional.crop(image, top - padding, left - padding, size, size)
    return cropped.flip(-1) if uniform[FLIP] < flip else cropped


def center_crop(image: Tensor, size: int) -> Tensor:
    """The central (C, size, size) part of a (C, H, W) image."""
    from torchvision.transforms.v2 import functional

    cropped: Tensor = functional.center_crop(image, [size, size])
    return cropped
