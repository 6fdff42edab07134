"""The passes against one loop over rows, with blocks that end anywhere."""

import errno
import mmap

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccloss import passes
from ccloss.functional import channel_correlation
from launches import Launches


def drawn(samples: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Vectors, classes, and tables with a row a class, in float64."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.rand(samples, width, generator=generator, dtype=torch.float64)
    index = torch.randint(classes, (samples,), generator=generator)
    tables = torch.rand(2, classes, width, generator=generator, dtype=torch.float64)
    pull = torch.rand(classes, generator=generator, dtype=torch.float64)
    return vectors, index, *tables, pull


sizes = st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(1, 5), st.integers(1, 40))


@given(sizes)
@example((6, 3, 2, 6))  # blocks of two rows, all whole
@example((7, 3, 2, 6))  # and one left over
@example((4, 6, 2, 1))  # a row is more than a block
@settings(max_examples=40, deadline=None)
def test_passes_are_the_loop_over_rows(size: tuple[int, int, int, int]) -> None:
    samples, width, classes, block = size
    vectors, index, centres, push, pull = drawn(samples, width, classes)
    shift = vectors[0]
    sums = torch.zeros(classes, width, dtype=torch.float64)
    lengths, moved = [], []
    for vector, number in zip(vectors, index.tolist(), strict=True):
        sums[number] += vector - shift
        away = vector - centres[number]
        lengths.append(sum(value**2 for value in away.tolist()))
        moved.append(pull[number] * away + push[number])

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(passes, "BLOCK", block * 8)
        close = torch.testing.assert_close
        close(passes.class_sums(vectors, index, shift, classes), sums)
        close(passes.square_distances(vectors, index, centres), torch.tensor(lengths).double())
        close(passes.pull_and_push(vectors, index, centres, pull, push), torch.stack(moved))


@given(sizes)
@example((7, 3, 2, 6))
@settings(max_examples=20, deadline=None)
def test_soft_passes_are_the_loop_over_rows(size: tuple[int, int, int, int]) -> None:
    samples, width, classes, block = size
    vectors, _, push, tables, pull = drawn(samples, width, classes)
    rows = torch.rand(samples, classes, generator=torch.Generator().manual_seed(1)).double()
    row_sums = rows.sum(1, keepdim=True)
    shares = rows / row_sums
    shift = tables[0]
    sums = torch.zeros(classes, width, dtype=torch.float64)
    squares = torch.zeros(classes, dtype=torch.float64)
    moved = []
    for vector, row in zip(vectors, shares, strict=True):
        away = vector - shift
        each = [row[k] * (pull[k] * away + push[k]) for k in range(classes)]
        moved.append(torch.stack(each).sum(0))
        for k in range(classes):
            sums[k] += row[k] * away
            squares[k] += row[k] * sum(value**2 for value in away.tolist())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "SOFT_BLOCK", block * 8)
        close = torch.testing.assert_close
        for gradients in (False, True):  # by blocks, and in one expression
            with torch.set_grad_enabled(gradients):
                found = passes.soft_counts(rows, row_sums)
                close(found, (shares.sum(0), shares.square().sum()))
                close(passes.soft_sums(vectors, rows, row_sums, shift), (sums, squares))
                grad = passes.soft_pull_and_push(vectors, rows, row_sums, shift, pull, push)
                close(grad, torch.stack(moved))


def test_blocks_and_one_expression_agree() -> None:
    """What a device, a compiler and a second derivative are given is what blocks give."""
    vectors, index, centres, push, pull = drawn(100, 8, 5)
    steps = (
        lambda: passes.class_sums(vectors, index, vectors[0], 5),
        lambda: passes.square_distances(vectors, index, centres),
        lambda: passes.pull_and_push(vectors, index, centres, pull, push),
    )
    for step in steps:
        whole = step()
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(passes, "BLOCK", 24 * 8)
            torch.testing.assert_close(step(), whole)


@pytest.mark.parametrize("classes", [1, 3, 400])
def test_the_ratio_does_not_depend_on_the_blocks(classes: int) -> None:
    vectors, labels, *_ = drawn(300, 16, classes)
    found = []
    for block in (16, 16 * 7, 16 * 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "BLOCK", block * 8)
            attention = vectors.clone().requires_grad_()
            value = channel_correlation(attention, labels)
            (gradient,) = torch.autograd.grad(value, attention)
        found.append((value.detach(), gradient))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


class NoHugePages(mmap.mmap):
    """Memory of a kernel that was built without large pages."""

    def madvise(self, *_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["with", "without", "another system"])
def test_a_large_gradient_is_the_same_in_large_pages(
    kernel: str, dtype: torch.dtype, soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels, *_ = drawn(300, 16, 5)
    labels = torch.softmax(drawn(300, 5, 5, seed=1)[0], 1) if soft else labels
    found = []
    for fresh in (1 << 40, 1):
        monkeypatch.setattr(passes, "FRESH", fresh)
        if fresh == 1 and kernel == "without":
            monkeypatch.setattr(mmap, "mmap", NoHugePages)
        if fresh == 1 and kernel == "another system":
            monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
        attention = vectors.to(dtype).requires_grad_()
        channel_correlation(attention, labels).backward()
        assert attention.grad is not None
        found.append(attention.grad)
    assert torch.equal(*found)
    torch.optim.SGD([attention], lr=0.1, momentum=0.9).step()  # it can be worked with in place
    assert attention.isfinite().all()


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("samples", [63, 64, 65, 66])
def test_few_and_many_samples_agree(
    samples: int, soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches have formulas of their own, with the same value and gradient."""
    vectors, labels, *_ = drawn(samples, 16, 7)
    if soft:
        labels = torch.softmax(drawn(samples, 7, 7, seed=1)[0] * 9, 1)
    found = []
    for few in (samples, 0):
        monkeypatch.setattr("ccloss.functional.FEW", few)
        attention = vectors.clone().requires_grad_()
        value = channel_correlation(attention, labels, reduction="mean")
        found.append((value.detach(), torch.autograd.grad(value, attention)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_small_batch_takes_few_launches(soft: bool) -> None:
    """There a launch costs more than its numbers; meta tensors go the way of a device's."""
    counts = []
    for samples in (32, 65):
        labels = torch.empty((samples, 8) if soft else samples, device="meta")
        labels = labels if soft else labels.long()
        attention = torch.empty(samples, 512, device="meta", requires_grad=True)
        with Launches() as launches:
            channel_correlation(attention, labels).backward()
        counts.append(len(launches.names))
    few, many = counts
    assert few <= 34
    assert few < (many if soft else many / 2)
