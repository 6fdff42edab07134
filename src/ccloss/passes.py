"""The passes over a batch's vectors that its class distances need: two to read them, one to write.

What limits them is memory, so nothing of the batch's size is made but the gradient. On the CPU they
go by blocks of rows, whose temporaries stay in the cache and in one place; on a GPU those over
class labels are kernels. Elsewhere, and under ``torch.compile``, which does the like of its own
accord, a pass is one expression, and so it is where a second derivative is to be taken.

Shapes: vectors (N, D), index (N,) classes, tables (classes, D) with a row a class; soft passes have
rows (N, classes) in place of an index, and what each row sums to, (N, 1): a vector's shares in the
classes are the one over the other, in the precision of the sums, which is that of the results.
"""

import mmap
import subprocess
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

BLOCK = 2 * 1024 * 1024
"""Bytes in a block: more than a call to torch costs, less than a cache holds."""

SOFT_BLOCK = 1024 * 1024
"""The same where there are several temporaries of a block, and a product of matrices."""

FRESH = 32 * 1024 * 1024
"""Bytes from which glibc takes memory anew from the system each time, and gives it back."""


def class_sums(vectors: Tensor, index: Tensor, shift: Tensor, classes: int) -> Tensor:
    """(classes, D) sums of ``vectors - shift``."""
    if _goes_by_kernels(vectors):
        return _by_kernel("class_sums", vectors, index, shift, classes)
    sums = vectors.new_zeros(classes, vectors.shape[1])
    if not _goes_by_blocks(vectors):
        return sums.index_add_(0, index, vectors - shift)
    for room, (block, labels) in _blocks(vectors, index):
        torch.sub(block, shift, out=room)
        sums.index_add_(0, labels, room)
    return sums


def square_distances(vectors: Tensor, index: Tensor, centres: Tensor) -> Tensor:
    """(N,) squared distances of the vectors from their class's row of ``centres``."""
    if _goes_by_kernels(vectors):
        return _by_kernel("square_distances", vectors, index, centres)
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
    if _goes_by_kernels(vectors):
        return _by_kernel("pull_and_push", vectors, index, centres, pull, push)
    pulls = pull.index_select(0, index)[:, None]
    if not _goes_by_blocks(vectors):
        away = vectors - centres.index_select(0, index)
        return torch.addcmul(push.index_select(0, index), pulls, away)
    result = _room_for(vectors)
    for room, (block, labels, own, moved) in _blocks(vectors, index, pulls, result):
        torch.index_select(centres, 0, labels, out=room)
        torch.sub(block, room, out=moved)
        torch.index_select(push, 0, labels, out=room)
        torch.addcmul(room, own, moved, out=moved)
    return result


def soft_counts(rows: Tensor, row_sums: Tensor) -> tuple[Tensor, Tensor]:
    """(classes,) sums of the shares, and the sum of all their squares."""
    if not _goes_by_blocks(rows):
        shares = rows / row_sums
        return shares.sum(0), shares.square().sum()
    counts, squares = row_sums.new_zeros(rows.shape[1]), row_sums.new_zeros(())
    for shares, (block, sums) in _blocks(rows, row_sums, dtype=row_sums.dtype, size=SOFT_BLOCK):
        torch.div(block, sums, out=shares)
        counts += shares.sum(0)
        squares += shares.square_().sum()
    return counts, squares


def soft_sums(
    vectors: Tensor, rows: Tensor, row_sums: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """(classes, D) sums of ``vectors - shift`` by their shares, and (classes,) of their squares."""
    if not _goes_by_blocks(vectors):
        shares, centred = rows / row_sums, vectors - shift
        return shares.T @ centred, shares.T @ centred.square().sum(1)
    sums = row_sums.new_zeros(rows.shape[1], vectors.shape[1])
    squares = row_sums.new_zeros(rows.shape[1])
    for room, (block, *given) in _blocks(
        vectors, rows, row_sums, dtype=row_sums.dtype, size=SOFT_BLOCK
    ):
        shares = torch.div(*given)
        torch.sub(block, shift, out=room)
        sums.addmm_(shares.T, room)
        squares.addmv_(shares.T, room.square_().sum(1))
    return sums, squares


def soft_pull_and_push(
    vectors: Tensor, rows: Tensor, row_sums: Tensor, shift: Tensor, pull: Tensor, push: Tensor
) -> Tensor:
    """(N, D) ``pull * (vector - shift) + push``, both the sum over classes by a vector's shares."""
    if not _goes_by_blocks(vectors):
        shares = rows / row_sums
        pulls = (shares @ pull)[:, None]
        return torch.addcmul(shares @ push, pulls, vectors - shift).to(vectors.dtype)
    result = _room_for(vectors)
    for room, (block, moved, *given) in _blocks(
        vectors, result, rows, row_sums, dtype=row_sums.dtype, size=SOFT_BLOCK
    ):
        shares = torch.div(*given)
        torch.matmul(shares, push, out=room)
        moved.copy_(room.addcmul_((shares @ pull)[:, None], block - shift))
    return result


def is_eager_on_cpu(tensor: Tensor) -> bool:
    """Whether a look at values costs no wait for a device, and no break of a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def runs_kernels(tensor: Tensor) -> bool:
    """Whether :mod:`ccloss.kernels` can work on a tensor; ``torch.compile`` makes its own."""
    return tensor.is_cuda and not torch.compiler.is_compiling() and _has_triton()


@cache
def _has_triton() -> bool:
    """Whether Triton is here, with a GPU that it knows and the C compiler that it needs."""
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError):
        return False
    return True


def _goes_by_kernels(vectors: Tensor) -> bool:
    return runs_kernels(vectors) and not torch.is_grad_enabled()


def _by_kernel(name: str, *arguments: Tensor | int) -> Tensor:
    from ccloss import kernels  # Triton takes long to load, and is for GPUs

    result: Tensor = getattr(kernels, name)(*arguments)
    return result


def _room_for(vectors: Tensor) -> Tensor:
    """A tensor like the vectors with nothing in it, if it is large in pages of 2 MB.

    For the usual pages the system takes longer than everything else does here.
    """
    small = vectors.nbytes < FRESH
    if small or not hasattr(mmap, "MADV_HUGEPAGE"):  # Linux has it
        return torch.empty_like(vectors)
    try:
        memory = mmap.mmap(-1, vectors.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without such pages
        return torch.empty_like(vectors)
    return torch.frombuffer(memory, dtype=vectors.dtype).view(vectors.shape)


def _goes_by_blocks(vectors: Tensor) -> bool:
    return is_eager_on_cpu(vectors) and not torch.is_grad_enabled()


def _blocks(
    vectors: Tensor, *others: Tensor, dtype: torch.dtype | None = None, size: int | None = None
) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """The same room for every block, and the block's rows of the vectors and of the others."""
    count, width = vectors.shape
    dtype = dtype or vectors.dtype
    numbers = (size or BLOCK) // dtype.itemsize
    step = max(1, min(count, numbers // max(1, width)))
    room = vectors.new_empty(step, width, dtype=dtype)
    for rows in zip(*(each.split(step) for each in (vectors, *others)), strict=True):
        yield room[: len(rows[0])], rows
