"""Losses on the angles between the classes' weight vectors."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ccloss.losses.base import (
    Loss,
    full_precision,
    unit_vectors,
    without_autocast,
)
from ccloss.options import not_negative
from ccloss.output import Output


class ClassAngleLoss(Loss):
    """Cross-entropy plus a weighted term on the angles between the classes' weight vectors.

    Args:
        weight: lambda, 0 or more.
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
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        not_negative("weight", weight)
        self.weight = weight

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        assert output.classifier_weight is not None  # `needs` says so
        ce = self.cross_entropy(output.logits, labels)
        units = unit_vectors(full_precision(output.classifier_weight))
        with without_autocast(units):
            angle = self.angle(units, output.logits, labels)
        return {"total": ce + self.weight * angle, "ce": ce, "angle": angle}

    @abstractmethod
    def angle(self, units: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """(K, D) unit rows, (N, K) logits, and labels -> the term before its weight."""

    def extra_repr(self) -> str:
        return f"weight={self.weight}"


@final
class InterClassAngularLoss(ClassAngleLoss):
    r"""Cross-entropy, and weight vectors of the classes spread over all directions.

    Hui et al., *Inter-Class Angular Loss for Convolutional Neural Networks* (2019); the form is
    that of a mean direction (our reading)::

        L = CE(logits, labels) + weight * |1/K sum_k u_k|^2         u_k = w_k / |w_k|

    which is the mean of cos(w_i, w_j) over all pairs of classes, each with itself included. It is
    0 for any rows that sum to 0, and 1 for one class or rows that all agree.

    ``terms`` gives ``total``, ``ce`` and ``angle``, the last before the weight. The classification
    layer should have unit rows and no bias; rows are normalised here in any case. A row of zeros
    counts as no direction.

    Args:
        weight: lambda, 0 or more.
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
    r"""Cross-entropy, and weight vectors driven apart where the batch confuses their classes.

    Wei et al., *FICAL: Focal Inter-Class Angular Loss for Image Classification* (2019). Only its
    abstract is public, so this is our reading of it::

        L = CE(logits, labels) + weight * sum_{i != j} r_ij cos(w_i, w_j)

    r_ij is the share of the batch's samples that are of class i and predicted as j, counted anew
    each step and without gradient; a soft label counts for class i as y_i. Without a mistake in the
    batch the angular term is 0. The sum is taken over samples, O(N D), and never over K x K pairs.

    ``terms`` gives ``total``, ``ce`` and ``angle``, the last before the weight. The classification
    layer should have unit rows and no bias; rows are normalised here in any case.

    Args:
        weight: lambda, 0 or more.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`; r_ij takes the labels as they come.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight * sum_{i != j} r_ij cos(w_i, w_j), r = the batch's confusion rates"
    source = "Wei et al. 2019; our reading (only the abstract is public)"

    def angle(self, units: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return _confused_cosines(units, logits.detach().argmax(1), labels)


def _confused_cosines(units: Tensor, predicted: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples of the cosine of the true and the predicted class where they differ."""
    seen = units[predicted]  # [N, D]
    if labels.is_floating_point():
        rows = labels.to(units.dtype)
        rows = rows.scatter(1, predicted[:, None], torch.zeros_like(rows))
        return ((rows @ units) * seen).sum(1).mean()
    labels = labels.long()
    cosines = (units[labels] * seen).sum(1)
    return (cosines * (labels != predicted)).mean()
