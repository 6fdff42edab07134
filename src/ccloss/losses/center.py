"""Center loss."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.losses.base import Loss, full_precision, without_autocast
from ccloss.options import check_options, whole
from ccloss.output import Output


@final
class CenterLoss(Loss):
    r"""Cross-entropy, and features near the centre of their class.

    Wen et al., *A Discriminative Feature Learning Approach for Deep Face Recognition* (2016), eqs.
    2 to 5 (official formula, with the mean over the batch in both terms)::

        L = CE(logits, labels) + weight / 2 * mean_i |f_i - c_{y_i}|^2

    with sum_k y_ik |f_i - c_k|^2 for soft labels (our reading). Centres are parameters that start
    at 0. As in the paper they are not moved by the gradient of L, whose weight would hardly stir
    them, but by eq. 4::

        delta_k = sum_{i in k} (c_k - f_i) / (1 + n_k)

    which is what the backward pass hands the optimiser as their gradient, whatever the weight; its
    learning rate takes the place of the paper's alpha of 0.5 (our reading). A class without a
    sample in the batch has delta 0.

    ``terms`` gives ``total``, ``ce`` and ``center``, mean_i |f_i - c_{y_i}|^2 / 2 before the
    weight.

    Args:
        num_classes: K.
        features: D, width of the features.
        weight: lambda, 0 or more; 0.003 in the paper.
        class_weights: see :class:`Loss`; centres are not weighted.
        label_smoothing: see :class:`Loss`; centres take the labels as they come.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight / 2 * mean_i |f_i - c_{y_i}|^2, centres c learned"
    source = "Wen et al. 2016, eqs. 2-5; official formula (step of the centres: our reading)"

    def __init__(
        self,
        num_classes: int,
        features: int,
        weight: float = 0.003,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        whole("num_classes", num_classes)
        whole("features", features)
        check_options("center", weight=weight)
        self.weight = weight
        self.centers = nn.Parameter(torch.zeros(num_classes, features))

    def check(self, output: Output, labels: Tensor) -> None:
        super().check(output, labels)
        fitting = output.logits.shape[1], output.features.shape[-1]
        if tuple(self.centers.shape) != fitting:
            raise InputError(
                f"num_classes and features of CenterLoss must be {fitting} for this output, "
                f"got {tuple(self.centers.shape)}"
            )

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        ce = self.cross_entropy(output.logits, labels)
        features = full_precision(output.features)
        centers = self.centers.to(torch.promote_types(self.centers.dtype, features.dtype))
        with without_autocast(features):
            if labels.is_floating_point():
                distances, delta = _soft_distances(features, centers.detach(), labels)
            else:
                distances, delta = _hard_distances(features, centers.detach(), labels.long())
        center = distances.mean() / 2
        # Exactly 0, with gradient delta at the centres.
        step = (centers * delta).sum()
        total = ce + self.weight * center + (step - step.detach())
        return {"total": total, "ce": ce, "center": center}

    def extra_repr(self) -> str:
        return f"weight={self.weight}"


def _hard_distances(features: Tensor, centers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) squared distances to the samples' centres, and eq. 4's step of the centres (K, D)."""
    apart = features - centers[labels]
    counts = apart.new_ones(len(centers)).index_add(0, labels, apart.new_ones(len(labels)))
    pull = torch.zeros_like(centers).index_add(0, labels, -apart.detach())
    return apart.square().sum(1), pull / counts[:, None]


def _soft_distances(features: Tensor, centers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The same for (N, K) probabilities, without an (N, K, D) tensor."""
    rows = labels.to(features.dtype)
    # Distances do not change with the origin; at the mean centre little is lost to rounding.
    origin = centers.mean(0)
    centers, features = centers - origin, features - origin
    expected = rows @ centers  # [N, D] a sample's mean centre
    spread = rows @ centers.square().sum(1) - expected.square().sum(1)
    distances = (features - expected).square().sum(1) + spread.clamp(min=0)
    counts = rows.sum(0)[:, None]
    return distances, (counts * centers - rows.T @ features.detach()) / (1 + counts)
