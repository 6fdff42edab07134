r"""The mathematics of CC-Loss as pure functions.

Equations 3, 6 and 7 of Song et al., *CC-Loss: Channel Correlation Loss for Image Classification*
(2020), sum squared distances over the N (N - 1) / 2 pairs of a batch. The same sums follow from
class statistics in O(N D). Let n_k, mu_k and S_k = sum_{y_i = k} |c_i - mu_k|^2 be the count, mean
and scatter of class k, and mu the mean of the batch. Then::

    intra = sum_k n_k S_k
    inter = sum_k (N - n_k) S_k + N sum_k n_k |mu_k - mu|^2

Every term is non-negative, so no digits cancel. The form of the paper's section 2.3,
``E + E^T - 2 G``, loses vectors that differ little.

A class mean is rounded to the precision of the vectors, which matters when classes are tight and
far apart. The statistics are therefore taken around a constant point a_k close to mu_k (the
rounded class mean): with u_i = c_i - a_{y_i} and m_k the class mean of u::

    mu_k = a_k + m_k,        S_k = sum_{y_i = k} |u_i|^2 - n_k |m_k|^2

These identities hold for any constant a_k, so derivatives of every order are exact. Soft labels
replace the indicator I(Y_i, Y_j) by <y_i, y_j>; the same formulas hold with y-weighted counts,
means and scatters.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ccloss.cpu_terms import CpuTerms
from ccloss.errors import InputError
from ccloss.tensor_checks import (
    IGNORE_INDEX,
    check_floats,
    check_labels,
    check_same_device,
    is_eager,
    is_readable,
)
from ccloss.validation import require_choice, require_positive

Reduction = Literal["sum", "mean"]


class ClassDistances(NamedTuple):
    """Squared Euclidean distances within and between the classes of a batch, as scalars."""

    intra: Tensor
    inter: Tensor


class CorrelationTerms(NamedTuple):
    """Both distances and their ratio ``intra / (inter + eps)``, as scalars."""

    intra: Tensor
    inter: Tensor
    ratio: Tensor


def class_distances(
    attention: Tensor,
    labels: Tensor,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> ClassDistances:
    """Squared distances over all same-class pairs and over all other pairs (eqs. 3, 6 and 7).

    The computation runs in float32 (float64 for float64 vectors) under any autocast. It needs
    O(N D) time for class labels and O(N K D) for soft labels, and it never waits for the device.
    Derivatives of any order, ``torch.func``, ``torch.compile`` and ``torch.export`` work.

    Degenerate batches are defined. Without a pair of its kind (one sample, one class, singletons
    only) a distance is 0 with gradient 0. NaN and infinity propagate.

    Args:
        attention: (N, D) floating-point vectors.
        labels: (N,) integer classes, or (N, K) rows of class probabilities that sum to 1. Samples
            with class -100 are left out.
        reduction: ``"sum"`` over pairs i < j as in the paper, or ``"mean"`` over the pairs of each
            kind.
        num_classes: K. Required with ``process_group`` and class labels; otherwise it only saves
            time.
        process_group: processes whose batches form one batch. Every process must call the function
            and gets the value of the joined batch. Its gradient is that of the joined batch times
            the number of processes, so the average over processes that data-parallel training takes
            is exact. Only class sums are exchanged: 2 K (D + 1) numbers for class labels.

    Returns:
        Both distances in float32, or float64 for float64 vectors.

    Raises:
        InputError: wrong shape or type, or, on a CPU, wrong label values. Values on a device are
            not read, because that would wait for it.
    """
    intra, inter, _ = correlation_terms(
        attention, labels, reduction=reduction, num_classes=num_classes, process_group=process_group
    )
    return ClassDistances(intra, inter)


def channel_correlation(
    attention: Tensor,
    labels: Tensor,
    eps: float = 1e-6,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Ratio of intra- to inter-class distances, ``intra / (inter + eps)`` (eq. 8 without lambda).

    A batch of singletons has ratio 0. A batch of one class has ratio ``intra / eps``, which is
    large and finite; its gradient contracts the class.

    Args:
        attention: (N, D) floating-point vectors.
        labels: (N,) integer classes, or (N, K) rows of class probabilities.
        eps: positive constant added to the inter-class distance.
        reduction: ``"sum"`` over pairs as in the paper; on balanced classes the ratio then shrinks
            as 1 / (K - 1). ``"mean"`` over pairs does not depend on K or N.
        num_classes: see :func:`class_distances`.
        process_group: see :func:`class_distances`.

    Returns:
        A scalar in float32, or float64 for float64 vectors.

    Raises:
        InputError: as :func:`class_distances`, or ``eps`` is not a positive number.
    """
    return correlation_terms(
        attention, labels, eps, reduction, num_classes=num_classes, process_group=process_group
    ).ratio


def correlation_terms(
    attention: Tensor,
    labels: Tensor,
    eps: float = 1e-6,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> CorrelationTerms:
    """The value of :func:`channel_correlation` together with both distances.

    Args:
        attention: see :func:`channel_correlation`.
        labels: see :func:`channel_correlation`.
        eps: see :func:`channel_correlation`.
        reduction: see :func:`channel_correlation`.
        num_classes: see :func:`class_distances`.
        process_group: see :func:`class_distances`.

    Raises:
        InputError: see :func:`channel_correlation`.
    """
    require_positive("eps", eps)
    require_choice("reduction", reduction, ("sum", "mean"))
    batch = _checked_batch(attention, labels, num_classes, process_group)
    with without_autocast(attention):

        def general(vectors: Tensor) -> CorrelationTerms:
            return _general_terms(batch._replace(vectors=vectors), eps, reduction)

        if _takes_cpu_form(batch):
            means = reduction == "mean"
            terms = CpuTerms.apply(batch.vectors, batch.labels, eps, means, general)
            return CorrelationTerms(*terms)
        return general(batch.vectors)


def class_overlap(
    attention: Tensor,
    labels: Tensor,
    eps: float = 1e-6,
    *,
    num_classes: int | None = None,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    r"""Mean overlap of the pairs of classes. This is not the paper's loss.

    The ratio of sums of eq. 8 is small as soon as a few groups of classes are far apart, even where
    other classes coincide: d ratio / d D_kl is the same for every pair of classes, whatever its
    distance D_kl = |mu_k - mu_l|^2. Here each pair of classes contributes a bounded ratio of its
    own::

        overlap = sum_{k < l} n_k n_l  2 W / (2 W + D_kl + eps)  /  sum_{k < l} n_k n_l
        W = sum_k S_k / N

    2 W is the mean distance of two samples of a class and 2 W + D_kl that of two samples of the
    classes k and l. A coinciding pair contributes 1 and a distant pair 0. The derivative with
    respect to D_kl decreases as 1 / (2 W + D_kl)^2, so close pairs are pushed apart first.

    Time is O(K^2 D + N D), memory O(K^2 + N D). Precision, labels, degenerate batches and processes
    are as in :func:`class_distances`. A batch of one class or of singletons has overlap 0.
    Distances of class means are computed in float64. On a device without it (MPS), pairs of
    classes that are much closer than the others lose digits.

    Args:
        attention: (N, D) floating-point vectors.
        labels: (N,) integer classes, or (N, K) rows of class probabilities.
        eps: positive constant that keeps a pair of identical classes without scatter finite.
        num_classes: see :func:`class_distances`.
        process_group: see :func:`class_distances`.

    Returns:
        A scalar between 0 and 1, in float32, or float64 for float64 vectors.

    Raises:
        InputError: see :func:`channel_correlation`.
    """
    require_positive("eps", eps)
    batch = _checked_batch(attention, labels, num_classes, process_group)
    with without_autocast(attention):
        statistics = _class_statistics(batch)
        counts, centres, offsets, _, _ = statistics
        within = 2 * _scatter(statistics).sum() / _divisor(counts.sum())
        pairs = torch.triu(counts[:, None] * counts, diagonal=1)
        # In float32, rounded means and their matrix product would lose the distance of close pairs.
        wide = _wide_dtype(centres)
        means = _between(counts, centres.to(wide), offsets.to(wide))
        squares = _row_energies(means)
        apart = torch.relu(squares[:, None] + squares - 2 * means @ means.T)
        overlap = (pairs * (within / (within + apart + eps))).sum() / _divisor(pairs.sum())
        return overlap.to(centres.dtype)


class _Batch(NamedTuple):
    """A valid batch.

    Attributes:
        vectors: [N, D] in float32 or float64.
        labels: [N] int64 classes, or [N, K] rows of probabilities as passed.
        num_classes: K, if known.
        process_group: processes to join, or ``None``.
        has_ignored: whether classes may be :data:`IGNORE_INDEX`.
    """

    vectors: Tensor
    labels: Tensor
    num_classes: int | None
    process_group: dist.ProcessGroup | None
    has_ignored: bool


class _Statistics(NamedTuple):
    """Class statistics of a batch; only offsets and energies have gradients.

    One number for each class is kept in float64 where the device has it, because a class may sum
    any number of samples.

    Attributes:
        counts: [K] samples of each class, or sums of their probabilities.
        centres: [K, D] constant points a_k close to the class means.
        offsets: [K, D] class mean minus centre, m_k.
        energies: [K] sum of squared distances to the centre.
        pairs: number of same-class pairs, sum_{i < j} <y_i, y_j>.
    """

    counts: Tensor
    centres: Tensor
    offsets: Tensor
    energies: Tensor
    pairs: Tensor


Reduce = Callable[..., tuple[Tensor, ...]]


def _checked_batch(
    attention: Tensor,
    labels: Tensor,
    num_classes: int | None,
    process_group: dist.ProcessGroup | None,
) -> _Batch:
    check_floats("attention", attention, "(N, D)")
    has_ignored = check_labels(labels, len(attention), num_classes)
    check_same_device(attention, labels)
    vectors = attention.to(torch.promote_types(attention.dtype, torch.float32))
    if not labels.is_floating_point():
        if process_group is not None and num_classes is None:
            raise InputError(
                "num_classes must be given with process_group: processes see other labels"
            )
        labels = labels.long()
        if has_ignored and is_readable(labels):
            kept = labels != IGNORE_INDEX
            vectors, labels, has_ignored = vectors[kept], labels[kept], False
    return _Batch(vectors, labels, num_classes, process_group, has_ignored)


def _takes_cpu_form(batch: _Batch) -> bool:
    """Whether :class:`~ccloss.cpu_terms.CpuTerms` computes the terms of the batch."""
    vectors, labels, _, process_group, has_ignored = batch
    return (
        vectors.device.type == "cpu"
        and process_group is None
        and not (labels.is_floating_point() or has_ignored)
        and is_eager(vectors)
    )


def _general_terms(batch: _Batch, eps: float, reduction: Reduction) -> CorrelationTerms:
    """The terms by plain autograd, for every kind of labels and every device."""
    intra, inter = _distances(_class_statistics(batch), reduction)
    dtype = batch.vectors.dtype
    return CorrelationTerms(intra.to(dtype), inter.to(dtype), (intra / (inter + eps)).to(dtype))


def _class_statistics(batch: _Batch) -> _Statistics:
    if not batch.labels.is_floating_point():
        return _hard_statistics(batch)
    rows = batch.labels.detach().to(batch.vectors.dtype)
    rows = rows / rows.sum(1, keepdim=True)
    return _soft_statistics(batch.vectors, rows, _reducer(batch.process_group))


def _hard_statistics(batch: _Batch) -> _Statistics:
    vectors, labels, rows, process_group, has_ignored = batch
    reduce = _reducer(process_group)
    index = labels
    if rows is None or (rows > len(labels) and process_group is None):
        if is_readable(labels):
            present, index = labels.unique(return_inverse=True)
            rows = len(present)
        else:  # classes numbered by the position of their first occurrence in sorted order
            index, rows = torch.searchsorted(labels.sort().values, labels), len(labels)
    if has_ignored:  # those samples go to one more class, which is dropped below
        index = torch.where(labels == IGNORE_INDEX, rows, index)
        rows += 1
    table = vectors.new_zeros(rows, vectors.shape[1])
    empty = vectors.new_zeros(rows, dtype=_wide_dtype(vectors))

    counts, sums = reduce(
        empty.index_add(0, index, empty.new_ones(len(index))),
        table.index_add(0, index, vectors.detach()),
    )
    inverse = _divisor(counts).reciprocal().to(vectors.dtype)[:, None]
    centres = sums * inverse
    residuals = vectors - centres.index_select(0, index)
    moments, energies = reduce(
        table.index_add(0, index, residuals),
        empty.index_add(0, index, _row_energies(residuals).to(empty.dtype)),
    )
    offsets = moments * inverse
    if has_ignored:
        counts, centres, offsets, energies = (
            each[:-1] for each in (counts, centres, offsets, energies)
        )
    return _Statistics(counts, centres, offsets, energies, (counts * (counts - 1)).sum() / 2)


def _soft_statistics(vectors: Tensor, rows: Tensor, reduce: Reduce) -> _Statistics:
    """Statistics for rows of probabilities (N, K).

    The largest probability of a row is treated like a class label with a weight, the remainder of
    the row by matrix products. One-hot rows have no remainder, so tight classes lose no precision.
    """
    weights, index = rows.max(1)
    remainder = rows.scatter(1, index[:, None], 0)
    samples, total = reduce(rows.new_full((), len(rows)), vectors.detach().sum(0))
    # Distances do not change with the origin; at the mean, squares of the remainder do not cancel.
    origin = total / samples
    shifted = vectors - origin
    table = vectors.new_zeros(rows.shape[1], vectors.shape[1])
    empty = vectors.new_zeros(rows.shape[1], dtype=_wide_dtype(vectors))

    spread = remainder.T @ shifted
    largest, rest, squares, rest_squares, sums = reduce(
        empty.index_add(0, index, weights.to(empty.dtype)),
        remainder.sum(0, dtype=empty.dtype),
        empty.index_add(0, index, weights.to(empty.dtype).square()),
        remainder.to(empty.dtype).square().sum(0),
        table.index_add(0, index, weights[:, None] * shifted.detach()) + spread.detach(),
    )
    counts = largest + rest
    inverse = _divisor(counts, torch.finfo(vectors.dtype).tiny).reciprocal()
    inverse = inverse.to(vectors.dtype)[:, None]
    centres = sums * inverse + origin
    residuals = vectors - centres.index_select(0, index)
    moments, energies, spread, spread_energies = reduce(
        table.index_add(0, index, weights[:, None] * residuals),
        empty.index_add(0, index, (weights * _row_energies(residuals)).to(empty.dtype)),
        spread,
        remainder.T @ _row_energies(shifted),
    )
    points = centres - origin
    moments = moments + (spread - rest.to(points.dtype)[:, None] * points)
    energies = energies + (
        spread_energies - 2 * (points * spread).sum(1) + rest * _row_energies(points)
    )
    same = (largest.square() - squares) + 2 * largest * rest + (rest.square() - rest_squares)
    return _Statistics(counts, centres, moments * inverse, energies, same.sum() / 2)


def _scatter(statistics: _Statistics) -> Tensor:
    """S_k, [K]."""
    counts, _, offsets, energies, _ = statistics
    return energies - counts * _row_energies(offsets)


def _between(counts: Tensor, centres: Tensor, offsets: Tensor) -> Tensor:
    """mu_k - mu, [K, D]."""
    shares = (counts / _divisor(counts.sum())).to(centres.dtype)
    between = (centres - shares @ centres) + offsets
    return between - shares @ between


def _distances(statistics: _Statistics, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """Intra- and inter-class distance."""
    counts, centres, offsets, _, pairs = statistics
    scatter, size = _scatter(statistics), counts.sum()
    between = _between(counts, centres, offsets)
    intra = counts.dot(scatter)
    inter = (size - counts).dot(scatter) + size * (counts * _row_energies(between)).sum()
    if reduction == "mean":
        intra = _mean(intra, pairs)
        inter = _mean(inter, size * (size - 1) / 2 - pairs)
    return intra, inter


def _mean(total: Tensor, pairs: Tensor) -> Tensor:
    """The mean over pairs, or 0 where there are none."""
    # Soft labels leave a rounding error in the number of pairs.
    return total / torch.where(pairs > 1e-9, pairs, torch.inf)


def _divisor(weights: Tensor, smallest: float = 0) -> Tensor:
    """The weights, or 1 where nothing has been summed: a sum of 0 then has the mean 0.

    The compiler of PyTorch 2.4 cannot translate ``clamp`` for this.
    """
    return torch.where(weights > smallest, weights, 1)


def _row_energies(rows: Tensor) -> Tensor:
    """Squared lengths of (N, D) rows, [N]."""
    return (rows * rows).sum(1)


class _AllReduce(torch.autograd.Function):
    """Sum over processes; the gradient is summed over processes as well."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        total = tensor.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _AllReduce.apply(grad, ctx.group)
        return total, None


def _reducer(group: dist.ProcessGroup | None) -> Reduce:
    """A function that sums tensors over a process group in one collective."""
    if group is None:
        return lambda *tensors: tensors

    def reduce(*tensors: Tensor) -> tuple[Tensor, ...]:
        wide = _wide_dtype(tensors[0])
        flat = torch.cat([tensor.flatten().to(wide) for tensor in tensors])
        parts = _AllReduce.apply(flat, group).split([tensor.numel() for tensor in tensors])
        return tuple(
            part.view(tensor.shape).to(tensor.dtype)
            for part, tensor in zip(parts, tensors, strict=True)
        )

    return reduce


def _wide_dtype(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.device.type == "mps" else torch.float64


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context in which products of float32 are not rounded to half precision."""
    kind = tensor.device.type
    if not torch.compiler.is_compiling():  # PyTorch 2.4 cannot trace these queries
        available = torch.amp.is_autocast_available(kind)
        if not (available and torch.is_autocast_enabled(kind)):
            return nullcontext()
    return torch.autocast(kind, enabled=False)
