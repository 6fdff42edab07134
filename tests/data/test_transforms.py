"""Transforms of images and mixing of batches: their effect, and draws without hidden state."""

import pytest
import torch
import torch.nn.functional as F

from ccloss.data.images import MemoryImages
from ccloss.data.loader import Batch, train_loader
from ccloss.data.transforms import Mixing, Transforms

CLASSES = 4


def images(count: int = 24, size: int = 16, channels: int = 3) -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (count, channels, size, size), generator=generator)
    labels = torch.arange(count) % CLASSES
    return MemoryImages(pixels.to(torch.uint8), labels)


def epoch(number: int = 0, workers: int = 0, batch_size: int = 8, **transforms: object) -> dict:
    """The transformed images of an epoch by their index."""
    loader = train_loader(
        images(),
        batch_size=batch_size,
        seed=3,
        device="cpu",
        image_size=16,
        workers=workers,
        transforms=Transforms(**transforms),
    )
    batches: list[Batch] = list(loader.epoch(number))
    return {
        int(index): image
        for batch in batches
        for index, image in zip(batch.index, batch.images, strict=True)
    }


ALL = {"trivial_augment": True, "resized_crop": 0.2, "erasing": 0.5}


@pytest.mark.filterwarnings("default:.*fork:DeprecationWarning")
def test_transforms_depend_on_seed_epoch_and_sample_only() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = epoch(**ALL)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (epoch(workers=1, **ALL), epoch(batch_size=4, **ALL)):
        assert first.keys() == other.keys()
        assert all(torch.equal(first[index], other[index]) for index in first)
    later = epoch(1, **ALL)
    assert sum(torch.equal(first[index], later[index]) for index in first) < len(first) / 4


def test_erasing_sets_a_rectangle_to_zero() -> None:
    plain, erased = epoch(erasing=1e-9), epoch(erasing=1.0)
    for index, image in erased.items():
        black = (image == 0).all(0)
        assert torch.equal(image[:, ~black], plain[index][:, ~black])
        rows, columns = black.any(1).sum(), black.any(0).sum()
        assert black.sum() == rows * columns > 0


def test_crops_and_augmentations_keep_the_shape_and_change_the_images() -> None:
    original = images().pixels
    for transforms in ({"resized_crop": 0.1}, {"trivial_augment": True}):
        found = epoch(**transforms)
        assert {(image.shape, image.dtype) for image in found.values()} == {
            (original.shape[1:], torch.uint8)
        }
        assert sum(torch.equal(image, original[index]) for index, image in found.items()) < 20


@pytest.mark.parametrize("alphas", [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_mixed_labels_are_the_shares_of_the_images(alphas: tuple[float, float]) -> None:
    """Each image is one constant per class, so its mean gives the share of each class."""
    labels = torch.arange(8) % CLASSES
    pixels = F.one_hot(labels, CLASSES).float()[:, :, None, None].expand(8, CLASSES, 10, 10)
    mixing = Mixing(CLASSES, *alphas, seed=0)
    state = torch.get_rng_state()
    shares = []
    for batch in range(20):
        mixed, probabilities = mixing(pixels.clone(), labels, 0, batch)
        torch.testing.assert_close(mixed.mean((2, 3)), probabilities)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
        again, _ = mixing(pixels.clone(), labels, 0, batch)
        assert torch.equal(again, mixed)
        shares.append(float(probabilities[0].max()))
    assert len(set(shares)) > 4
    assert torch.equal(torch.get_rng_state(), state)


def test_class_balanced_batches_use_each_class_equally_often() -> None:
    labels = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    data = MemoryImages(torch.zeros(100, 1, 4, 4, dtype=torch.uint8), labels)
    loader = train_loader(
        data, batch_size=10, seed=0, device="cpu", image_size=4, class_balanced=True
    )
    index = torch.cat([batch.index for batch in loader.epoch(0)])
    counts = torch.bincount(labels[index], minlength=3)
    assert counts.sum() == 100
    assert counts.max() - counts.min() <= 1
    # An image is used again only after all others of its class.
    for label in range(3):
        uses = torch.bincount(index[labels[index] == label], minlength=100)[labels == label]
        assert uses.max() - uses.min() <= 1
    other = torch.cat([batch.index for batch in loader.epoch(1)])
    assert not torch.equal(index, other)
