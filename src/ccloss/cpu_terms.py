"""CC-Loss of class labels on a CPU, with an explicit backward pass.

The formulas are those of :mod:`ccloss.functional`. Plain autograd stores and rereads several
tensors of the size of the batch; this form stores one and needs fewer operations.
``benchmarks/loss.py`` measures this form.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

GeneralForm = Callable[[Tensor], Sequence[Tensor]]


class CpuTerms(torch.autograd.Function):
    """``CpuTerms.apply(vectors, labels, eps, means, general)``: intra, inter and ratio.

    Args:
        vectors: (N, D) in float32 or float64.
        labels: (N,) int64 classes, none of them ignored.
        eps: positive constant added to the inter-class distance.
        means: whether distances are means over pairs instead of sums.
        general: the same terms as a function of the vectors by plain autograd, for derivatives of
            higher order.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, labels: Tensor, eps: float, means: bool, general: GeneralForm
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = len(labels)
        _, index, counts = labels.unique(return_inverse=True, return_counts=True)
        real = counts.to(vectors.dtype)
        inverse, shares = real.reciprocal().unsqueeze(1), real / size
        sums = vectors.new_zeros(len(counts), vectors.shape[1])
        centres = sums.index_add(0, index, vectors).mul_(inverse)
        residuals = centres.index_select(0, index)
        torch.sub(vectors, residuals, out=residuals)
        offsets = sums.index_add_(0, index, residuals).mul_(inverse)
        between = (centres - shares @ centres).add_(offsets)
        between = between - shares @ between

        counts = counts.double()
        lengths = torch.linalg.vector_norm(residuals, dim=1).square_()
        energies = torch.bincount(index, weights=lengths.double(), minlength=len(counts))
        scatter = energies - counts * (offsets * offsets).sum(1)
        intra = counts.dot(scatter).item()
        inter = (size - counts).dot(scatter).item()
        inter += size * counts.dot((between * between).sum(1).double()).item()

        ctx.scales = (1.0, 1.0)
        if means:
            same = counts.dot(counts - 1).item() / 2
            other = size * (size - 1) / 2 - same
            ctx.scales = (1 / same if same else 0.0, 1 / other if other else 0.0)
        intra, inter = intra * ctx.scales[0], inter * ctx.scales[1]
        ctx.ratio, ctx.denominator = intra / (inter + eps), inter + eps
        ctx.general = general
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(vectors, index, counts, residuals, offsets, between)
        intra, inter, ratio = (
            torch.scalar_tensor(value, dtype=vectors.dtype) for value in (intra, inter, ctx.ratio)
        )
        return intra, inter, ratio

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None, None, None]:
        vectors, index, counts, residuals, offsets, between = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of higher order is requested
            pairs = zip(ctx.general(vectors), gradients, strict=True)
            used = [(term, gradient) for term, gradient in pairs if gradient is not None]
            terms, given = zip(*used, strict=True)
            (own,) = torch.autograd.grad(terms, vectors, given, create_graph=True)
            return own, None, None, None, None
        of_intra, of_inter, of_ratio = (
            0.0 if gradient is None else gradient.item() for gradient in gradients
        )
        of_intra = ctx.scales[0] * (of_intra + of_ratio / ctx.denominator)
        of_inter = ctx.scales[1] * (of_inter - of_ratio * (ctx.ratio / ctx.denominator))

        # d / d x_i = scale_k (x_i - mu_k) + 2 N of_inter (mu_k - mu),  k = y_i
        size = len(index)
        scales = torch.add(counts * (2 * of_intra), size - counts, alpha=2 * of_inter)
        scales = scales.to(vectors.dtype).unsqueeze(1)
        table = (between * (2 * size * of_inter)).addcmul_(offsets, scales, value=-1)
        own = table.index_select(0, index).addcmul_(residuals, scales.index_select(0, index))
        return own, None, None, None, None
