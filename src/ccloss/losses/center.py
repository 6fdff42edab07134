"""Center loss."""

from typing import final

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.functional import without_autocast
from ccloss.losses.base import (
    ClassWeights,
    Loss,
    class_indices,
    full_precision,
    mean_over_samples,
    valid_samples,
)
from ccloss.output import Output
from ccloss.validation import require_nonnegative, require_positive_integer


@final
class CenterLoss(Loss):
    r"""Cross-entropy plus the distance of the features to the centers of their classes.

    Wen et al., *A Discriminative Feature Learning Approach for Deep Face Recognition* (2016), eqs.
    2 to 5 (official formula, with the mean over the batch in both terms)::

        L = CE(logits, labels) + weight / 2 * mean_i |f_i - c_{y_i}|^2

    with sum_k y_ik |f_i - c_k|^2 for soft labels (our reading). Centers are parameters that start
    at 0. As in the paper, they are not updated with the gradient of L, which is too small for a
    small weight, but with eq. 4::

        delta_k = sum_{i in k} (c_k - f_i) / (1 + n_k)

    The backward pass gives delta to the optimizer as the centers' gradient, independent of the
    weight; the learning rate replaces the paper's alpha of 0.5 (our reading). A class without
    samples in the batch has delta 0.

    :meth:`terms` gives ``total``, ``ce`` and ``center``, which is mean_i |f_i - c_{y_i}|^2 / 2
    before the weight.

    Args:
        num_classes: K.
        features: D, width of the features.
        weight: lambda, a number of at least 0; 0.003 in the paper.
        class_weights: see :class:`Loss`; the center term is not weighted.
        label_smoothing: see :class:`Loss`; the center term uses the labels without smoothing.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"features"})
    formula = "CE + weight / 2 * mean_i |f_i - c_{y_i}|^2, centers c learned"
    source = "Wen et al. 2016, eqs. 2-5; official formula (step of the centers: our reading)"

    def __init__(
        self,
        num_classes: int,
        features: int,
        weight: float = 0.003,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_positive_integer("num_classes", num_classes)
        require_positive_integer("features", features)
        require_nonnegative("weight", weight)
        self.weight = weight
        self.centers = nn.Parameter(torch.zeros(num_classes, features))

    def check(self, output: Output, labels: Tensor) -> None:
        super().check(output, labels)
        assert output.features is not None  # `needs` names it
        expected = output.logits.shape[1], output.features.shape[-1]
        if tuple(self.centers.shape) != expected:
            raise InputError(
                f"num_classes and features of CenterLoss must be {expected} for this output, "
                f"got {tuple(self.centers.shape)}"
            )

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        ce = self.cross_entropy(output.logits, labels)
        assert output.features is not None  # `needs` names it
        features = full_precision(output.features)
        centers = self.centers.to(torch.promote_types(self.centers.dtype, features.dtype))
        with without_autocast(features):
            if labels.is_floating_point():
                distances, delta = _soft_distances(features, centers.detach(), labels)
            else:
                distances, delta = _hard_distances(features, centers.detach(), labels)
        center = mean_over_samples(distances, labels) / 2
        step = (centers * delta).sum()
        # step - step.detach() is 0; its gradient at the centers is delta.
        total = ce + self.weight * center + (step - step.detach())
        return {"total": total, "ce": ce, "center": center}

    def extra_repr(self) -> str:
        return f"weight={self.weight}"


def _hard_distances(features: Tensor, centers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (N,) to the samples' centers, and delta (K, D) of eq. 4."""
    index, valid = class_indices(labels), valid_samples(labels)
    differences = features - centers[index]
    counts = torch.ones_like(centers[:, 0]).index_add(0, index, valid.to(centers.dtype))
    sums = torch.zeros_like(centers).index_add(0, index, -differences.detach() * valid[:, None])
    return differences.square().sum(1), sums / counts[:, None]


def _soft_distances(features: Tensor, centers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The same for (N, K) probabilities, without an (N, K, D) tensor."""
    rows = labels.to(features.dtype)
    # Distances do not depend on the origin; near the mean center rounding errors are small.
    origin = centers.mean(0)
    centers, features = centers - origin, features - origin
    expected = rows @ centers  # [N, D] a sample's expected center
    variance = rows @ centers.square().sum(1) - expected.square().sum(1)
    distances = (features - expected).square().sum(1) + variance.clamp(min=0)
    counts = rows.sum(0)[:, None]
    return distances, (counts * centers - rows.T @ features.detach()) / (1 + counts)
