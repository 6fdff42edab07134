"""Random numbers, crops and flips, compared with slow loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import slow_crop

from ccloss.data.augment import (
    augment_one,
    center_crop,
    crop_offsets,
    random_crop,
    random_flip,
    uniforms,
)
from ccloss.errors import InputError

INDICES = torch.arange(20_000)
WORD = (1 << 64) - 1


def reference_mix(bits: int) -> int:
    """splitmix64's finalizer in Python's unbounded integers."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & WORD
    return bits ^ (bits >> 31)


def reference_uniform(seed: int, epoch: int, index: int, column: int) -> float:
    gamma = 0x9E3779B97F4A7C15
    key = reference_mix((reference_mix((seed + gamma) & WORD) + epoch) & WORD)
    stream = reference_mix((reference_mix((key + gamma) & WORD) + index) & WORD)
    return (reference_mix((stream + (column + 1) * gamma) & WORD) >> 11) / 2**53


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 10_000),
    st.integers(0, 2**40),
)
def test_uniforms_equal_unsigned_arithmetic(seed: int, epoch: int, index: int) -> None:
    found = uniforms(seed, epoch, torch.tensor([index]), 3)
    assert found[0].tolist() == [reference_uniform(seed, epoch, index, k) for k in range(3)]


def test_uniforms_are_uniform_and_unrelated() -> None:
    found = uniforms(3, 5, INDICES, 4)
    assert found.dtype == torch.float64
    assert found.shape == (20_000, 4)
    assert found.min() >= 0
    assert found.max() < 1
    for column in found.T:
        counts = torch.histc(column, bins=20, min=0, max=1)
        chi_square = float(((counts - 1_000) ** 2 / 1_000).sum())
        assert chi_square < 43.8  # 99.9 % point of chi-square with 19 degrees of freedom
    correlation = torch.corrcoef(torch.cat([found, found[1:].roll(1, 0).new_zeros(1, 4)]).T)
    assert (correlation - torch.eye(4)).abs().max() < 0.03
    neighbours = torch.corrcoef(torch.stack([found[:-1, 0], found[1:, 0]]))
    assert neighbours[0, 1].abs() < 0.03


def test_uniforms_differ_by_seed_epoch_index_and_column() -> None:
    base = uniforms(0, 0, INDICES[:100], 2)
    assert not torch.isin(uniforms(1, 0, INDICES[:100], 2), base).any()
    assert not torch.isin(uniforms(0, 1, INDICES[:100], 2), base).any()
    assert not torch.isin(uniforms(0, 0, INDICES[100:200], 2), base).any()
    assert base.unique().numel() == 200


def test_uniforms_do_not_depend_on_the_batch() -> None:
    whole = uniforms(7, 2, INDICES[:64], 4)
    torch.testing.assert_close(uniforms(7, 2, INDICES[10:13], 4), whole[10:13], rtol=0, atol=0)
    torch.testing.assert_close(
        uniforms(7, 2, INDICES[:64].flip(0), 4).flip(0), whole, rtol=0, atol=0
    )
    torch.testing.assert_close(uniforms(7, 2, INDICES[:64], 2), whole[:, :2], rtol=0, atol=0)


def test_crop_offsets_reach_every_position_and_no_other() -> None:
    offsets = crop_offsets(uniforms(0, 0, INDICES, 1)[:, 0], 9)
    assert offsets.bincount(minlength=9).min() > 2_000
    assert offsets.min() == 0
    assert offsets.max() == 8
    assert crop_offsets(torch.tensor(1 - 2.0**-53, dtype=torch.float64), 9) == 8


@given(st.data())
def test_random_crop_equals_a_loop(data: st.DataObject) -> None:
    shape = [data.draw(st.integers(1, top)) for top in (3, 3, 6, 6)]
    padding = data.draw(st.integers(0, 3))
    offsets = st.lists(st.integers(0, 2 * padding), min_size=shape[0], max_size=shape[0])
    top, left = torch.tensor(data.draw(offsets)), torch.tensor(data.draw(offsets))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1_000)))
    images = torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)
    found = random_crop(images, top, left, padding)
    expected = [
        slow_crop(image, int(y), int(x), padding)
        for image, y, x in zip(images, top, left, strict=True)
    ]
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.stack(expected))


def test_random_crop_rejects_offsets_for_another_batch() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    right, wrong = torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    for offsets in ((right, wrong), (wrong, right), (wrong, wrong)):
        with pytest.raises(InputError, match="N offsets per axis"):
            random_crop(images, *offsets, padding=1)


def test_random_flip_mirrors_the_masked_images_only() -> None:
    images = torch.arange(12, dtype=torch.uint8).reshape(2, 1, 2, 3)
    found = random_flip(images, torch.tensor([False, True]))
    assert torch.equal(found[0], images[0])
    assert found[1].tolist() == [[[8, 7, 6], [11, 10, 9]]]


def test_augment_one_equals_the_vectorised_steps() -> None:
    images = torch.randint(
        0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    uniform = uniforms(1, 4, torch.arange(50), 4)
    top, left = crop_offsets(uniform[:, 1], 5), crop_offsets(uniform[:, 2], 5)
    expected = random_flip(random_crop(images, top, left, 2), uniform[:, 3] < 0.5)
    found = [augment_one(image, row, 8, 2, 0.5) for image, row in zip(images, uniform, strict=True)]
    assert torch.equal(torch.stack(found), expected)


def test_augment_one_cuts_a_larger_image_with_its_padding() -> None:
    image = torch.full((1, 10, 14), 9, dtype=torch.uint8)
    corner = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    found = augment_one(image, corner, size=6, padding=2, flip=0.5)
    assert found.shape == (1, 6, 6)
    assert found[0, :2].sum() == 0
    assert found[0, :, :2].sum() == 0
    assert (found[0, 2:, 2:] == 9).all()


def test_center_crop() -> None:
    image = torch.arange(30, dtype=torch.uint8).reshape(1, 5, 6)
    assert torch.equal(center_crop(image, 2), image[:, 2:4, 2:4])
