"""Softmax cross-entropy."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ccloss.losses.loss import Loss, full_precision
from ccloss.output import Output


@final
class CrossEntropyLoss(Loss):
    """Softmax cross-entropy, mean over the batch (CC-Loss paper, eqs. 1 and 9; official formula).

    ``terms`` gives ``total`` and ``ce``, which are the same.
    """

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        ce = cross_entropy(output.logits, labels)
        return {"total": ce, "ce": ce}


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log softmax(logits)`` at the labels, in float32 or better.

    Args:
        logits: (N, K).
        labels: (N,) int64 classes or (N, K) probabilities.
    """
    logits = full_precision(logits)
    dtype = logits.dtype if labels.is_floating_point() else torch.long
    return F.cross_entropy(logits, labels.to(dtype))
