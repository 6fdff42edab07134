"""The passes over a batch's vectors that its class distances need: two to read them, one to write.

What limits them is memory, so on the CPU they go by blocks of rows, whose temporaries stay in the
cache and in one place: nothing of the batch's size is made but the gradient. Elsewhere, and under
``torch.compile``, which does the like of its own accord, a pass is one expression, and so it is
where a second derivative is to be taken.

Shapes: vectors (N, D), index (N,) classes, tables (classes, D) with a row a class; soft passes have
rows (N, classes) of shares in place of an index.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 512 * 1024
"""Numbers in a block: more than a call to torch costs, less than a cache holds."""


def class_sums(vectors: Tensor, index: Tensor, shift: Tensor, classes: int) -> Tensor:
    """(classes, D) sums of ``vectors - shift``."""
    sums = vectors.new_zeros(classes, vectors.shape[1])
    if not _goes_by_blocks(vectors):
        return sums.index_add_(0, index, vectors - shift)
    for room, (block, labels) in _blocks(vectors, index):
        torch.sub(block, shift, out=room)
        sums.index_add_(0, labels, room)
    return sums


def square_distances(vectors: Tensor, index: Tensor, centres: Tensor) -> Tensor:
    """(N,) squared distances of the vectors from their class's row of ``centres``."""
    if not _goes_by_blocks(vectors):
        return (vectors - centres.index_select(0, index)).square().sum(1)
    lengths = vectors.new_empty(len(vectors))
    for room, (block, labels, length) in _blocks(vectors, index, lengths):
        torch.index_select(centres, 0, labels, out=room)
        torch.sub(block, room, out=room)
        torch.linalg.vector_norm(room, dim=1, out=length)
    return lengths.square_()


def pull_and_push(
    vectors: Tensor, index: Tensor, centres: Tensor, pull: Tensor, push: Tensor
) -> Tensor:
    """(N, D) ``pull * (vector - centre) + push``.

    Args:
        vectors: see above.
        index: see above.
        centres: (classes, D).
        pull: (classes,).
        push: (classes, D).
    """
    pulls = pull.index_select(0, index)[:, None]
    if not _goes_by_blocks(vectors):
        away = vectors - centres.index_select(0, index)
        return torch.addcmul(push.index_select(0, index), pulls, away)
    result = torch.empty_like(vectors)
    for room, (block, labels, own, moved) in _blocks(vectors, index, pulls, result):
        torch.index_select(centres, 0, labels, out=room)
        torch.sub(block, room, out=moved)
        torch.index_select(push, 0, labels, out=room)
        torch.addcmul(room, own, moved, out=moved)
    return result


def soft_sums(vectors: Tensor, rows: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """(classes, D) sums of ``vectors - shift``, and (classes,) of their squared lengths.

    Args:
        vectors: see above.
        rows: (N, classes) share of each vector in each class; their precision is the result's.
        shift: (D,).
    """
    if not _goes_by_blocks(vectors):
        centred = vectors - shift
        return rows.T @ centred, rows.T @ centred.square().sum(1)
    sums = rows.new_zeros(rows.shape[1], vectors.shape[1])
    squares = rows.new_zeros(rows.shape[1])
    for room, (block, shares) in _blocks(vectors, rows, dtype=rows.dtype):
        torch.sub(block, shift, out=room)
        sums.addmm_(shares.T, room)
        squares.addmv_(shares.T, room.square_().sum(1))
    return sums, squares


def soft_pull_and_push(
    vectors: Tensor, rows: Tensor, shift: Tensor, pull: Tensor, push: Tensor
) -> Tensor:
    """(N, D) ``pull * (vector - shift) + push``, both the sum over classes by a vector's shares."""
    pulls = (rows @ pull)[:, None]
    if not _goes_by_blocks(vectors):
        return torch.addcmul(rows @ push, pulls, vectors - shift).to(vectors.dtype)
    result = torch.empty_like(vectors)
    for room, (block, shares, own, moved) in _blocks(
        vectors, rows, pulls, result, dtype=rows.dtype
    ):
        torch.matmul(shares, push, out=room)
        moved.copy_(room.addcmul_(own, block - shift))
    return result


def is_eager_on_cpu(tensor: Tensor) -> bool:
    """Whether a look at values costs no wait for a device, and no break of a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _goes_by_blocks(vectors: Tensor) -> bool:
    return is_eager_on_cpu(vectors) and not torch.is_grad_enabled()


def _blocks(
    vectors: Tensor, *others: Tensor, dtype: torch.dtype | None = None
) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """The same room for every block, and the block's rows of the vectors and of the others."""
    count, width = vectors.shape
    step = max(1, min(count, BLOCK // max(1, width)))
    room = vectors.new_empty(step, width, dtype=dtype or vectors.dtype)
    for rows in zip(*(each.split(step) for each in (vectors, *others)), strict=True):
        yield room[: len(rows[0])], rows
