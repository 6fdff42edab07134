"""Virtual Softmax."""

from typing import final

import torch
from torch import Tensor

from ccloss.functional import without_autocast
from ccloss.losses.base import Loss, class_indices, class_probabilities, full_precision
from ccloss.output import Output


@final
class VirtualSoftmaxLoss(Loss):
    r"""Cross-entropy with an additional virtual class along each sample's features.

    Chen et al., *Virtual Class Enhanced Discriminative Embedding Learning* (2018)
    (official formula)::

        L = -log( e^{w_y . x} / (sum_k e^{w_k . x} + e^{|w_y| |x|}) )

    x are the features and w_k the rows of the classification layer, which has no bias. The weight
    vector of the virtual class has the direction of x and the length of w_y, so its logit is never
    less than the true class's: the loss is at least log 2, which it approaches when x and w_y have
    the same direction. The virtual class is used in the loss only; ``Output.logits`` stay as they
    are.

    With ``label_smoothing`` e the target is (1 - e) y + e / K over the K real classes (our
    reading). Soft labels are rejected: the virtual class is built from one true class.
    :meth:`terms` gives ``total`` and ``ce``, which are equal. Features of 0 give log(K + 1).

    Args:
        class_weights: see :class:`Loss`.
        label_smoothing: see :class:`Loss`.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"features", "classifier_weight"})
    classifier_bias = False
    takes_soft_labels = False
    hard_labels_because = "its virtual class is built from one true class"
    formula = "-log(e^{w_y.x} / (sum_k e^{w_k.x} + e^{|w_y| |x|})), x = features"
    source = "Chen et al. 2018; official formula"

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        assert output.classifier_weight is not None  # `needs` requires it
        assert output.features is not None  # `needs` names it
        features = full_precision(output.features)
        weight = output.classifier_weight.to(features.dtype)
        with without_autocast(features):
            logits = features @ weight.T
        lengths = torch.linalg.vector_norm(weight, dim=1)[class_indices(labels)]
        virtual = lengths * torch.linalg.vector_norm(features, dim=1)
        log_p = torch.cat([logits, virtual[:, None]], 1).log_softmax(1)[:, :-1]
        target = class_probabilities(labels, log_p, self.label_smoothing)
        ce = self.average(-(target * log_p).sum(1), labels)
        return {"total": ce, "ce": ce}
