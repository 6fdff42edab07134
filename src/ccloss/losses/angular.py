"""Losses with a margin in the angle between features and the true class's weight vector."""

import math
from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from ccloss.functional import without_autocast
from ccloss.losses.base import ClassWeights, Loss, class_indices, full_precision, unit_vectors
from ccloss.output import Output
from ccloss.validation import (
    require_angle,
    require_nonnegative,
    require_positive,
    require_positive_integer,
)


class MarginLoss(Loss):
    """Cross-entropy of logits computed from angles, with a margin for the true class.

    ``Output.logits`` are not used and stay without margin. Soft labels are rejected, because a
    margin is defined for one true class; ``label_smoothing`` smooths the cross-entropy's target.
    """

    needs = frozenset({"features", "classifier_weight"})
    unit_classifier = True
    takes_soft_labels = False
    hard_labels_because = "it has a margin for one true class"

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        assert output.classifier_weight is not None  # `needs` requires it
        assert output.features is not None  # `needs` names it
        features = full_precision(output.features)
        with without_autocast(features):
            units = unit_vectors(full_precision(output.classifier_weight))
            logits = self.logits(features, units.to(features.dtype), class_indices(labels)[:, None])
        ce = self.cross_entropy(logits, labels)
        return {"total": ce, "ce": ce}

    @abstractmethod
    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, K) with the margin.

        Args:
            features: (N, D).
            units: (K, D) rows of length 1.
            labels: (N, 1) classes.
        """


@final
class ASoftmaxLoss(MarginLoss):
    r"""A-Softmax: the angle to the true class is multiplied by a margin m.

    Liu et al., *SphereFace: Deep Hypersphere Embedding for Face Recognition* (2017), eq. 7, with
    the annealing of its published code (official formula)::

        logit_k = |x| cos(theta_k)                                     k != y
        logit_y = |x| (l cos(theta_y) + psi(theta_y)) / (1 + l)
        psi(theta) = (-1)^k cos(m theta) - 2k                          theta in [k pi/m, (k+1) pi/m]
        l = max(annealing_end, annealing_start / (1 + annealing_rate * it))

    The margin takes effect as l decreases. Without annealing the loss starts above 10 and does not
    train at the usual learning rates. ``it`` counts the calls in training mode; it is part of the
    ``state_dict``, so a resumed run continues with its l. Evaluation mode uses the current l.

    :meth:`terms` gives ``total`` and ``ce``, which are equal, and ``annealing``, which is l.
    Features of 0 have logits 0 and a finite gradient. ``margin=1`` or an infinite l gives softmax
    with unit class weights.

    Args:
        margin: m, an integer of at least 1; 4 in the paper.
        annealing_start: l before the first step, a number of at least 0; 1000 in the published
            code. 0, with ``annealing_end=0``, switches annealing off.
        annealing_rate: rate at which l decreases, a number of at least 0; 0.12 in the published
            code.
        annealing_end: smallest l, a number of at least 0; 5 in the published code.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE with logit_y = |x| (l cos t + psi(t)) / (1 + l), psi(t) = (-1)^k cos(m t) - 2k"
    source = "Liu et al. 2017, eq. 7 and its published annealing; official formula"

    steps: Tensor

    def __init__(
        self,
        margin: int = 4,
        annealing_start: float = 1000.0,
        annealing_rate: float = 0.12,
        annealing_end: float = 5.0,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_positive_integer("margin", margin)
        require_nonnegative("annealing_start", annealing_start)
        require_nonnegative("annealing_rate", annealing_rate)
        require_nonnegative("annealing_end", annealing_end)
        self.margin = int(margin)
        self.annealing_start = annealing_start
        self.annealing_rate = annealing_rate
        self.annealing_end = annealing_end
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        if self.training:
            # Not in place: a compiled backward pass may read the value of the forward pass again.
            self.steps = self.steps + 1
        terms = super().compute(output, labels)
        return {**terms, "annealing": self._annealing(terms["total"].dtype)}

    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        plain = features @ units.T
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        cosine = (unit_vectors(features) * units[labels[:, 0]]).sum(1, keepdim=True)
        cosine = cosine.clamp(-1, 1)
        factor = self._annealing(features.dtype)
        true = lengths * (factor * cosine + _psi(cosine, self.margin)) / (1 + factor)
        return plain.scatter(1, labels, true)

    def _annealing(self, dtype: torch.dtype) -> Tensor:
        divisor = 1 + self.annealing_rate * self.steps.to(dtype)
        return (self.annealing_start / divisor).clamp(min=self.annealing_end)

    def extra_repr(self) -> str:
        return (
            f"margin={self.margin}, annealing_start={self.annealing_start}, "
            f"annealing_rate={self.annealing_rate}, annealing_end={self.annealing_end}"
        )


@final
class CosFaceLoss(MarginLoss):
    r"""CosFace: a margin is subtracted from the cosine to the true class.

    Wang et al., *CosFace: Large Margin Cosine Loss for Deep Face Recognition* (2018), eq. 4
    (official formula)::

        logit_k = scale * cos(theta_k)                 k != y
        logit_y = scale * (cos(theta_y) - margin)

    :meth:`terms` gives ``total`` and ``ce``, which are equal. Features of 0 have cosine 0 to all
    classes, and gradient 0. ``margin=0`` gives softmax of scaled cosines.

    Args:
        scale: s, a positive number. The paper uses 64, with thousands of classes; see
            ``docs/losses.md``.
        margin: m, a number of at least 0; 0.35 in the paper.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE with logits s cos t_k, and s (cos t_y - margin) for the true class"
    source = "Wang et al. 2018, eq. 4; official formula"

    def __init__(
        self,
        scale: float = 30.0,
        margin: float = 0.35,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_positive("scale", scale)
        require_nonnegative("margin", margin)
        self.scale = scale
        self.margin = margin

    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        cosines = unit_vectors(features) @ units.T
        true = cosines.gather(1, labels) - self.margin
        return self.scale * cosines.scatter(1, labels, true)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, margin={self.margin}"


@final
class ArcFaceLoss(MarginLoss):
    r"""ArcFace: a margin is added to the angle to the true class.

    Deng et al., *ArcFace: Additive Angular Margin Loss for Deep Face Recognition* (2019), eq. 3,
    with the linear continuation of the published code (official formula)::

        logit_k = scale * cos(theta_k)                          k != y
        logit_y = scale * cos(theta_y + margin)                 theta_y + margin <= pi
                  scale * (cos(theta_y) - margin sin(margin))   beyond

    :meth:`terms` gives ``total`` and ``ce``, which are equal. The gradient is finite at theta = 0
    and pi, where the derivative of the sine with respect to the cosine is infinite: the squared
    sine is clamped to the rounding error. Features of 0 have cosine 0 to all classes, and gradient
    0. ``margin=0`` gives softmax of scaled cosines.

    Args:
        scale: s, a positive number. The paper uses 64, with thousands of classes, which does not
            train ten classes at a learning rate of 0.1; see ``docs/losses.md``.
        margin: m, an angle in radians from 0 to pi; 0.5 in the paper.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE with logits s cos t_k, and s cos(t_y + margin) for the true class"
    source = "Deng et al. 2019, eq. 3 and its published code; official formula"

    def __init__(
        self,
        scale: float = 30.0,
        margin: float = 0.5,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_positive("scale", scale)
        require_angle("margin", margin)
        self.scale = scale
        self.margin = margin

    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        cosines = unit_vectors(features) @ units.T
        cosine = cosines.gather(1, labels).clamp(-1, 1)
        sine = (1 - cosine.square()).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()
        margin = self.margin
        true = torch.where(
            cosine >= -math.cos(margin),  # theta + margin <= pi
            cosine * math.cos(margin) - sine * math.sin(margin),
            cosine - margin * math.sin(margin),
        )
        return self.scale * cosines.scatter(1, labels, true)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, margin={self.margin}"


def _psi(cosine: Tensor, margin: int) -> Tensor:
    """(-1)^k cos(m theta) - 2k from cos(theta), without arc cosine: its derivative has poles."""
    previous, multiple = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):  # Chebyshev: cos((n + 1) t) = 2 cos(t) cos(n t) - cos((n - 1) t)
        previous, multiple = multiple, 2 * cosine * multiple - previous
    k = torch.zeros_like(cosine)
    for j in range(1, margin):
        k = k + (cosine < math.cos(j * math.pi / margin)).to(cosine.dtype)
    return (1 - 2 * (k % 2)) * multiple - 2 * k
