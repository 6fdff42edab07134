"""The loss's work on a GPU, as kernels in Triton.

On a small batch a GPU waits for launches, not for numbers: what takes 30 operations of torch is
here one launch forward and one backward. The formulas are those of :mod:`ccloss.functional`;
vectors go through them by blocks of columns, of which a program holds all rows.

On a large one it waits for memory: the three passes of :mod:`ccloss.passes` read the vectors, and
make nothing of their size but the gradient.

Only those two rooms call this, and load it for a GPU only: Triton is not everywhere.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Numbers in a block: with all that is made of them, what the registers of eight warps hold."""

LEAST = 16
"""Rows and columns that a product of matrices has at least, in Triton."""

# The size of a batch may change, and would each time be compiled for anew.
_varying = triton.jit(do_not_specialize=["size"])


@triton.jit
def _block(
    vectors: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
) -> Any:
    """(rows, columns) of the vectors, 0 beyond them; and which are not beyond."""
    inside = (rows < size)[:, None] & (columns < width)[None, :]
    down, along = rows.to(tl.int64) * row_stride, columns.to(tl.int64) * column_stride
    places = down[:, None] + along[None, :]
    return tl.load(vectors + places, mask=inside, other=0), inside


@triton.jit
def _classes(
    labels: tl.tensor,
    size: tl.tensor,
    stride: tl.tensor,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr,
) -> Any:
    """What is known of the classes without their vectors.

    Gives (ROWS, ROWS) 1 where two samples are of one class, else 0; and (ROWS,) each, the first
    sample of each one's class, beyond the batch one beyond it, and the number of its samples.
    """
    rows = tl.arange(0, ROWS)
    inside = rows < size
    own = tl.load(labels + rows.to(tl.int64) * stride, mask=inside, other=0)
    same = (own[:, None] == own[None, :]) & inside[:, None] & inside[None, :]
    firsts = tl.min(tl.where(same, rows[None, :], ROWS), 1)
    same = same.to(DTYPE)
    return same, firsts, tl.maximum(tl.sum(same, 1), 1)  # rows beyond the batch divide by theirs


@triton.jit
def _ways(
    attention: tl.tensor,
    same: tl.tensor,
    firsts: tl.tensor,
    counts: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    columns: tl.tensor,
    ROWS: tl.constexpr,
) -> Any:
    """(ROWS, columns) each: from the batch's mean to the sample's class's, thence to the sample."""
    rows = tl.arange(0, ROWS)
    vectors, inside = _block(attention, rows, columns, size, width, row_stride, column_stride)
    start, _ = _block(attention, firsts, columns, size, width, row_stride, column_stride)
    vectors, start = vectors.to(same.dtype), start.to(same.dtype)
    # Ways from the class's first vector lose nothing where its vectors are close, wherever it is.
    ways = vectors - start
    means = tl.dot(same, ways, input_precision="ieee") / counts[:, None]
    away = ways - means
    # The one class of a batch is at the batch's mean.
    several = inside & (counts < size)[:, None]
    means = tl.where(several, start - tl.sum(vectors, 0)[None, :] / size + means, 0)
    return tl.where(several, means - tl.sum(means, 0)[None, :] / size, 0), away


@triton.jit
def _pairs(counts: tl.tensor, size: tl.tensor, ROWS: tl.constexpr) -> Any:
    """Pairs of one class, and of two; 1 where there are none, for then what they divide is 0."""
    inside = tl.arange(0, ROWS) < size
    same = tl.sum(tl.where(inside, counts - 1, 0), 0) / 2
    other = size * (size - 1) / 2 - same
    return tl.where(same > 0, same, 1), tl.where(other > 0, other, 1)


@_varying
def _forward(
    attention: tl.tensor,
    labels: tl.tensor,
    intra: tl.tensor,
    inter: tl.tensor,
    ratio: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    label_stride: tl.tensor,
    EPS: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    dtype: tl.constexpr = intra.dtype.element_ty
    same, firsts, counts = _classes(labels, size, label_stride, dtype, ROWS)
    scatter = tl.zeros([ROWS], dtype)
    between = tl.zeros([ROWS], dtype)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        means, away = _ways(
            attention, same, firsts, counts, size, width, row_stride, column_stride, columns, ROWS
        )
        scatter += tl.sum(away * away, 1)
        between += tl.sum(means * means, 1)
    within = tl.sum(counts * scatter, 0)
    across = tl.sum((size - counts) * scatter + size * between, 0)
    if MEAN:
        alike, other = _pairs(counts, size, ROWS)
        within /= alike
        across /= other
    tl.store(intra, within)
    tl.store(inter, across)
    tl.store(ratio, within / (across + EPS))


@_varying
def _backward(
    attention: tl.tensor,
    labels: tl.tensor,
    inter: tl.tensor,
    ratio: tl.tensor,
    grad_intra: tl.tensor,
    grad_inter: tl.tensor,
    grad_ratio: tl.tensor,
    gradient: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    label_stride: tl.tensor,
    EPS: tl.constexpr,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    dtype: tl.constexpr = inter.dtype.element_ty
    same, firsts, counts = _classes(labels, size, label_stride, dtype, ROWS)
    to_intra = tl.zeros([], dtype)
    to_inter = tl.zeros([], dtype)
    if grad_ratio is not None:
        share = tl.load(grad_ratio) / (tl.load(inter) + EPS)
        to_intra += share
        to_inter -= share * tl.load(ratio)
    if grad_intra is not None:
        to_intra += tl.load(grad_intra)
    if grad_inter is not None:
        to_inter += tl.load(grad_inter)
    if MEAN:
        alike, other = _pairs(counts, size, ROWS)
        to_intra /= alike
        to_inter /= other

    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    means, away = _ways(
        attention, same, firsts, counts, size, width, row_stride, column_stride, columns, ROWS
    )
    pull = 2 * (to_intra * counts + to_inter * (size - counts))
    found = pull[:, None] * away + 2 * size * to_inter * means
    rows = tl.arange(0, ROWS)[:, None]
    inside = (rows < size) & (columns < width)[None, :]
    tl.store(gradient + rows * width + columns[None, :], found, mask=inside)


@_varying
def _class_sums(
    vectors: tl.tensor,
    index: tl.tensor,
    shift: tl.tensor,
    sums: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    index_stride: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    within = tl.arange(0, ROWS)
    rows = tl.program_id(0).to(tl.int64) * ROWS + within
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)
    block, inside = _block(vectors, rows, columns, size, width, row_stride, column_stride)
    block -= tl.load(shift + columns, mask=columns < width, other=0)[None, :]
    own = tl.load(index + rows * index_stride, mask=rows < size, other=-1)
    same = own[:, None] == own[None, :]
    # Rows of one class are added up here first, so that programs do not wait for each other where
    # most of a batch is of one class.
    local = tl.dot(same.to(block.dtype), tl.where(inside, block, 0), input_precision="ieee")
    leads = tl.min(tl.where(same, within[None, :], ROWS), 1) == within
    places = sums + own[:, None] * width + columns[None, :]
    tl.atomic_add(places, local, mask=inside & leads[:, None], sem="relaxed")


@_varying
def _square_distances(
    vectors: tl.tensor,
    index: tl.tensor,
    centres: tl.tensor,
    squares: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    index_stride: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    own = tl.load(index + rows * index_stride, mask=rows < size, other=0)
    total = tl.zeros([ROWS], squares.dtype.element_ty)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS).to(tl.int64)
        block, inside = _block(vectors, rows, columns, size, width, row_stride, column_stride)
        places = centres + own[:, None] * width + columns[None, :]
        away = block - tl.load(places, mask=inside, other=0)
        total += tl.sum(away * away, 1)
    tl.store(squares + rows, total, mask=rows < size)


@_varying
def _pull_and_push(
    vectors: tl.tensor,
    index: tl.tensor,
    centres: tl.tensor,
    pull: tl.tensor,
    push: tl.tensor,
    result: tl.tensor,
    size: tl.tensor,
    width: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    index_stride: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)
    block, inside = _block(vectors, rows, columns, size, width, row_stride, column_stride)
    own = tl.load(index + rows * index_stride, mask=rows < size, other=0)
    places = own[:, None] * width + columns[None, :]
    away = block - tl.load(centres + places, mask=inside, other=0)
    found = tl.load(pull + own)[:, None] * away + tl.load(push + places, mask=inside, other=0)
    tl.store(result + rows[:, None] * width + columns[None, :], found, mask=inside)


@torch.library.custom_op("ccloss::correlation_terms", mutates_args=())
def correlation_terms(
    attention: Tensor, labels: Tensor, eps: float, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Intra- and inter-class distance, as sums or means over pairs, and ``intra / (inter + eps)``.

    Args:
        attention: (N, D) vectors, N at most 64: a program holds a table of N x N.
        labels: (N,) integer classes.
        eps: positive constant.
        mean: over the pairs of each kind, rather than their sum.
    """
    terms = _scalars(attention)
    with torch.cuda.device_of(attention):
        _forward[(1,)](
            attention, labels, *terms, *_places(attention, labels), eps, mean, **_blocks(attention)
        )
    return terms


@torch.library.custom_op("ccloss::correlation_gradient", mutates_args=())
def correlation_gradient(
    attention: Tensor,
    labels: Tensor,
    inter: Tensor,
    ratio: Tensor,
    grad_intra: Tensor | None,
    grad_inter: Tensor | None,
    grad_ratio: Tensor | None,
    eps: float,
    mean: bool,
) -> Tensor:
    """(N, D) gradient of what :func:`correlation_terms` gives, from the gradients of its terms."""
    gradient = attention.new_empty(attention.shape)
    tensors = (attention, labels, inter, ratio, grad_intra, grad_inter, grad_ratio, gradient)
    blocks = _blocks(attention)
    programs = triton.cdiv(attention.shape[1], blocks["COLUMNS"])
    with torch.cuda.device_of(attention):
        _backward[(programs,)](*tensors, *_places(attention, labels), eps, mean, **blocks)
    return gradient


@torch.library.custom_op("ccloss::class_sums", mutates_args=())
def class_sums(vectors: Tensor, index: Tensor, shift: Tensor, classes: int) -> Tensor:
    """See :func:`ccloss.passes.class_sums`."""
    sums = vectors.new_zeros(classes, vectors.shape[1])
    _over_blocks(_class_sums, 32, vectors, index, shift, sums)
    return sums


@torch.library.custom_op("ccloss::square_distances", mutates_args=())
def square_distances(vectors: Tensor, index: Tensor, centres: Tensor) -> Tensor:
    """See :func:`ccloss.passes.square_distances`."""
    squares = vectors.new_empty(len(vectors))
    _over_blocks(_square_distances, 8, vectors, index, centres, squares, whole_rows=True)
    return squares


@torch.library.custom_op("ccloss::pull_and_push", mutates_args=())
def pull_and_push(
    vectors: Tensor, index: Tensor, centres: Tensor, pull: Tensor, push: Tensor
) -> Tensor:
    """See :func:`ccloss.passes.pull_and_push`."""
    result = vectors.new_empty(vectors.shape)
    _over_blocks(_pull_and_push, 8, vectors, index, centres, pull, push, result)
    return result


def _over_blocks(
    kernel: Any,
    rows: int,
    vectors: Tensor,
    index: Tensor,
    *others: Tensor,
    whole_rows: bool = False,
) -> None:
    """Launches a program for each block of so many rows; it takes all columns, or a part."""
    size, width = vectors.shape
    columns = BLOCK // rows
    grid = (triton.cdiv(size, rows), 1 if whole_rows else triton.cdiv(width, columns))
    tables = [each.contiguous() for each in others]
    with torch.cuda.device_of(vectors):
        kernel[grid](
            *(vectors, index, *tables, *_places(vectors, index)),
            ROWS=rows,
            COLUMNS=columns,
            num_warps=4,
        )


@correlation_terms.register_fake
def _(attention: Tensor, labels: Tensor, eps: float, mean: bool) -> tuple[Tensor, ...]:
    return _scalars(attention)


@correlation_gradient.register_fake
def _(attention: Tensor, *others: Any) -> Tensor:
    return attention.new_empty(attention.shape)


@class_sums.register_fake
def _(vectors: Tensor, index: Tensor, shift: Tensor, classes: int) -> Tensor:
    return vectors.new_empty(classes, vectors.shape[1])


@square_distances.register_fake
def _(vectors: Tensor, *others: Tensor) -> Tensor:
    return vectors.new_empty(len(vectors))


@pull_and_push.register_fake
def _(vectors: Tensor, *others: Tensor) -> Tensor:
    return vectors.new_empty(vectors.shape)


def _scalars(attention: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(attention.dtype, torch.float32)
    intra, inter, ratio = (attention.new_empty((), dtype=dtype) for _ in range(3))
    return intra, inter, ratio


def _places(attention: Tensor, labels: Tensor) -> tuple[int, ...]:
    """Sizes and strides, as kernels take them."""
    return (*attention.shape, *attention.stride(), *labels.stride())


def _blocks(attention: Tensor) -> dict[str, int]:
    rows = max(LEAST, triton.next_power_of_2(len(attention)))
    return {"ROWS": rows, "COLUMNS": max(LEAST, BLOCK // rows), "num_warps": 8}
