"""Losses of the library pytorch-metric-learning, added to cross-entropy."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, final

from torch import Tensor

from ccloss.errors import InputError, did_you_mean, import_package, unknown_option
from ccloss.functional import without_autocast
from ccloss.losses.base import ClassWeights, Loss, full_precision, valid_samples
from ccloss.output import Output
from ccloss.validation import require_nonnegative

PML_PREFIX = "pml:"
"""Start of the name of a loss of pytorch-metric-learning."""

_SIZES = {
    "num_classes": "num_classes",
    "embedding_size": "features",
    "descriptors_dim": "features",
}
"""Arguments of the library that follow from data and network -> the argument here."""

_REJECTED = {
    "DynamicSoftMarginLoss": "it keeps the graph of the previous step",
    "GenericPairLoss": "it needs a Python function",
    "ManifoldLoss": "it is self-supervised and takes no labels",
    "VICRegLoss": "it needs two views of each image",
}
"""Losses that cannot be used with one view of labelled images, and the reason."""

_NAN_WITHOUT_PAIRS = frozenset({"NCALoss"})
"""Losses that are NaN for a batch without two samples of the same class; the term is 0 then."""


@final
class MetricLearningLoss(Loss):
    """Cross-entropy plus a loss of pytorch-metric-learning on the features.

    Musgrave et al., *PyTorch Metric Learning* (2020) (the library's formula)::

        L = CE(logits, labels) + weight * losses.NAME(**options)(features, labels)

    :meth:`terms` gives ``total``, ``ce`` and ``metric``, the last before the weight. Soft labels
    are rejected: a pair is of one class or of two. A loss with parameters takes their sizes from
    ``num_classes`` and ``features``. Losses that keep a graph between steps, take no labels, need
    two views of each image or need a Python function are rejected.

    Args:
        name: a class of ``pytorch_metric_learning.losses``.
        weight: a number of at least 0.
        num_classes: K, for a loss that takes it.
        features: D, width of the features, for a loss that takes it.
        class_weights: see :class:`Loss`; the metric term is not weighted.
        label_smoothing: see :class:`Loss`; used in CE.
        options: arguments of the library's class. Text is accepted for booleans: ``true`` and
            ``false``.

    Raises:
        InputError: the library is not installed, has no such loss or a loss that is rejected, or
            the loss has no such option or does not take its value.
    """

    needs = frozenset({"features"})
    takes_soft_labels = False
    hard_labels_because = "a pair is of one class or of two"
    capturable = False
    formula = "CE + weight * loss of pytorch-metric-learning on the features"
    source = "Musgrave et al. 2020; the library's formula"

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        *,
        num_classes: int | None = None,
        features: int | None = None,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_nonnegative("weight", weight)
        self.name = name
        self.weight = weight
        arguments = _check_options(name, options)
        sizes = {"num_classes": num_classes, "features": features}
        arguments |= _size_arguments(name, sizes)
        try:
            self.metric = _metric_class(name)(**arguments)
        except Exception as error:  # the library raises errors of many types
            raise InputError(
                f"{name} of pytorch-metric-learning does not take {options}: {_one_line(error)}"
            ) from None

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        ce = self.cross_entropy(output.logits, labels)
        assert output.features is not None  # `needs` names it
        features = full_precision(output.features)
        with without_autocast(features):
            valid = valid_samples(labels)
            metric = self._metric(features[valid], labels[valid])
        return {"total": ce + self.weight * metric, "ce": ce, "metric": metric}

    def _metric(self, features: Tensor, labels: Tensor) -> Tensor:
        without_pairs = len(labels.unique()) == len(labels)
        if len(labels) == 0 or (without_pairs and self.name in _NAN_WITHOUT_PAIRS):
            return features.sum() * 0
        try:
            metric: Tensor = self.metric(features, labels)
        except (ValueError, AssertionError) as error:
            raise InputError(
                f"{self.name} of pytorch-metric-learning does not take this batch: "
                f"{_one_line(error)}; a sampler with equally many samples of each class may help "
                "(--sampler m-per-class)"
            ) from None
        return metric

    def extra_repr(self) -> str:
        return f"{self.name}, weight={self.weight}"


def metric_learning_options(name: str) -> dict[str, Any]:
    """Options of a loss of pytorch-metric-learning and their defaults.

    Raises:
        InputError: the library is not installed, has no such loss or a loss that is rejected.
    """
    options: dict[str, Any] = {}
    for option, default in _arguments(_metric_class(name)):
        if option not in _SIZES:
            options.setdefault(option, default)
    return options


def _arguments(cls: Any) -> Iterator[tuple[str, Any]]:
    """Arguments of a class and its base classes, to which it passes those it does not name."""
    for part in cls.__mro__:
        if part is object or part.__module__.startswith("torch."):
            continue
        for name, parameter in inspect.signature(part.__init__).parameters.items():
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and name != "self":
                yield name, parameter.default


def _check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with booleans parsed from text."""
    known = metric_learning_options(name)
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise unknown_option(f"{PML_PREFIX}{name}", option, known)
        boolean = isinstance(known[option], bool)
        checked[option] = _parse_boolean(option, value) if boolean else value
    return checked


def _parse_boolean(name: str, value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}
    text = str(value).lower()
    if text not in known:
        raise InputError(f"{name} must be true or false, got {value!r}")
    return known[text]


def _size_arguments(name: str, sizes: Mapping[str, int | None]) -> dict[str, int]:
    """The library's arguments for the number of classes and the width of the features."""
    arguments = {}
    for argument, default in _arguments(_metric_class(name)):
        if argument in _SIZES:
            size = sizes[_SIZES[argument]]
            if size is not None:
                arguments[argument] = size
            elif default is inspect.Parameter.empty:
                raise InputError(f"{name} of pytorch-metric-learning needs {_SIZES[argument]}")
    return arguments


def _metric_class(name: str) -> Any:
    library = import_package("pytorch_metric_learning.losses", f"loss {PML_PREFIX}{name}", "pml")
    base = library.BaseMetricLossFunction
    losses = {
        key: value
        for key, value in vars(library).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }
    if name not in losses:
        raise InputError(
            f"pytorch-metric-learning has no loss {name!r}" + did_you_mean(name, losses)
        )
    if name in _REJECTED:
        raise InputError(
            f"{name} of pytorch-metric-learning cannot be used: {_REJECTED[name]}; "
            "choose another loss"
        )
    return losses[name]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
