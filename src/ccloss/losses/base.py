"""The base class of all losses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.output import Output
from ccloss.tensor_checks import IGNORE_INDEX, check_floats, check_labels, check_same_device
from ccloss.validation import require_nonnegative, require_unit_interval

Need = Literal["features", "attention", "feature_map", "classifier_weight"]

ClassWeights = Sequence[float] | Tensor | Mapping[int, float]

_REMEDY: Mapping[Need, str] = {
    "features": "pass the input of the classification layer",
    "attention": "build the model with attention=True",
    "feature_map": "use a backbone that ends in a feature map",
    "classifier_weight": "use ClassifierHead",
}

_SHAPES: Mapping[Need, str] = {
    "features": "(N, D)",
    "feature_map": "(N, C, H, W)",
    "classifier_weight": "(K, D)",
}


class Loss(nn.Module, ABC):
    """Base class: ``loss(output, labels)`` is a scalar to differentiate.

    Subclasses are final. They implement :meth:`compute` and list in ``needs`` what they take from
    the :class:`~ccloss.Output` beyond logits. ``labels`` are (N,) integer classes or (N, K) rows of
    probabilities. A sample with class -100 does not count in any term.

    Two options have the same meaning in every loss. They affect its classification term, the
    cross-entropy or what replaces it; terms on distances and angles ignore them.

    Args:
        class_weights: K numbers of at least 0 (a sequence or tensor), or a mapping {class: weight}
            whose missing classes have weight 1. With w_i = sum_k y_ik class_weights[k] the losses
            l_i of the samples are averaged as sum_i w_i l_i / sum_i w_i; the average is 0 if all
            w_i are 0.
        label_smoothing: e in [0, 1]; the target is (1 - e) y + e / K. Weights depend on y itself.

    Raises:
        InputError: an argument out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    unit_classifier: ClassVar[bool] = False
    """Whether the loss expects a classification layer without bias whose rows have unit length."""
    classifier_bias: ClassVar[bool] = True
    """Whether the classification layer has a bias (never with ``unit_classifier``)."""
    takes_soft_labels: ClassVar[bool] = True
    hard_labels_because: ClassVar[str] = "it is defined for one true class"
    """Reason why soft labels are rejected, if they are."""
    capturable: ClassVar[bool] = True
    """Whether a CUDA graph can contain the loss: it reads no values of the device."""
    formula: ClassVar[str] = ""
    """One line of plain text."""
    source: ClassVar[str] = ""
    """Authors, year, and whether the formula is official or our reading."""

    class_weights: Tensor | None

    def __init__(
        self, class_weights: ClassWeights | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        require_unit_interval("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        self._lists_all_classes = not isinstance(class_weights, Mapping)
        weights = None if class_weights is None else _weight_table(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)  # an option, not a state

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            output: what the model returns for N images.
            labels: (N,) integer classes or (N, K) rows of probabilities.

        Raises:
            InputError: wrong labels, or something the loss needs is missing in the output.
        """
        return self.terms(output, labels)["total"]

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """Every term by name, as scalars; ``"total"`` is the value of ``loss(output, labels)``.

        Args:
            output: see :meth:`forward`.
            labels: see :meth:`forward`.

        Raises:
            InputError: see :meth:`forward`.
        """
        self.check(output, labels)
        return self.compute(output, labels if labels.is_floating_point() else labels.long())

    @abstractmethod
    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """The terms of a batch that :meth:`check` has accepted.

        Args:
            output: what the model returns.
            labels: (N,) int64 classes, some of which may be -100, or (N, K) probabilities. Use
                :meth:`cross_entropy`, :meth:`average` and :func:`mean_over_samples`, which leave
                ignored samples out, and :func:`class_indices` to index with labels.
        """

    def diagnose(self, mean_terms: Mapping[str, float]) -> str | None:
        """A warning about the terms of an epoch, in one line; ``None`` if there is none.

        Args:
            mean_terms: the terms of :meth:`terms` by name, averaged over the epoch's steps.
        """
        return None

    def check(self, output: Output, labels: Tensor) -> None:
        """Checks that the loss can take a batch.

        Raises:
            InputError: one line that names what is wrong.
        """
        name = type(self).__name__
        if not isinstance(output, Output):
            raise InputError(
                f"output must be a ccloss.Output, got {type(output).__name__}; pass "
                "ccloss.Output(logits), with features and attention where the loss needs them"
            )
        check_floats("output.logits", output.logits, "(N, K)")
        for need in sorted(self.needs):
            if getattr(output, need) is None:
                raise InputError(f"output.{need} is None, but {name} needs it: {_REMEDY[need]}")
        for field, shape in _SHAPES.items():
            value = getattr(output, field)
            if value is not None and self.needs & {field, "classifier_weight"}:
                check_field(field, value, shape, output.logits)
        samples, classes = output.logits.shape
        check_labels(labels, samples, classes)
        check_same_device(output.logits, labels)
        if labels.is_floating_point() and not self.takes_soft_labels:
            raise InputError(
                f"labels must be (N,) integer classes, got {tuple(labels.shape)} probabilities: "
                f"{name} does not take soft labels because {self.hard_labels_because}; use "
                "label_smoothing instead"
            )
        self._check_class_weights(classes)
        if "classifier_weight" in self.needs:
            _check_classifier(output)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean of ``-log softmax(logits)`` at the labels, in float32 or float64.

        Args:
            logits: (N, K).
            labels: (N,) classes or (N, K) probabilities.
        """
        logits = full_precision(logits)
        target = labels.to(logits.dtype) if labels.is_floating_point() else labels
        smoothing = self.label_smoothing
        each = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        return self.average(each, labels)

    def average(self, losses: Tensor, labels: Tensor) -> Tensor:
        """Mean of the losses (N,) of the samples, weighted by class, without ignored samples."""
        if self.class_weights is None:
            return mean_over_samples(losses, labels)
        by_class = self.class_weights.to(losses.dtype)
        if labels.is_floating_point():
            by_class = F.pad(by_class, (0, labels.shape[1] - len(by_class)), value=1.0)
            weights = (labels.to(losses.dtype) * by_class).sum(1)
        else:
            last = len(by_class) - 1
            weights = torch.where(labels <= last, by_class[labels.clamp(0, last)], 1)
            weights = weights * valid_samples(labels)
        total = weights.sum()
        losses = torch.where(weights > 0, losses, 0)
        return (weights * losses).sum() / torch.where(total > 0, total, 1)

    def _check_class_weights(self, classes: int) -> None:
        if self.class_weights is None:
            return
        given = len(self.class_weights)
        if given > classes or (self._lists_all_classes and given < classes):
            raise InputError(
                f"class_weights must have one weight for each class: {given} weights, "
                f"{classes} classes"
            )


def valid_samples(labels: Tensor) -> Tensor:
    """(N,) booleans: which integer labels (N,) are not -100."""
    return labels != IGNORE_INDEX


def class_indices(labels: Tensor) -> Tensor:
    """Integer labels (N,) as indices of classes; ignored samples get class 0.

    Terms of ignored samples must be left out, for example by :meth:`Loss.average`.
    """
    return labels.clamp(min=0)


def class_probabilities(labels: Tensor, like: Tensor, smoothing: float) -> Tensor:
    """Probabilities (N, K) of the classes, smoothed: (1 - smoothing) y + smoothing / K.

    Args:
        labels: (N,) classes or (N, K) probabilities.
        like: (N, K) tensor that gives K and the data type.
        smoothing: share of the uniform distribution.
    """
    classes = like.shape[1]
    if labels.is_floating_point():
        rows = labels.to(like.dtype)
    else:  # F.one_hot reads the labels' values, which waits for the device
        rows = (labels[:, None] == torch.arange(classes, device=labels.device)).to(like.dtype)
    return (1 - smoothing) * rows + smoothing / classes


def mean_over_samples(values: Tensor, labels: Tensor) -> Tensor:
    """Mean of (N,) values over the samples that are not ignored, 0 without any."""
    if labels.is_floating_point():
        return values.mean()
    valid = valid_samples(labels)
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 for float64 values: losses are not computed in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unit_vectors(vectors: Tensor) -> Tensor:
    """Rows divided by their length. A row shorter than 1e-12 becomes 0, with gradient 0."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(lengths > 1e-12, lengths, torch.inf)


def _weight_table(weights: ClassWeights) -> Tensor:
    """(K,) float32 weights."""
    if isinstance(weights, Mapping):
        wrong = [key for key in weights if not (isinstance(key, int) and key >= 0)]
        if wrong or not weights:
            raise InputError(
                "class_weights as a mapping must be {class: weight} with integer classes of at "
                f"least 0, got {dict(weights)!r}"
            )
        weights = [weights.get(each, 1.0) for each in range(max(weights) + 1)]
    values: Any = weights.tolist() if isinstance(weights, Tensor) else weights
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise InputError(f"class_weights must be numbers, one for each class, got {values!r}")
    values = list(values)
    for each in values:
        require_nonnegative("class_weights: every weight", each)
    if not any(values):
        raise InputError(f"class_weights must have a number above 0, got {values!r}")
    return torch.tensor([float(each) for each in values])


def check_field(field: str, value: Any, shape: str, logits: Tensor) -> None:
    """Raises :class:`InputError` unless a field of the output has the shape, N and device."""
    check_floats(f"output.{field}", value, shape)
    if shape.startswith("(N,") and len(value) != len(logits):
        raise InputError(
            f"output.{field} must have one entry for each of {len(logits)} samples, "
            f"got {tuple(value.shape)}"
        )
    if value.device != logits.device:
        raise InputError(
            f"output.{field} must be on the device of the logits, {logits.device}, got "
            f"{value.device}; move it there"
        )


def _check_classifier(output: Output) -> None:
    assert output.classifier_weight is not None  # `needs` names it
    weight = output.classifier_weight
    width = weight.shape[-1] if output.features is None else output.features.shape[-1]
    expected = output.logits.shape[1], width
    if tuple(output.classifier_weight.shape) != expected:
        raise InputError(
            f"output.classifier_weight must be (K, D) = {expected} for logits (N, K) and features "
            f"(N, D), got {tuple(output.classifier_weight.shape)}"
        )
