"""Which images are held out, and which are used when their number is limited."""

import torch
from torch import Tensor

from ccloss.data.augment import uniforms
from ccloss.data.images import ImageSet
from ccloss.errors import InputError


def hold_out(images: ImageSet, fraction: float, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Splits off about a fraction of the images: (train, validation).

    Each image is chosen by the seed and a hash: of the pixels for images in memory, else of the
    relative path, or of the content without a path. The choice for one image does not depend on
    the others, so adding or removing images moves no other image. Both parts keep the order of
    ``images``.

    Raises:
        InputError: ``fraction`` is not in (0, 1), or one of the parts is empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction must be above 0 and below 1, got {fraction}")
    held = held_out(images.keys, fraction, seed)
    if held.all() or not held.any():
        raise InputError(
            f"fraction {fraction} of {len(images)} images leaves no image in one of the two parts; "
            "use more images or another fraction"
        )
    return images.subset(torch.where(~held)[0]), images.subset(torch.where(held)[0])


def held_out(keys: Tensor, fraction: float, seed: int) -> Tensor:
    """(N,) bool, true for the images that are held out.

    Args:
        keys: (N,) int64 hashes, see :attr:`ccloss.data.images.ImageSet.keys`.
        fraction: Probability of an image to be held out.
        seed: Chooses another part.
    """
    return uniforms(seed, 0, keys, 1)[:, 0] < fraction


def balanced(labels: Tensor, count: int) -> Tensor:
    """(N,) bool, true for ``count`` images, as equally many of each class as possible."""
    rank = _rank_within_class(labels)
    classes = labels.max() + 1
    order = torch.argsort(rank * classes + labels, stable=True)  # rank 0 of each class, rank 1, ...
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen


def _rank_within_class(labels: Tensor) -> Tensor:
    """(N,) int64, the rank 0, 1, ... of each image in a fixed shuffle of its class."""
    shuffled = torch.argsort(uniforms(0, 0, torch.arange(len(labels)), 1)[:, 0], stable=True)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return rank
