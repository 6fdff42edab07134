"""Any loss of the library pytorch-metric-learning beside cross-entropy."""

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any, final

from torch import Tensor

from ccloss.errors import InputError, did_you_mean
from ccloss.losses.base import Loss, full_precision, without_autocast
from ccloss.options import PREFIX, not_negative
from ccloss.output import Output

_SIZES = {"num_classes": "num_classes", "embedding_size": "features"}
"""Their names of what the data and the network say, and ours."""


@final
class MetricLearningLoss(Loss):
    """Cross-entropy plus a loss of pytorch-metric-learning on the features.

    Musgrave et al., *PyTorch Metric Learning* (2020); the formula is theirs::

        L = CE(logits, labels) + weight * losses.<name>(**options)(features, labels)

    ``terms`` gives ``total``, ``ce`` and ``metric``, the last before the weight. Soft labels are
    refused: pairs are of one class or of two. A loss of theirs that has a classifier of its own
    takes its size from ``num_classes`` and ``features``.

    Args:
        name: a class of ``pytorch_metric_learning.losses``.
        weight: 0 or more.
        num_classes: K, for a loss that asks for it.
        features: D, width of the features, for a loss that asks for it.
        class_weights: see :class:`Loss`; their loss is not weighted.
        label_smoothing: see :class:`Loss`; in CE.
        options: arguments of their class.

    Raises:
        InputError: the library is not installed, it has no such loss, or the loss has no such
            option or does not take its value.
    """

    takes_soft_labels = False
    hard_labels_because = "its pairs are of one class or of two"
    formula = "CE + weight * loss of pytorch-metric-learning on the features"
    source = "Musgrave et al. 2020; the library's formula"

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        *,
        num_classes: int | None = None,
        features: int | None = None,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        not_negative("weight", weight)
        known = metric_learning_options(name)
        for option in options:
            if option not in known:
                raise InputError(
                    f"{name} of pytorch-metric-learning has no option {option!r}: it has "
                    f"{', '.join(known)}" + did_you_mean(option, known)
                )
        sizes = {"num_classes": num_classes, "features": features}
        asked = inspect.signature(_metric_class(name)).parameters
        for theirs, ours in _SIZES.items():
            if theirs in asked:
                if sizes[ours] is None:
                    raise InputError(f"{name} of pytorch-metric-learning needs {ours}")
                options[theirs] = sizes[ours]
        self.name = name
        self.weight = weight
        try:
            self.metric = _metric_class(name)(**options)
        except Exception as error:  # their many ways to refuse a value
            raise InputError(
                f"{name} of pytorch-metric-learning does not take {options}: {error}"
            ) from None

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        ce = self.cross_entropy(output.logits, labels)
        features = full_precision(output.features)
        with without_autocast(features):
            metric = self.metric(features, labels.long())
        return {"total": ce + self.weight * metric, "ce": ce, "metric": metric}

    def extra_repr(self) -> str:
        return f"{self.name}, weight={self.weight}"


def metric_learning_options(name: str) -> dict[str, Any]:
    """Options of a loss of pytorch-metric-learning and their defaults.

    Raises:
        InputError: the library is not installed, or has no such loss.
    """
    known: dict[str, Any] = {}
    for part in _metric_class(name).__mro__:  # arguments they do not name go to the class above
        if part is object or part.__module__.startswith("torch."):
            continue
        parameters = inspect.signature(part.__init__).parameters
        for option, parameter in parameters.items():
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and option != "self" and option not in _SIZES:
                known.setdefault(option, parameter.default)
    return known


def _metric_class(name: str) -> Any:
    try:
        library = import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise InputError(
            f"loss {PREFIX}{name} needs pytorch-metric-learning ({error}): "
            'pip install "ccloss[pml]"'
        ) from None
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
    return losses[name]
