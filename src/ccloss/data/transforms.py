"""Random transforms of torchvision. Their draws depend on (seed, epoch, sample or batch) only."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ccloss.data.augment import MIX, TRANSFORM, augment_one, uniforms


@dataclass(frozen=True)
class Transforms:
    """Transforms of single images beyond a padded crop and a flip.

    Attributes:
        resized_crop: smallest area of a random resized crop as a fraction of the image, which
            replaces the padded crop; ``None``: no such crop.
        trivial_augment: whether TrivialAugment (Müller and Hutter, 2021) is applied.
        erasing: probability that a random rectangle is set to 0.
    """

    resized_crop: float | None = None
    trivial_augment: bool = False
    erasing: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.resized_crop or self.trivial_augment or self.erasing)

    def apply(self, image: Tensor, uniform: Tensor, size: int, padding: int, flip: float) -> Tensor:
        """Crops, flips and transforms one image.

        Args:
            image: (C, H, W) uint8.
            uniform: one row of :func:`~ccloss.data.augment.uniforms` with the column TRANSFORM.
            size: height and width of the result in pixels.
            padding: pixels of zeros on every side before the crop.
            flip: probability of a horizontal flip.

        Returns:
            (C, size, size) uint8.
        """
        from torchvision.transforms import v2

        with _seeded(uniform[TRANSFORM]):
            if self.resized_crop:
                image = v2.RandomResizedCrop(size, scale=(self.resized_crop, 1.0))(image)
                padding = 0
            image = augment_one(image, uniform, size, padding, flip)
            if self.trivial_augment:
                image = v2.TrivialAugmentWide()(image)
            return v2.RandomErasing(self.erasing)(image) if self.erasing else image


NO_TRANSFORMS = Transforms()


class Mixing:
    """Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of batches.

    With both, each batch is mixed by one of them, with equal probability.

    Args:
        num_classes: K.
        mixup: parameter of the beta distribution of mixup; 0: no mixup.
        cutmix: parameter of the beta distribution of CutMix; 0: no CutMix.
        seed: of the run.
    """

    def __init__(self, num_classes: int, mixup: float, cutmix: float, seed: int) -> None:
        from torchvision.transforms import v2

        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._transforms = [
            kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha
        ]
        self._seed = seed

    def __call__(
        self, images: Tensor, labels: Tensor, epoch: int, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Mixes each image with the one before it.

        Args:
            images: (N, C, H, W) floats.
            labels: (N,) int64.
            epoch: number of the epoch.
            batch: number of the batch in the epoch.

        Returns:
            (N, C, H, W) images and (N, K) rows of probabilities.
        """
        uniform = uniforms(self._seed, epoch, torch.tensor([batch]), MIX + 1)[0, MIX]
        with _seeded(uniform):
            chosen = int(torch.randint(len(self._transforms), ()))
            mixed: tuple[Tensor, Tensor] = self._transforms[chosen](images, labels)
        return mixed


@contextlib.contextmanager
def _seeded(uniform: Tensor) -> Iterator[None]:
    """Within it, the random numbers of the CPU follow from a uniform number in [0, 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(uniform * 2.0**53))
        yield
