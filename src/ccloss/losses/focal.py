"""Focal loss."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ccloss.losses.base import Loss, full_precision
from ccloss.options import check_options
from ccloss.output import Output


@final
class FocalLoss(Loss):
    r"""Cross-entropy that counts a sample less, the surer the network is of its class.

    Lin et al., *Focal Loss for Dense Object Detection* (2017), eq. 4 (official formula, its softmax
    form)::

        L = -(1 - p_y)^gamma log p_y            p = softmax(logits)

    Soft labels give sum_k y_k (1 - p_k)^gamma (-log p_k) (our reading). The paper's alpha is
    ``class_weights``. ``terms`` gives ``total`` and ``focal``, which are the same. A sample with
    p_y = 1 has value and gradient 0; ``gamma=0`` is cross-entropy.

    Args:
        gamma: 0 or more; the paper's 2.
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
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options("focal", gamma=gamma)
        self.gamma = gamma

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        focal = self._focal(output.logits, labels)
        return {"total": focal, "focal": focal}

    def _focal(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.gamma == 0:
            return self.cross_entropy(logits, labels)
        log_p = full_precision(logits).log_softmax(1)
        if not labels.is_floating_point() and self.label_smoothing == 0:
            each = self._of_class(log_p.gather(1, labels.long()[:, None])[:, 0])
            return self.average(each, labels)
        classes = log_p.shape[1]
        if labels.is_floating_point():
            rows = labels.to(log_p.dtype)
        else:
            rows = (labels[:, None] == torch.arange(classes, device=labels.device)).to(log_p.dtype)
        smooth = self.label_smoothing
        rows = (1 - smooth) * rows + smooth / classes
        return self.average((rows * self._of_class(log_p)).sum(1), labels)

    def _of_class(self, log_p: Tensor) -> Tensor:
        # The power of 0 has an infinite slope for gamma < 1, and 0 times that would be NaN.
        rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma) * log_p

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}"
