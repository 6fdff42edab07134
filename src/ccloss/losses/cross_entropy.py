"""Softmax cross-entropy."""

from typing import final

from torch import Tensor

from ccloss.losses.base import Loss
from ccloss.output import Output


@final
class CrossEntropyLoss(Loss):
    """Softmax cross-entropy, averaged over the batch.

    CC-Loss paper, eqs. 1 and 9 (official formula). :meth:`terms` gives ``total`` and ``ce``, which
    are equal. Arguments are those of :class:`Loss`.
    """

    formula = "CE = -log softmax(logits)[y]"
    source = "Song et al. 2020, eqs. 1 and 9; official formula"

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        ce = self.cross_entropy(output.logits, labels)
        return {"total": ce, "ce": ce}
