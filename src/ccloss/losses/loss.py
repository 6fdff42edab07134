"""What every loss is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.functional import check_labels
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
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        """The loss of the batch.

        Raises:
            InputError: labels of a wrong shape, type or value; something missing in the output.
        """
        return self.terms(output, labels)["total"]

    @abstractmethod
    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        """Every term by name, scalars; ``"total"`` is what ``loss(output, labels)`` returns."""

    def check(self, output: Output, labels: Tensor) -> None:
        """Refuses a batch that this loss cannot take, in one line that says why."""
        for need in sorted(self.needs):
            if getattr(output, need) is None:
                raise InputError(
                    f"output.{need} is None, and {type(self).__name__} needs it: {_REMEDY[need]}"
                )
        if output.logits.ndim != 2:
            raise InputError(f"output.logits must be (N, K), got {tuple(output.logits.shape)}")
        check_labels(labels, len(output.logits), output.logits.shape[1])


def full_precision(values: Tensor) -> Tensor:
    """float32, or float64 if the values are: losses are not computed in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
