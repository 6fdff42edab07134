"""Losses on the angles between the weight vectors of the classes."""

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from ccloss.functional import without_autocast
from ccloss.losses.base import (
    ClassWeights,
    Loss,
    class_indices,
    full_precision,
    mean_over_samples,
    unit_vectors,
)
from ccloss.output import Output
from ccloss.validation import require_nonnegative


class ClassAngleLoss(Loss):
    """Cross-entropy plus a weighted term on the angles between the weight vectors of the classes.

    Args:
        weight: lambda, a number of at least 0.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"classifier_weight"})
    unit_classifier = True

    def __init__(
        self,
        weight: float = 5.0,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_nonnegative("weight", weight)
        self.weight = weight

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        assert output.classifier_weight is not None  # `needs` requires it
        ce = self.cross_entropy(output.logits, labels)
        units = unit_vectors(full_precision(output.classifier_weight))
        with without_autocast(units):
            angle = self.angle(units, output.logits, labels)
        return {"total": ce + self.weight * angle, "ce": ce, "angle": angle}

    @abstractmethod
    def angle(self, units: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The term before its weight.

        Args:
            units: (K, D) rows of length 1.
            logits: (N, K).
            labels: (N,) classes or (N, K) probabilities.
        """

    def extra_repr(self) -> str:
        return f"weight={self.weight}"


@final
class InterClassAngularLoss(ClassAngleLoss):
    r"""Cross-entropy plus the squared length of the mean unit weight vector of the classes.

    Hui et al., *Inter-Class Angular Loss for Convolutional Neural Networks* (2019) (our reading)::

        L = CE(logits, labels) + weight * |1/K sum_k u_k|^2         u_k = w_k / |w_k|

    which is the mean of cos(w_i, w_j) over all pairs of classes, i = j included. It is 0 for unit
    rows that sum to 0, and 1 for one class or equal directions.

    :meth:`terms` gives ``total``, ``ce`` and ``angle``, the last before the weight. The
    classification layer should have unit rows and no bias; rows are normalized here in any case. A
    row of zeros contributes 0 to the mean.

    Args:
        weight: lambda, a number of at least 0.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight * |mean_k u_k|^2, u_k = w_k / |w_k|"
    source = "Hui et al. 2019; our reading"

    def angle(self, units: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return units.mean(0).square().sum()


@final
class FocalInterClassAngularLoss(ClassAngleLoss):
    r"""Cross-entropy plus the cosines between weight vectors of classes that are confused.

    Wei et al., *FICAL: Focal Inter-Class Angular Loss for Image Classification* (2019). Only its
    abstract is public, so this is our reading of it::

        L = CE(logits, labels) + weight * sum_{i != j} r_ij cos(w_i, w_j)

    r_ij is the number of samples of class i that are predicted as j, divided by the batch size,
    without gradient; a soft label counts with y_i for class i. A batch without errors has an
    angular term of 0. The sum is computed over samples in O(N D), not over K x K pairs.

    :meth:`terms` gives ``total``, ``ce`` and ``angle``, the last before the weight. The
    classification layer should have unit rows and no bias; rows are normalized here in any case.

    Args:
        weight: lambda, a number of at least 0.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`; r_ij uses the labels without smoothing.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight * sum_{i != j} r_ij cos(w_i, w_j), r = confusion matrix / N"
    source = "Wei et al. 2019; our reading (only the abstract is public)"

    def angle(self, units: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over samples of the cosine of true and predicted class, 0 where they are equal."""
        predicted = logits.detach().argmax(1)
        predicted_units = units[predicted]  # [N, D]
        if labels.is_floating_point():
            rows = labels.to(units.dtype)
            rows = rows.scatter(1, predicted[:, None], torch.zeros_like(rows))
            return ((rows @ units) * predicted_units).sum(1).mean()
        cosines = (units[class_indices(labels)] * predicted_units).sum(1)
        return mean_over_samples(cosines * (labels != predicted), labels)
