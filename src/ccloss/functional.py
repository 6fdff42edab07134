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
counts and means. Where a batch is small beside its classes the pairs are the shorter way. With
w_ij = <y_i, y_j> and t_i = sum_j w_ij (c_i - c_j)::

    intra = sum_i <c_i, t_i>,    d intra / d c_i = 2 t_i

and likewise for inter with 1 - w_ij.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ccloss import passes
from ccloss.errors import InputError
from ccloss.options import positive, sum_or_mean

Reduction = Literal["sum", "mean"]


class ClassDistances(NamedTuple):
    """Squared Euclidean distances within and between the classes of a batch, as scalars."""

    intra: Tensor
    inter: Tensor


class CorrelationTerms(NamedTuple):
    """The distances and their ratio, ``intra / (inter + eps)``, as scalars."""

    intra: Tensor
    inter: Tensor
    ratio: Tensor


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
    class labels. Soft labels are worked on in float64; they take O(N K D) time, or O(N^2 (K + D))
    where that is less.

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
    intra, inter, _ = correlation_terms(
        attention, labels, reduction=reduction, num_classes=num_classes, group=group
    )
    return ClassDistances(intra, inter)


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
    terms = correlation_terms(
        attention, labels, eps, reduction, num_classes=num_classes, group=group
    )
    return terms.ratio


def correlation_terms(
    attention: Tensor,
    labels: Tensor,
    eps: float = 1e-6,
    reduction: Reduction = "sum",
    *,
    num_classes: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> CorrelationTerms:
    """What :func:`channel_correlation` gives, together with the distances that it is made of.

    Args:
        attention: see :func:`channel_correlation`.
        labels: see :func:`channel_correlation`.
        eps: see :func:`channel_correlation`.
        reduction: see :func:`channel_correlation`.
        num_classes: see :func:`class_distances`.
        group: see :func:`class_distances`.

    Raises:
        InputError: as :func:`channel_correlation`.
    """
    positive("eps", eps)
    _check(attention, labels, reduction, num_classes, group)
    if _is_fused(attention, labels, group):
        return CorrelationTerms(*_FusedTerms.apply(attention, labels, eps, reduction))
    return _by_operations(attention, labels, eps, reduction, num_classes, group)


FEW = 64
"""Up to so many vectors there are formulas with few operations, which then are the cost."""

SHIFT = 1024
"""So many vectors, at most, whose mean is taken off all."""


class _Totals(NamedTuple):
    """What is known of the whole batch before any distance: all of it free of gradients."""

    counts: Tensor  # [classes] samples a class, or the sum of their probabilities
    size: Tensor | int  # samples
    squares: Tensor | int  # sum of <y_i, y_i>
    shift: Tensor  # [D] mean of some vectors; taken off first, so that nothing is lost to rounding

    def alike(self) -> Tensor:
        """Sum of <y_i, y_j> over all i != j."""
        return self.counts.square().sum() - self.squares


class _Sums(NamedTuple):
    """Distances, and what their means are taken over."""

    intra: Tensor
    inter: Tensor
    size: Tensor | int
    alike: Callable[[], Tensor]  # sum of <y_i, y_j> over all i != j; asked for means alone


def _is_fused(attention: Tensor, labels: Tensor, group: dist.ProcessGroup | None) -> bool:
    """Whether there is one kernel for all of it: a GPU's, for class labels of a small batch."""
    return (
        passes.runs_kernels(attention)
        and group is None
        and not labels.is_floating_point()
        and len(labels) <= FEW
    )


def _by_operations(
    attention: Tensor,
    labels: Tensor,
    eps: float,
    reduction: Reduction,
    num_classes: int | None = None,
    group: dist.ProcessGroup | None = None,
) -> CorrelationTerms:
    if labels.is_floating_point():
        sums = _soft_distances(attention, labels, group)
    else:
        sums = _hard_distances(attention, labels, num_classes, group)
    intra, inter = _reduce(sums, reduction)
    return CorrelationTerms(intra, inter, intra / (inter + eps))


def _hard_distances(
    attention: Tensor, labels: Tensor, num_classes: int | None, group: dist.ProcessGroup | None
) -> _Sums:
    work = attention.to(torch.promote_types(attention.dtype, torch.float32))
    if group is None and len(labels) <= FEW and _double(work) == torch.float64:
        return _few_hard_distances(work, labels[:, None] == labels)
    index, counts = _numbered(labels.long(), num_classes, group is not None)
    totals = _totals(counts.to(work.dtype), len(labels), work.detach(), group)
    intra, inter = _HardDistances.apply(work, index, totals, group)
    return _Sums(intra, inter, totals.size, totals.alike)


def _few_hard_distances(work: Tensor, same: Tensor) -> _Sums:
    """``same`` (N, N) tells which samples are of one class."""
    if passes.is_eager_on_cpu(work):
        weights = same.to(work.dtype)
        intra, inter = _FewDistances.apply(work, weights, weights.sum(1))
    else:  # every operation is a launch there, which costs more than a number's double precision
        intra, inter = _PairDistances.apply(work, same.to(torch.float64))
    return _Sums(intra, inter, len(same), lambda: same.sum() - len(same))


def _soft_distances(attention: Tensor, labels: Tensor, group: dist.ProcessGroup | None) -> _Sums:
    rows = labels.detach()
    # In double precision: soft sums are differences of large products, and the closed form needs
    # shares that sum to 1, where the rows came in a lesser one.
    row_sums = rows.sum(1, keepdim=True, dtype=_double(attention))
    if group is None and _are_few(rows, attention.shape[1]):
        shares = rows / row_sums
        alike = shares @ shares.T
        intra, inter = _PairDistances.apply(attention, alike)
        return _Sums(intra, inter, len(rows), lambda: alike.sum() - alike.trace())
    with torch.no_grad():
        counts, squares = passes.soft_counts(rows, row_sums)
    totals = _totals(counts, squares, attention.detach(), group)
    intra, inter = _SoftDistances.apply(attention, rows, row_sums, totals, group)
    return _Sums(intra, inter, totals.size, totals.alike)


def _are_few(rows: Tensor, width: int) -> bool:
    """Whether pairs are the shorter way for rows of class probabilities."""
    size, classes = rows.shape
    return size <= FEW or size * (classes + width) <= classes * width


def _numbered(labels: Tensor, num_classes: int | None, joined: bool) -> tuple[Tensor, Tensor]:
    """(N,) class numbers and (classes,) their samples.

    The labels serve as they are where there are at least as many samples as classes, or where
    processes must number them alike. Else those that occur are numbered anew, so that no table has
    more rows than the batch.
    """
    eager = passes.is_eager_on_cpu(labels)
    classes = int(labels.max()) + 1 if num_classes is None and eager else num_classes
    if classes is not None and (joined or classes <= len(labels)):
        index = labels
    elif eager:
        _, index, counts = labels.unique(return_inverse=True, return_counts=True)
        return index, counts
    else:  # a shape that depends on values would wait for the device
        ordered, order = labels.sort()
        steps = torch.zeros_like(labels)
        steps[1:] = ordered[1:] != ordered[:-1]
        index, classes = torch.empty_like(labels).scatter_(0, order, steps.cumsum(0)), len(labels)
    if eager:
        return index, torch.bincount(index, minlength=classes)
    return index, labels.new_zeros(classes).index_add_(0, index, torch.ones_like(labels))


def _totals(
    counts: Tensor, squares: Tensor | int, vectors: Tensor, group: dist.ProcessGroup | None
) -> _Totals:
    """Joins the processes' counts and settles on one shift; ``squares`` is sum of <y_i, y_i>."""
    size: Tensor | int = len(vectors)
    shift = vectors[:SHIFT].mean(0, dtype=counts.dtype)
    if group is not None:
        sizes = counts.new_tensor([size, 0.0])
        sizes[1] = squares
        joined = _all_reduce(torch.cat([counts, sizes, shift / _world_size(group)]), group)
        counts, (size, squares), shift = joined.split([len(counts), 2, len(shift)])
    return _Totals(counts, size, squares, shift)


class _FusedTerms(torch.autograd.Function):
    """(intra, inter, ratio) for class labels, a kernel forward and one backward."""

    @staticmethod
    def forward(
        ctx: Any, attention: Tensor, labels: Tensor, eps: float, reduction: Reduction
    ) -> tuple[Tensor, ...]:
        from ccloss import kernels  # Triton takes long to load, and is for GPUs

        terms: tuple[Tensor, ...] = kernels.correlation_terms(
            attention, labels, eps, reduction == "mean"
        )
        ctx.set_materialize_grads(False)  # zeros would be a launch for each term not used
        ctx.eps, ctx.reduction = eps, reduction
        ctx.save_for_backward(attention, labels, *terms[1:])
        return terms

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        from ccloss import kernels

        attention, labels, inter, ratio = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            gradient = _gradient_again(attention, labels, ctx.eps, ctx.reduction, grads)
        else:
            gradient = kernels.correlation_gradient(
                attention, labels, inter, ratio, *grads, ctx.eps, ctx.reduction == "mean"
            )
        return gradient, None, None, None


def _gradient_again(
    attention: Tensor,
    labels: Tensor,
    eps: float,
    reduction: Reduction,
    grads: tuple[Tensor | None, ...],
) -> Tensor:
    """The gradient of :class:`_FusedTerms` by operations that have derivatives of their own."""
    terms = _by_operations(attention, labels, eps, reduction)
    used = [(term, grad) for term, grad in zip(terms, grads, strict=True) if grad is not None]
    outputs, given = zip(*used, strict=True)
    (gradient,) = torch.autograd.grad(outputs, attention, given, create_graph=True)
    return gradient


class _FewDistances(torch.autograd.Function):
    """(intra, inter) for class labels, as few operations as can be: at batch 32 they are the cost.

    With m_i = mu_{y_i} - mu for every sample, inter's last term is N sum_i |m_i|^2.
    """

    @staticmethod
    def forward(ctx: Any, attention: Tensor, same: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        means, away = _few_means(attention, same, counts)
        ctx.save_for_backward(attention, same, counts, means, away)
        size = len(counts)
        scatter = away.square().sum(1)
        across = (size - counts).dot(scatter)
        return counts.dot(scatter), across + size * means.square().sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, same, counts, means, away = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            means, away = _few_means(attention, same, counts)
        grad_intra, grad_inter = grads
        size = len(counts)
        pull = 2 * (grad_intra * counts + grad_inter * (size - counts))
        push = (2 * size * grad_inter) * means
        return torch.addcmul(push, pull[:, None], away), None, None


def _few_means(attention: Tensor, same: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) each: from the mean of the batch to that of the sample's class, thence to the sample.

    Args:
        attention: (N, D) vectors.
        same: (N, N) 1 where two samples are of one class, else 0.
        counts: (N,) samples of each one's class.
    """
    centred = attention - attention.mean(0)
    with torch.autocast("cpu", enabled=False):
        means = (same @ centred) / counts[:, None]
    several = (counts < len(counts))[:, None]  # the one class of a batch is at the batch's mean
    return (means - centred.mean(0)) * several, centred - means


class _PairDistances(torch.autograd.Function):
    """(intra, inter) for any weights of pairs, in the precision of the weights."""

    @staticmethod
    def forward(ctx: Any, attention: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
        """``alike`` (N, N) is how far two samples are of one class, from 0 to 1."""
        centred, towards = _to_others(attention, alike)
        ctx.save_for_backward(attention, alike, towards)
        intra, inter = (towards * centred).sum((1, 2)).clamp(min=0)
        dtype = torch.promote_types(attention.dtype, torch.float32)
        return intra.to(dtype), inter.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, alike, towards = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            _, towards = _to_others(attention, alike)
        grad_intra, grad_inter = grads
        grad = 2 * (grad_intra * towards[0] + grad_inter * towards[1])
        return grad.to(attention.dtype), None


def _to_others(attention: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) centred vectors, and (2, N, D) the sums of their ways from the others.

    The first sum weighs another vector with how far the pair is alike, the second with the rest.
    """
    centred = attention.to(alike.dtype)
    centred = centred - centred.mean(0)
    weights = torch.stack([alike, 1 - alike])
    return centred, weights.sum(2, keepdim=True) * centred - weights @ centred


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
        counts, _, _, shift = totals
        sums = passes.class_sums(attention, index, shift, len(counts))
        means, mean = _class_means(sums, totals, group)
        centres, rounded = _places(means, shift)
        ctx.totals, ctx.group = totals, group
        ctx.save_for_backward(attention, index, mean, centres, rounded)

        squares = passes.square_distances(attention, index, centres)
        # In double precision, for a class may have any number of samples to add up.
        squares = squares.to(_double(attention))
        scatter = squares.new_zeros(len(counts)).index_add_(0, index, squares)
        if group is not None:
            scatter = _all_reduce(scatter, group)
        # About a point beside the mean it is greater than about the mean, by the distance squared.
        scatter -= counts * _square_lengths(rounded)
        return _distances(scatter, means.sub_(mean), totals, attention.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, index, mean, centres, rounded = ctx.saved_tensors
        counts, _, _, shift = ctx.totals
        if _differentiates_backward(ctx):
            sums = passes.class_sums(attention, index, shift, len(counts))
            means, mean = _class_means(sums, ctx.totals)
            centres, rounded = _places(means, shift)
        # The means once more: a table less to keep where there are many classes.
        between = (centres - shift).sub_(rounded).sub_(mean)
        pull, push = _pull_and_push(grads, between, ctx.totals, ctx.group)
        push.addcmul_(pull[:, None], rounded)
        return passes.pull_and_push(attention, index, centres, pull, push), None, None, None


class _SoftDistances(torch.autograd.Function):
    """(intra, inter) for rows of class probabilities, in the precision of the rows' sums."""

    @staticmethod
    def forward(
        ctx: Any,
        attention: Tensor,
        rows: Tensor,
        row_sums: Tensor,
        totals: _Totals,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor]:
        counts, _, _, shift = totals
        sums, squares = passes.soft_sums(attention, rows, row_sums, shift)
        means, mean = _class_means(sums, totals, group)
        ctx.totals, ctx.group = totals, group
        ctx.save_for_backward(attention, rows, row_sums, means, mean)

        # sum_i y_ik |c_i - mu_k|^2 = sum_i y_ik |c_i|^2 - n_k |mu_k|^2, the class's scatter
        if group is not None:
            squares = _all_reduce(squares, group)
        scatter = squares - counts * _square_lengths(means)
        return _distances(scatter, means - mean, totals, attention.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        attention, rows, row_sums, means, mean = ctx.saved_tensors
        shift = ctx.totals.shift
        if _differentiates_backward(ctx):
            sums, _ = passes.soft_sums(attention, rows, row_sums, shift)
            means, mean = _class_means(sums, ctx.totals)
        pull, push = _pull_and_push(grads, means - mean, ctx.totals, ctx.group)
        push.addcmul_(pull[:, None], means, value=-1)
        grad = passes.soft_pull_and_push(attention, rows, row_sums, shift, pull, push)
        return grad, None, None, None, None


def _class_means(
    sums: Tensor, totals: _Totals, group: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor]:
    """(classes, D) means of the classes and (D,) mean of the batch, both from the shift on."""
    if group is not None:
        sums = _all_reduce(sums, group)
    # A class without samples has sum 0; any divisor gives it the mean 0, which nothing reads.
    mean = sums.sum(0) / totals.size
    return sums.div_(totals.counts.clamp(min=torch.finfo(sums.dtype).tiny)[:, None]), mean


def _distances(
    scatter: Tensor, between: Tensor, totals: _Totals, given: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(intra, inter) of the classes' scatters (classes,) and way from the batch's mean."""
    counts, size = totals.counts, totals.size
    scatter = scatter.clamp(min=0)
    outside = (size - counts) * scatter + size * counts * _square_lengths(between)
    dtype = torch.promote_types(given, torch.float32)
    return (counts * scatter).sum().to(dtype), outside.sum().to(dtype)


def _pull_and_push(
    grads: tuple[Tensor, ...], between: Tensor, totals: _Totals, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """(classes,) towards the class's mean, and (classes, D) away from the batch's, in its place."""
    counts, size = totals.counts, totals.size
    grad_intra, grad_inter = (2 * _world_size(group) * grad for grad in grads)
    pull = grad_intra * counts + grad_inter * (size - counts)
    return pull, between.mul_(grad_inter * size)


def _places(means: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """(classes, D) each: where a class's mean is, and what rounding has added to it there."""
    centres = means + shift
    return centres, (centres - shift).sub_(means)


def _square_lengths(rows: Tensor) -> Tensor:
    """(classes,) of a table's rows."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return lengths.square()


def _double(tensor: Tensor) -> torch.dtype:
    """float64, which one kind of device does not have."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _differentiates_backward(ctx: Any) -> bool:
    """Whether a second derivative will be taken, for which the means depend on the vectors."""
    twice = torch.is_grad_enabled()
    if twice and ctx.group is not None:
        raise RuntimeError(
            "second derivatives of class_distances are not defined over a process group; "
            "take them in one process, with group=None"
        )
    return twice


def _reduce(sums: _Sums, reduction: Reduction) -> ClassDistances:
    intra, inter, size, alike = sums
    if reduction == "mean":
        pairs, same = size * (size - 1) / 2, alike() / 2
        intra, inter = _mean(intra, same), _mean(inter, pairs - same)
    return ClassDistances(intra, inter)


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
    sum_or_mean("reduction", reduction)
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
    if passes.is_eager_on_cpu(labels):
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
