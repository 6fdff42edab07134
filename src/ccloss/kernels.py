"""The paper's loss on a small batch as one kernel forward and one backward, for GPUs (Triton).

At batch 32 a GPU waits for launches, not for numbers: what takes 30 operations of torch is here
one launch each way. The formulas are those of :mod:`ccloss.functional`; vectors go through them by
blocks of columns, of which a program holds all rows.

Only :mod:`ccloss.functional` calls this, and loads it for a GPU only: Triton is not everywhere.
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

# The two sizes change from batch to batch and would each time be compiled for anew.
_varying = triton.jit(do_not_specialize=["size", "width"])


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
    sample of each one's class and the number of its samples.
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
    rows = tl.arange(0, ROWS)[:, None]
    inside = (rows < size) & (columns < width)[None, :]
    offsets = columns.to(tl.int64)[None, :] * column_stride
    places = attention + rows.to(tl.int64) * row_stride + offsets
    vectors = tl.load(places, mask=inside, other=0).to(same.dtype)
    # Ways from the class's first vector lose nothing where its vectors are close, wherever it is.
    places = attention + firsts.to(tl.int64)[:, None] * row_stride + offsets
    start = tl.load(places, mask=inside, other=0).to(same.dtype)
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


@correlation_terms.register_fake
def _(attention: Tensor, labels: Tensor, eps: float, mean: bool) -> tuple[Tensor, ...]:
    return _scalars(attention)


@correlation_gradient.register_fake
def _(attention: Tensor, *others: Any) -> Tensor:
    return attention.new_empty(attention.shape)


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
