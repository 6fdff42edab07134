"""Focal loss."""

from typing import final

import torch
from torch import Tensor

from ccloss.losses.base import (
    ClassWeights,
    Loss,
    class_indices,
    class_probabilities,
    full_precision,
)
from ccloss.output import Output
from ccloss.validation import require_nonnegative


@final
class FocalLoss(Loss):
    r"""Cross-entropy that gives less weight to samples that are classified with high probability.

    Lin et al., *Focal Loss for Dense Object Detection* (2017), eq. 4 (official formula, in its
    softmax form)::

        L = -(1 - p_y)^gamma log p_y            p = softmax(logits)

    Soft labels give sum_k y_k (1 - p_k)^gamma (-log p_k) (our reading). The paper's alpha is
    ``class_weights``. :meth:`terms` gives ``total`` and ``focal``, which are equal. A sample with
    p_y = 1 has value and gradient 0; ``gamma=0`` gives cross-entropy.

    Args:
        gamma: a number of at least 0; 2 in the paper.
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    formula = "-(1 - p_y)^gamma log p_y, p = softmax(logits)"
    source = "Lin et al. 2017, eq. 4; official formula (soft labels: our reading)"

    def __init__(
        self,
        gamma: float = 2.0,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_nonnegative("gamma", gamma)
        self.gamma = gamma

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        focal = self._focal(output.logits, labels)
        return {"total": focal, "focal": focal}

    def _focal(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.gamma == 0:
            return self.cross_entropy(logits, labels)
        log_p = full_precision(logits).log_softmax(1)
        if not labels.is_floating_point() and self.label_smoothing == 0:
            losses = self._class_loss(log_p.gather(1, class_indices(labels)[:, None])[:, 0])
        else:
            target = class_probabilities(labels, log_p, self.label_smoothing)
            losses = (target * self._class_loss(log_p)).sum(1)
        return self.average(losses, labels)

    def _class_loss(self, log_p: Tensor) -> Tensor:
        # The slope of 0^gamma is infinite for gamma < 1, and its product with 0 would be NaN.
        rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma) * log_p

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}"
