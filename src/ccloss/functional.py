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

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ccloss.errors import InputError
from ccloss.validation import require_choice, require_positive

Reduction = Literal["sum", "mean"]

IGNORE_INDEX = -100
"""Samples with this label are left out, as in :func:`torch.nn.functional.cross_entropy`."""

SMALL_BATCH = 64
"""Samples up to which :func:`_small_batch_distances` is faster than class statistics."""

LARGE_BATCH = 2**18
"""Elements of (N, D) from which :class:`_BlockedMoments` is faster than plain autograd on a CPU."""

BLOCK = 256
"""Rows of a block."""

LARGE_TABLE = 2**24
"""Elements of (K, K, D) from which differences of class means are computed block by block."""


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
            is exact. Only class sums are exchanged: K (D + 2) numbers.

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
        if _is_small(batch):
            intra, inter = _small_batch_distances(batch.vectors, batch.labels, reduction)
        else:
            intra, inter = _distances(_class_statistics(batch), reduction)
        dtype = batch.vectors.dtype
        return CorrelationTerms(intra.to(dtype), inter.to(dtype), (intra / (inter + eps)).to(dtype))


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

    Time is O(K^2 D + N D); memory is bounded. Precision, labels, degenerate batches and processes
    are as in :func:`class_distances`. A batch of one class or of singletons has overlap 0.

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
        scatter = _scatter(statistics).sum() / _divisor(counts.sum())
        pairs = torch.triu(counts[:, None] * counts, diagonal=1)
        overlap = _sum_of_overlaps(centres, offsets, 2 * scatter, pairs, eps)
        overlap = overlap / _divisor(pairs.sum())
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


class _PairCounts(NamedTuple):
    """Numbers of same-class pairs and of all other pairs, as scalars."""

    same: Tensor
    other: Tensor


def _checked_batch(
    attention: Tensor,
    labels: Tensor,
    num_classes: int | None,
    process_group: dist.ProcessGroup | None,
) -> _Batch:
    _check_vectors(attention)
    has_ignored = check_labels(labels, len(attention), num_classes)
    check_same_device(attention, labels)
    vectors = attention.to(torch.promote_types(attention.dtype, torch.float32))
    if not labels.is_floating_point():
        if process_group is not None and num_classes is None:
            raise InputError(
                "num_classes must be given with process_group: processes see other labels"
            )
        labels = labels.long()
        if has_ignored and _is_readable(labels):
            kept = labels != IGNORE_INDEX
            vectors, labels, has_ignored = vectors[kept], labels[kept], False
    return _Batch(vectors, labels, num_classes, process_group, has_ignored)


def _is_small(batch: _Batch) -> bool:
    hard = not (batch.labels.is_floating_point() or batch.has_ignored)
    fits = hard and len(batch.labels) <= SMALL_BATCH and batch.process_group is None
    fits = fits and _wide_dtype(batch.vectors) == torch.float64
    return fits and _is_eager(batch.vectors) and _is_eager(batch.labels)


def _small_batch_distances(vectors: Tensor, labels: Tensor, reduction: Reduction) -> ClassDistances:
    intra, inter, counts = _SmallBatch.apply(vectors, labels)
    distances, size = ClassDistances(intra, inter), len(labels)
    if reduction == "sum":
        return distances
    same = (counts.sum() - size) / 2
    return _means(distances, _PairCounts(same, size * (size - 1) / 2 - same))


class _SmallBatch(torch.autograd.Function):
    """Both distances of a small batch with class labels, and the size n_k of each sample's class.

    The formulas are those of the module's documentation, summed over samples instead of classes.
    The number of operations is the cost of a small batch: this form needs few, and its backward
    pass needs half of those of plain autograd. ``benchmarks/loss.py`` measures it. Derivatives of
    higher order use plain autograd.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        within, between, counts = _deviations(vectors, labels)
        ctx.save_for_backward(vectors, labels, within, between, counts)
        size = len(labels)
        energies = _row_energies(within)
        intra = counts.dot(energies)
        inter = (size - counts).dot(energies) + size * between.square().sum()
        ctx.mark_non_differentiable(counts)
        return intra.to(vectors.dtype), inter.to(vectors.dtype), counts

    @staticmethod
    def backward(
        ctx: Any, grad_intra: Tensor, grad_inter: Tensor, _: Tensor
    ) -> tuple[Tensor, None]:
        vectors, labels, within, between, counts = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of higher order is requested
            within, between, counts = _deviations(vectors, labels)
        size = len(labels)
        scales = 2 * (grad_intra * counts + grad_inter * (size - counts))
        gradient = torch.addcmul(2 * size * grad_inter * between, within, scales.unsqueeze(1))
        return gradient.to(vectors.dtype), None


def _deviations(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Deviations x_i - mu_k and mu_k - mu of each sample i of class k, [N, D], and n_k, [N].

    In float64, where means of float32 vectors need no second centring.
    """
    wide = vectors.double()
    same = (labels.unsqueeze(1) == labels).double()
    counts = same.sum(1)
    average = same / counts.unsqueeze(1)  # [N, N] @ vectors = class means
    between = (average - 1 / max(1, len(labels))) @ wide  # exactly 0 for one class
    return wide - average @ wide, between, counts


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
        # Classes numbered by the position of their first occurrence in sorted order.
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
    moments, energies = reduce(*_moments(vectors, centres, index))
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
        remainder.square().sum(0, dtype=empty.dtype),
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
        spread_energies - 2 * (points * spread).sum(1) + rest * (points * points).sum(1)
    )
    same = (largest.square() - squares) + 2 * largest * rest + (rest.square() - rest_squares)
    return _Statistics(counts, centres, moments * inverse, energies, same.sum() / 2)


def _scatter(statistics: _Statistics) -> Tensor:
    """S_k, [K]."""
    counts, _, offsets, energies, _ = statistics
    return energies - counts * (offsets * offsets).sum(1)


def _distances(statistics: _Statistics, reduction: Reduction) -> ClassDistances:
    counts, centres, offsets, _, pairs = statistics
    scatter = _scatter(statistics)
    size = counts.sum()
    shares = (counts / _divisor(size)).to(centres.dtype)
    between = (centres - shares @ centres) + offsets
    between = between - shares @ between
    intra = counts.dot(scatter)
    inter = (size - counts).dot(scatter) + size * (counts * (between * between).sum(1)).sum()
    distances = ClassDistances(intra, inter)
    if reduction == "sum":
        return distances
    return _means(distances, _PairCounts(pairs, size * (size - 1) / 2 - pairs))


def _means(distances: ClassDistances, pairs: _PairCounts) -> ClassDistances:
    """Means over the pairs of each kind, or 0 where there are none."""

    def mean(total: Tensor, number: Tensor) -> Tensor:
        exist = number > 1e-9  # soft labels leave a rounding error where there is no pair
        return torch.where(exist, total / torch.where(exist, number, 1), 0 * total)

    return ClassDistances(mean(distances.intra, pairs.same), mean(distances.inter, pairs.other))


def _sum_of_overlaps(
    centres: Tensor, offsets: Tensor, within: Tensor, pairs: Tensor, eps: float
) -> Tensor:
    """Sum over pairs of classes of ``pairs * within / (within + D + eps)``."""

    def overlap(rows: slice) -> Tensor:
        differences = (centres[rows, None] - centres) + (offsets[rows, None] - offsets)
        distances = (differences * differences).sum(2)
        return (pairs[rows] * within / (within + distances + eps)).sum()

    classes, width = centres.shape
    if classes * classes * width <= LARGE_TABLE:
        return overlap(slice(None))
    block = max(1, LARGE_TABLE // (classes * width))
    parts: list[Tensor] = [
        checkpoint(overlap, slice(first, first + block), use_reentrant=False)
        for first in range(0, classes, block)
    ]
    return torch.stack(parts).sum()


def _divisor(weights: Tensor, smallest: float = 0) -> Tensor:
    """The weights, or 1 where nothing has been summed: a sum of 0 then has the mean 0.

    The compiler of PyTorch 2.4 cannot translate ``clamp`` for this.
    """
    return torch.where(weights > smallest, weights, 1)


def _row_energies(rows: Tensor) -> Tensor:
    """Squared lengths of (N, D) rows, [N]."""
    return (rows * rows).sum(1)


def _moments(vectors: Tensor, centres: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over each class of residuals and of their squared lengths.

    Args:
        vectors: [N, D].
        centres: [K, D] constants.
        index: [N] classes.

    Returns:
        [K, D] sums of ``vectors - centres[index]``, and [K] sums of its squared lengths.
    """
    if _is_large_on_cpu(vectors):
        moments: tuple[Tensor, Tensor] = _BlockedMoments.apply(vectors, centres, index)
        return moments
    residuals = vectors - centres.index_select(0, index)
    energies = centres.new_zeros(len(centres), dtype=_wide_dtype(centres))
    return (
        torch.zeros_like(centres).index_add(0, index, residuals),
        energies.index_add(0, index, _row_energies(residuals).to(energies.dtype)),
    )


def _is_large_on_cpu(vectors: Tensor) -> bool:
    return vectors.numel() >= LARGE_BATCH and vectors.device.type == "cpu" and _is_eager(vectors)


class _BlockedMoments(torch.autograd.Function):
    """:func:`_moments` of a large CPU batch, one block of rows after the other.

    Blocks stay in the processor's cache, and no residuals of the size of the batch are stored.
    ``benchmarks/loss.py`` measures it. Derivatives of higher order use plain autograd.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, centres: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(vectors, centres, index)
        moments = torch.zeros_like(centres)
        energies = centres.new_zeros(len(centres), dtype=_wide_dtype(centres))
        buffer = vectors.new_empty(BLOCK, vectors.shape[1])
        for rows, classes in _blocks(vectors, index):
            residuals = _residuals(rows, centres, classes, buffer)
            lengths = torch.linalg.vector_norm(residuals, dim=1)
            moments.index_add_(0, classes, residuals)
            energies.index_add_(0, classes, lengths.square().to(energies.dtype))
        return moments, energies

    @staticmethod
    def backward(
        ctx: Any, grad_moments: Tensor, grad_energies: Tensor
    ) -> tuple[Tensor, None, None]:
        vectors, centres, index = ctx.saved_tensors
        scales = (2 * grad_energies).to(vectors.dtype)
        if torch.is_grad_enabled():  # a derivative of higher order is requested
            residuals = vectors - centres[index]
            return grad_moments[index] + scales[index, None] * residuals, None, None
        gradient = torch.empty_like(vectors)
        buffer = vectors.new_empty(BLOCK, vectors.shape[1])
        for (rows, classes), out in zip(
            _blocks(vectors, index), gradient.split(BLOCK), strict=True
        ):
            residuals = _residuals(rows, centres, classes, buffer)
            torch.index_select(grad_moments, 0, classes, out=out)
            out.addcmul_(residuals, scales[classes, None])
        return gradient, None, None


def _residuals(rows: Tensor, centres: Tensor, classes: Tensor, buffer: Tensor) -> Tensor:
    """``rows - centres[classes]`` in the memory of ``buffer``."""
    out = buffer[: len(rows)]
    torch.index_select(centres, 0, classes, out=out)
    return torch.sub(rows, out, out=out)


def _blocks(vectors: Tensor, index: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(vectors.split(BLOCK), index.split(BLOCK), strict=True)


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


# --- validation -----------------------------------------------------------------------------------

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _check_vectors(attention: Tensor) -> None:
    check_tensor("attention", attention, "(N, D) floating-point vectors, one for each sample")
    if attention.ndim != 2 or not is_float(attention):
        raise InputError(
            "attention must be (N, D) floating-point vectors, one for each sample, "
            f"got {describe(attention)}"
        )


def check_tensor(name: str, value: Any, expected: str) -> None:
    """Raises :class:`InputError` unless ``value`` is a dense tensor.

    Args:
        name: name of the argument.
        value: what was passed.
        expected: what the argument must be, for the message.
    """
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} must be a tensor of {expected}, got {type(value).__name__}; "
            "convert it with torch.as_tensor"
        )
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        raise InputError(f"{name} must be a dense tensor of {expected}, got {describe(value)}")


def check_same_device(vectors: Tensor, labels: Tensor) -> None:
    """Raises :class:`InputError` if labels are on another device than the vectors or logits."""
    if labels.device != vectors.device:
        raise InputError(
            f"labels must be on the device of the model's output, {vectors.device}, got labels on "
            f"{labels.device}; move them with labels.to({str(vectors.device)!r})"
        )


def is_float(tensor: Tensor) -> bool:
    """Whether arithmetic works with the tensor's type: float16, bfloat16, float32 or float64."""
    return tensor.dtype in _FLOATS


def check_labels(labels: Tensor, samples: int, num_classes: int | None = None) -> bool:
    """Checks labels: (N,) integer classes or (N, K) rows of probabilities.

    Args:
        labels: what was passed.
        samples: N, at least 1.
        num_classes: K, if known.

    Returns:
        Whether some samples may have to be ignored. Labels on a device are not read.

    Raises:
        InputError: wrong shape or type; on a CPU also wrong values.
    """
    if samples == 0:
        raise InputError("the batch is empty (0 samples); pass at least one sample")
    check_tensor("labels", labels, "(N,) integer classes or (N, K) probabilities")
    if labels.is_floating_point():
        fits = labels.ndim == 2 and labels.shape[1] > 0 and is_float(labels)
        fits = fits and num_classes in (None, labels.shape[1])
    else:
        fits = labels.ndim == 1 and labels.dtype != torch.bool and not labels.is_complex()
    if not fits:
        width = "K" if num_classes is None else num_classes
        raise InputError(
            f"labels must be (N,) integer classes or (N, {width}) probabilities, "
            f"got {describe(labels)}"
        )
    if len(labels) != samples:
        raise InputError(
            f"labels must have one entry for each sample: {len(labels)} labels, {samples} samples"
        )
    if labels.is_floating_point():
        if _is_readable(labels):
            _check_probabilities(labels)
        return False
    return not _is_readable(labels) or _check_classes(labels.long(), num_classes)


def _is_readable(labels: Tensor) -> bool:
    """Whether values can be read: not on a device, not while tracing, not inside torch.func."""
    return labels.device.type == "cpu" and _is_plain(labels)


def _is_eager(tensor: Tensor) -> bool:
    """Whether a :class:`torch.autograd.Function` can take the tensor in every way it is used."""
    return _is_plain(tensor) and torch.autograd.forward_ad.unpack_dual(tensor).tangent is None


def _is_plain(tensor: Tensor) -> bool:
    """Whether operations run immediately: not while tracing, not inside torch.func."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _check_probabilities(rows: Tensor) -> None:
    sums = rows.detach().sum(1, dtype=torch.float64)
    # The tolerance admits rows in bfloat16; counts and logits are what it rejects.
    if not bool(((sums - 1).abs() < 1e-2).all() & (rows >= 0).all()):
        raise InputError(
            "labels given as rows must be probabilities that sum to 1, "
            f"got sums from {sums.min():.4g} to {sums.max():.4g} and values from {rows.min():.4g}"
        )


def _check_classes(labels: Tensor, num_classes: int | None) -> bool:
    """Checks the range of class labels; whether some of them are :data:`IGNORE_INDEX`."""
    lowest, highest = (int(value) for value in labels.aminmax())
    has_ignored = lowest < 0
    if has_ignored:
        lowest = int(labels.where(labels != IGNORE_INDEX, 0).min())
    if lowest < 0 or (num_classes is not None and highest >= num_classes):
        last = "K - 1" if num_classes is None else num_classes - 1
        raise InputError(
            f"labels must lie in 0..{last} ({IGNORE_INDEX} leaves a sample out), "
            f"got {lowest if lowest < 0 else highest}"
        )
    return has_ignored


def describe(tensor: Tensor) -> str:
    """Shape, type and layout of a tensor for a message, for example ``(32, 10) float32``."""
    text = f"{tuple(tensor.shape)}" if not tensor.is_nested else "a nested tensor,"
    text += f" {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.layout != torch.strided:
        text += f" {str(tensor.layout).removeprefix('torch.')}"
    return text
