"""Losses with a margin for the true class in the angle between features and class weights."""

import math
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
from ccloss.options import check_options
from ccloss.output import Output


class MarginLoss(Loss):
    """Cross-entropy of logits that are made from angles anew, with a margin for the true class.

    The model's own logits play no part and stay plain. A margin is for one true class, so soft
    labels are refused; ``label_smoothing`` smooths the target of the margin's logits.
    """

    needs = frozenset({"classifier_weight"})
    unit_classifier = True
    takes_soft_labels = False
    hard_labels_because = "it has a margin for one true class"

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        assert output.classifier_weight is not None  # `needs` says so
        features = full_precision(output.features)
        with without_autocast(features):
            units = unit_vectors(full_precision(output.classifier_weight))
            logits = self.logits(features, units.to(features.dtype), labels.long()[:, None])
        ce = self.cross_entropy(logits, labels)
        return {"total": ce, "ce": ce}

    @abstractmethod
    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        """(N, D) features, (K, D) unit rows, (N, 1) classes -> (N, K) logits with the margin."""


@final
class ASoftmaxLoss(MarginLoss):
    r"""A-Softmax: the angle to the true class counts m times.

    Liu et al., *SphereFace: Deep Hypersphere Embedding for Face Recognition* (2017), eq. 7, with
    the annealing of its published code (official formula)::

        logit_k = |x| cos(theta_k)                                     k != y
        logit_y = |x| (l cos(theta_y) + psi(theta_y)) / (1 + l)
        psi(theta) = (-1)^k cos(m theta) - 2k                          theta in [k pi/m, (k+1) pi/m]
        l = max(annealing_end, annealing_start / (1 + annealing_rate * it))

    The margin enters as l falls; without annealing the loss starts at tens of nats and does not
    train at the usual learning rates. ``it`` counts the calls in training mode; it is part of the
    ``state_dict``, so a resumed run goes on where it was. Evaluation mode takes the current l.

    ``terms`` gives ``total`` and ``ce``, which are the same, and ``annealing``, l. Features of 0
    have logits 0 and a finite gradient, that of the other classes' logits. ``margin=1`` or an
    endless l is softmax with unit class weights.

    Args:
        margin: m, an integer of 1 or more; the paper's 4.
        annealing_start: l before the first step, 0 or more. 0 with ``annealing_end=0``: none.
        annealing_rate: how fast l falls, 0 or more.
        annealing_end: the least l, 0 or more.
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
        annealing_rate: float = 0.1,
        annealing_end: float = 5.0,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options(
            "a-softmax",
            margin=margin,
            annealing_start=annealing_start,
            annealing_rate=annealing_rate,
            annealing_end=annealing_end,
        )
        self.margin = int(margin)
        self.annealing_start = annealing_start
        self.annealing_rate = annealing_rate
        self.annealing_end = annealing_end
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        if self.training:
            # Not in place: a compiled backward pass may read again what the forward pass has read.
            self.steps = self.steps + 1
        terms = super().terms(output, labels)
        return {**terms, "annealing": self._annealing(terms["total"].dtype)}

    def logits(self, features: Tensor, units: Tensor, labels: Tensor) -> Tensor:
        plain = features @ units.T
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        cosine = (unit_vectors(features) * units[labels[:, 0]]).sum(1, keepdim=True)
        cosine = cosine.clamp(-1, 1)
        share = self._annealing(features.dtype)
        true = lengths * (share * cosine + _psi(cosine, self.margin)) / (1 + share)
        return plain.scatter(1, labels, true)

    def _annealing(self, dtype: torch.dtype) -> Tensor:
        fallen = 1 + self.annealing_rate * self.steps.to(dtype)
        return (self.annealing_start / fallen).clamp(min=self.annealing_end)

    def extra_repr(self) -> str:
        return (
            f"margin={self.margin}, annealing_start={self.annealing_start}, "
            f"annealing_rate={self.annealing_rate}, annealing_end={self.annealing_end}"
        )


@final
class CosFaceLoss(MarginLoss):
    r"""CosFace: the cosine to the true class is made smaller by a margin.

    Wang et al., *CosFace: Large Margin Cosine Loss for Deep Face Recognition* (2018), eq. 4
    (official formula)::

        logit_k = scale * cos(theta_k)                 k != y
        logit_y = scale * (cos(theta_y) - margin)

    ``terms`` gives ``total`` and ``ce``, which are the same. Features of 0 have cosine 0 to all
    classes, and gradient 0. ``margin=0`` is softmax of scaled cosines.

    Args:
        scale: s, above 0. The paper's 64 is for thousands of people; see ``docs/losses.md``.
        margin: m, 0 or more; the paper's 0.35.
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
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options("cosface", scale=scale, margin=margin)
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
    r"""ArcFace: the angle to the true class is made larger by a margin.

    Deng et al., *ArcFace: Additive Angular Margin Loss for Deep Face Recognition* (2019), eq. 3,
    with the published code's straight continuation (official formula)::

        logit_k = scale * cos(theta_k)                          k != y
        logit_y = scale * cos(theta_y + margin)                 theta_y + margin <= pi
                  scale * (cos(theta_y) - margin sin(margin))   beyond

    ``terms`` gives ``total`` and ``ce``, which are the same. The gradient is finite at theta = 0
    and pi, where the sine's own is not: within rounding of them the sine is a constant. Features
    of 0 have cosine 0 to all classes, and gradient 0. ``margin=0`` is softmax of scaled cosines.

    Args:
        scale: s, above 0. The paper's 64 is for thousands of people, and does not train ten
            classes at the protocol's learning rate; see ``docs/losses.md``.
        margin: m, in radians from 0 to pi; the paper's 0.5.
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
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options("arcface", scale=scale, margin=margin)
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
    """(-1)^k cos(m theta) - 2k, from cos(theta) alone: no arc cosine, whose slope has poles."""
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):  # Chebyshev: cos(n + 1) = 2 cos cos(n) - cos(n - 1)
        before, multiple = multiple, 2 * cosine * multiple - before
    k = torch.zeros_like(cosine)
    for j in range(1, margin):
        k = k + (cosine < math.cos(j * math.pi / margin)).to(cosine.dtype)
    return (1 - 2 * (k % 2)) * multiple - 2 * k
