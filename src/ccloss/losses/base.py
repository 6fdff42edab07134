"""What every loss is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.functional import check_labels
from ccloss.options import SHARED
from ccloss.output import Output

Need = Literal["attention", "feature_map", "classifier_weight"]

_REMEDY: Mapping[Need, str] = {
    "attention": "build the model with attention=True",
    "feature_map": "use a backbone that ends in a feature map",
    "classifier_weight": "use ClassifierHead",
}


class Loss(nn.Module, ABC):
    """A loss of a batch: ``loss(output, labels)`` is a scalar to differentiate.

    Subclasses are final; they implement :meth:`terms` and say in ``needs`` what they take from the
    :class:`~ccloss.Output` beyond logits and features. ``labels`` are (N,) int64 classes or (N, K)
    rows of probabilities.

    Two options mean the same in every loss. They touch its classification term, the cross-entropy
    or what stands in its place; terms on distances and angles stay as they are.

    Args:
        class_weights: K numbers, 0 or more. With w_i = sum_k y_ik class_weights[k] the samples'
            terms l_i are averaged as sum_i w_i l_i / sum_i w_i; 0 if all w_i are.
        label_smoothing: e in 0..1; the target is (1 - e) y + e / K. Weights see y itself.

    Raises:
        InputError: an argument out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    unit_classifier: ClassVar[bool] = False
    """Made for a classification layer without bias whose rows have unit length."""
    classifier_bias: ClassVar[bool] = True
    """Whether the classification layer has a bias (never with ``unit_classifier``)."""
    takes_soft_labels: ClassVar[bool] = True
    hard_labels_because: ClassVar[str] = "it is defined for one true class"
    """Why soft labels are refused, where they are."""
    formula: ClassVar[str] = ""
    """One line of plain text."""
    source: ClassVar[str] = ""
    """Authors, year, and whether the formula is theirs or our reading."""

    class_weights: Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        given = {"class_weights": class_weights, "label_smoothing": label_smoothing}
        for name, check in SHARED.items():
            check(name, given[name])
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor([*map(float, class_weights)])
        self.register_buffer("class_weights", weights, persistent=False)  # an option, not a state

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """The loss of the batch.

        Raises:
            InputError: labels of a wrong shape, type or value; something missing in the output.
        """
        return self.terms(output, labels)["total"]

    @abstractmethod
    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """Every term by name, scalars; ``"total"`` is what ``loss(output, labels)`` returns."""

    def diagnose(self, mean_terms: Mapping[str, float]) -> str | None:
        """A warning about the terms of an epoch, in one line; ``None`` if there is none.

        Args:
            mean_terms: the terms of :meth:`terms` by name, averaged over the epoch's steps.
        """
        return None

    def check(self, output: Output, labels: Tensor) -> None:
        """Refuses a batch that this loss cannot take, in one line that says why."""
        name = type(self).__name__
        for need in sorted(self.needs):
            if getattr(output, need) is None:
                raise InputError(f"output.{need} is None, and {name} needs it: {_REMEDY[need]}")
        if output.logits.ndim != 2:
            raise InputError(f"output.logits must be (N, K), got {tuple(output.logits.shape)}")
        samples, classes = output.logits.shape
        check_labels(labels, samples, classes)
        if labels.is_floating_point() and not self.takes_soft_labels:
            raise InputError(
                f"labels must be (N,) int64 classes, got {tuple(labels.shape)} probabilities: "
                f"{name} takes no soft labels, for {self.hard_labels_because}; use label_smoothing "
                "instead"
            )
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise InputError(
                f"class_weights must be one a class: {len(self.class_weights)} weights, "
                f"{classes} classes"
            )
        if "classifier_weight" in self.needs:
            _check_classifier(output)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean of ``-log softmax(logits)`` at the labels, in float32 or better.

        Args:
            logits: (N, K).
            labels: (N,) classes or (N, K) probabilities.
        """
        logits = full_precision(logits)
        target = labels.to(logits.dtype) if labels.is_floating_point() else labels.long()
        smoothing = self.label_smoothing
        if self.class_weights is None:
            return F.cross_entropy(logits, target, label_smoothing=smoothing)
        each = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        return self.average(each, labels)

    def average(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mean of the samples' losses (N,), weighted by class."""
        if self.class_weights is None:
            return losses.mean()
        by_class = self.class_weights.to(losses.dtype)
        if labels.is_floating_point():
            weights = (labels.to(losses.dtype) * by_class).sum(1)
        else:
            weights = by_class[labels.long()]
        total = weights.sum()
        return (weights * losses).sum() / torch.where(total > 0, total, 1)


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 if the values are: losses are not computed in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def without_autocast(values: Tensor) -> torch.autocast:
    """A region in which products of float32 are not rounded to half precision."""
    return torch.autocast(values.device.type, enabled=False)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Rows divided by their length. A row shorter than 1e-12 becomes 0, with gradient 0."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(lengths > 1e-12, lengths, torch.inf)


def _check_classifier(output: Output) -> None:
    assert output.classifier_weight is not None  # `needs` says so
    fitting = output.logits.shape[1], output.features.shape[-1]
    if tuple(output.classifier_weight.shape) != fitting:
        raise InputError(
            f"output.classifier_weight must be (K, D) = {fitting} for logits (N, K) and features "
            f"(N, D), got {tuple(output.classifier_weight.shape)}"
        )
