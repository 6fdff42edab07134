r"""The mathematics of CC-Loss as pure functions, in the closed form that is linear in the batch.

Eqs. 3, 6 and 7 of Song et al., *CC-Loss: Channel Correlation Loss for Image Classification* (2020),
sum squared distances over the N (N - 1) / 2 pairs of a batch. The same sums need no pairs. With
n_k, mu_k the count and mean of class k, mu the mean of the batch and w_i = c_i - mu_{y_i}::

    intra = sum_i n_{y_i} |w_i|^2
    inter = sum_i (N - n_{y_i}) |w_i|^2  +  N sum_k n_k |mu_k - mu|^2

Every term is non-negative, so nothing cancels, where the paper's sec. 2.3 (``E + E^T - 2G``) loses
vectors that differ little. The gradients, used below as they stand, are::

    d intra / d c_i = 2 n_{y_i} w_i
    d inter / d c_i = 2 (N - n_{y_i}) w_i  +  2 N (mu_{y_i} - mu)

Soft labels replace the indicator I(Y_i, Y_j) by <y_i, y_j>, and the same holds with y-weighted
counts and means.
"""

from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from ccloss.errors import InputError

Reduction = Literal["sum", "mean"]


class ClassDistances(NamedTuple):
    """Squared Euclidean distances within and between the classes of a batch, as scalars."""

    intra: Tensor
    inter: Tensor


def class_distances(
    attention: Tensor,
    labels: Tensor,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> ClassDistances:
    """Distances over the pairs of one class and over the pairs of two (eqs. 3, 6, 7).

    Computed in float32 (float64 if given) whatever autocast says, in O(N D) time and memory for
    class labels and O(N K D) for soft labels, which are worked on in float64.

    Degenerate batches are defined: without a pair of its kind (one sample, one class, singletons
    only) a distance is 0 with gradient 0. Values that are not finite go through.

    Args:
        attention: (N, D) vectors, floating point.
        labels: (N,) integer classes, or (N, K) rows of class probabilities that sum to 1, for which
            a pair counts as same-class to the degree <y_i, y_j>.
        reduction: ``"sum"`` over pairs i < j, as the paper has it, or ``"mean"`` over the pairs of
            each kind.
        num_classes: K. Needed with ``group`` and class labels, of no effect otherwise.
        group: processes whose batches are to be taken as one. The value is that of the joined
            batch on every process. Gradients are the exact ones times the number of processes, so
            that averaging them over processes, as data-parallel training does, gives the gradient
            of the joined batch. Only class sums travel, K (D + 1) numbers, never the vectors.

    Raises:
        InputError: wrong shapes, types or label values (values are looked at on the CPU only: a
            look at a device would wait for it).
        RuntimeError: a second derivative is asked for over a ``group``.
    """
    _check(attention, labels, reduction, num_classes, group)
    if labels.is_floating_point():
        return _reduce(*_soft_distances(attention, labels, group), reduction, attention)
    return _reduce(*_hard_distances(attention, labels, num_classes, group), reduction, attention)


def channel_correlation(
    attention: Tensor,
    labels: Tensor,
    eps: float = 1e-6,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Ratio of intra- to inter-class distances, ``intra / (inter + eps)`` (eq. 8, without lambda).

    A batch of singletons has ratio 0. A batch of one class has ratio ``intra / eps``: large, with a
    large gradient that pulls the class together; it is finite, and what eq. 8 says.

    Args:
        attention: (N, D) vectors, floating point.
        labels: (N,) integer classes, or (N, K) rows of class probabilities.
        eps: positive constant added to the inter-class distance.
        reduction: ``"sum"`` over pairs, as the paper has it: the ratio then shrinks as 1 / (K - 1)
            on balanced classes. ``"mean"`` over pairs: it does not depend on K or N.
        num_classes: see :func:`class_distances`.
        group: see :func:`class_distances`.

    Returns:
        A scalar in float32, or float64 if ``attention`` is.

    Raises:
        InputError: as :func:`class_distances`, or ``eps`` is not a positive number.
    """
    check_eps(eps)
    intra, inter = class_distances(
        attention, labels, reduction, num_classes=num_classes, group=group
    )
    return intra / (inter + eps)


def check_eps(eps: float) -> None:
    """Refuses an ``eps`` that cannot keep the ratio finite."""
    if not 0 < eps < float("inf"):
        raise InputError(f"eps must be a positive number, got {eps}")


def check_reduction(reduction: str) -> None:
    """Refuses what is neither ``"sum"`` nor ``"mean"``."""
    if reduction not in get_args(Reduction):
        raise InputError(f'reduction must be "sum" or "mean", got {reduction!r}')


class _Totals(NamedTuple):
    """What is known of the whole batch before any distance: all of it free of gradients."""

    counts: Tensor  # [classes] samples a class, or the sum of their probabilities
    size: Tensor  # [] samples
    intra_pairs: Tensor  # [] pairs i < j of one class, or the sum of <y_i, y_j>
    shift: Tensor  # [D] mean vector; taken off first, so that nothing is lost to rounding


def _hard_distances(
    attention: Tensor, labels: Tensor, num_classes: int | None, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, _Totals]:
    work = attention.to(torch.promote_types(attention.dtype, torch.float32))
    if group is None or num_classes is None:
        index, classes = _dense_index(labels.long()), len(labels)
    else:
        index, classes = labels.long(), num_classes
    ones = work.new_ones(len(labels))
    counts = work.new_zeros(classes).index_add_(0, index, ones)
    totals = _totals(counts, ones.sum(), ones.sum(), work.detach(), group)
    intra, inter = _HardDistances.apply(work, index, totals, group)
    return intra, inter, totals


def _soft_distances(
    attention: Tensor, labels: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, _Totals]:
    # The soft sums are differences of large products, so they are taken in double precision, which
    # one kind of device does not have.
    precise = torch.float32 if attention.device.type == "mps" else torch.float64
    work, rows = attention.to(precise), labels.detach().to(precise)
    # The closed form needs rows that sum to 1 exactly, where they came in a lesser precision.
    rows = rows / rows.sum(1, keepdim=True)
    size = rows.new_ones(len(rows)).sum()
    totals = _totals(rows.sum(0), size, rows.square().sum(), work.detach(), group)
    intra, inter = _SoftDistances.apply(work, rows, totals, group)
    return intra, inter, totals


def _dense_index(labels: Tensor) -> Tensor:
    """Numbers the classes that occur 0, 1, ...: any label will do, and no shape depends on data."""
    ordered, order = labels.sort()
    steps = torch.zeros_like(labels)
    steps[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(labels).scatter_(0, order, steps.cumsum(0))


def _totals(
    counts: Tensor,
    size: Tensor,
    squares: Tensor,
    vectors: Tensor,
    group: dist.ProcessGroup | None,
) -> _Totals:
    """Joins the processes' counts and sums of vectors; ``squares`` is the sum of <y_i, y_i>."""
    total = vectors.sum(0)
    if group is not None:
        joined = torch.cat([counts, torch.stack([size, squares]), total])
        counts, (size, squares), total = _all_reduce(joined, group).split(
            [len(counts), 2, len(total)]
        )
    intra_pairs = (counts.square().sum() - squares) / 2
    return _Totals(counts, size, intra_pairs, total / size)


class _HardDistances(torch.autograd.Function):
    """(intra, inter) for class labels, with the gradient of the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any,
        attention: Tensor,
        index: Tensor,
        totals: _Totals,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor]:
        counts, size, _, shift = totals
        means, between = _class_means(attention - shift, index, counts, size, group)
        ctx.group = group
        ctx.save_for_backward(attention, index, counts, size, shift, means, between)

        weights = counts[index]
        scatter = (attention - shift - means[index]).square().sum(1)
        intra = weights.dot(scatter)
        across = (size - weights).dot(scatter)
        if group is not None:
            intra, across = _all_reduce(torch.stack([intra, across]), group)
        return intra, across + size * counts.dot(between.square().sum(1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, index, counts, size, shift, means, between = ctx.saved_tensors
        grad_intra, grad_inter = grads
        centred = attention - shift
        if _differentiates_backward(ctx):
            means, between = _class_means(centred, index, counts, size, None)
        weights = counts[index]
        pull = grad_intra * weights + grad_inter * (size - weights)
        push = (grad_inter * size) * between
        grad = torch.addcmul(push[index], pull[:, None], centred - means[index])
        return 2 * _world_size(ctx.group) * grad, None, None, None


class _SoftDistances(torch.autograd.Function):
    """(intra, inter) for rows of class probabilities."""

    @staticmethod
    def forward(
        ctx: Any, attention: Tensor, rows: Tensor, totals: _Totals, group: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        counts, size, _, shift = totals
        means, between = _class_means(attention - shift, rows, counts, size, group)
        ctx.group = group
        ctx.save_for_backward(attention, rows, counts, size, shift, means, between)

        # sum_i y_ik |c_i - mu_k|^2 = sum_i y_ik |c_i|^2 - n_k |mu_k|^2, the class's scatter
        scatter = rows.T @ (attention - shift).square().sum(1)
        if group is not None:
            scatter = _all_reduce(scatter, group)
        scatter = (scatter - counts * means.square().sum(1)).clamp(min=0)
        intra = counts.dot(scatter)
        inter = (size - counts).dot(scatter) + size * counts.dot(between.square().sum(1))
        return intra, inter

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, rows, counts, size, shift, means, between = ctx.saved_tensors
        grad_intra, grad_inter = grads
        centred = attention - shift
        if _differentiates_backward(ctx):
            means, between = _class_means(centred, rows, counts, size, None)
        pull = grad_intra * counts + grad_inter * (size - counts)
        grad = (rows @ pull)[:, None] * centred - rows @ (pull[:, None] * means)
        grad = grad + (grad_inter * size) * (rows @ between)
        return 2 * _world_size(ctx.group) * grad, None, None, None


def _class_means(
    vectors: Tensor, labels: Tensor, counts: Tensor, size: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """(classes, D) means of the classes, and their differences from the mean of the batch."""
    if labels.is_floating_point():
        sums = labels.T @ vectors
    else:
        sums = vectors.new_zeros(len(counts), vectors.shape[1]).index_add(0, labels, vectors)
    if group is not None:
        sums = _all_reduce(sums, group)
    # A class without samples has sum 0; any divisor gives it the mean 0, which nothing reads.
    means = sums / torch.where(counts > 0, counts, 1)[:, None]
    return means, means - sums.sum(0) / size


def _differentiates_backward(ctx: Any) -> bool:
    """Whether a second derivative will be taken, for which the means depend on the vectors."""
    twice = torch.is_grad_enabled()
    if twice and ctx.group is not None:
        raise RuntimeError(
            "second derivatives of class_distances are not defined over a process group; "
            "take them in one process, with group=None"
        )
    return twice


def _reduce(
    intra: Tensor, inter: Tensor, totals: _Totals, reduction: Reduction, like: Tensor
) -> ClassDistances:
    if reduction == "mean":
        inter_pairs = totals.size * (totals.size - 1) / 2 - totals.intra_pairs
        intra, inter = _mean(intra, totals.intra_pairs), _mean(inter, inter_pairs)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return ClassDistances(intra.to(dtype), inter.to(dtype))


def _mean(total: Tensor, pairs: Tensor) -> Tensor:
    """Total over pairs, and 0 where there are none."""
    # Soft labels leave a rest of rounding where there is no pair.
    some = pairs > 1e-9
    return torch.where(some, total / torch.where(some, pairs, 1), torch.zeros_like(total))


def _all_reduce(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    joined = tensor.detach().contiguous().clone()
    dist.all_reduce(joined, group=group)
    return joined


def _world_size(group: dist.ProcessGroup | None) -> int:
    return 1 if group is None else dist.get_world_size(group)


def _check(
    attention: Tensor,
    labels: Tensor,
    reduction: str,
    num_classes: int | None,
    group: dist.ProcessGroup | None,
) -> None:
    if attention.ndim != 2 or not attention.is_floating_point():
        raise InputError(
            "attention must be (N, D) floating point, one vector a sample, "
            f"got {_describe(attention)}"
        )
    check_reduction(reduction)
    check_labels(labels, len(attention), num_classes)
    if group is not None and num_classes is None and not labels.is_floating_point():
        raise InputError("num_classes must be given with group: processes see different classes")


def check_labels(labels: Tensor, samples: int, num_classes: int | None = None) -> None:
    """Refuses labels that are neither (N,) classes nor (N, K) probabilities.

    Args:
        labels: what came.
        samples: N, at least 1.
        num_classes: K, if known.

    Raises:
        InputError: wrong shape or type; on the CPU also wrong values.
    """
    if samples == 0:
        raise InputError("the batch is empty (0 samples); give at least one sample")
    if labels.is_floating_point():
        if labels.ndim != 2 or (num_classes is not None and labels.shape[1] != num_classes):
            width = "K" if num_classes is None else num_classes
            raise InputError(
                f"labels must be (N,) int64 or (N, {width}) probabilities, got {_describe(labels)}"
            )
    elif labels.ndim != 1 or labels.dtype == torch.bool or labels.is_complex():
        raise InputError(
            f"labels must be (N,) int64 or (N, K) probabilities, got {_describe(labels)}"
        )
    if len(labels) != samples:
        raise InputError(f"labels must be one a sample: {len(labels)} labels, {samples} samples")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(labels, num_classes)


def _check_values(labels: Tensor, num_classes: int | None) -> None:
    if labels.is_floating_point():
        sums = labels.detach().sum(1, dtype=torch.float64)
        # 1e-2 lets bfloat16 rows pass; what is meant to be caught is counts and logits.
        if not bool(((sums - 1).abs() < 1e-2).all() & (labels >= 0).all()):
            raise InputError(
                "labels given as rows must be probabilities that sum to 1, "
                f"got sums from {sums.min():.4g} to {sums.max():.4g} "
                f"and values from {labels.min():.4g}"
            )
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or (num_classes is not None and high >= num_classes):
        last = "K - 1" if num_classes is None else num_classes - 1
        wrong = low if low < 0 else high
        raise InputError(f"labels must lie in 0..{last}, got {wrong}")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
