"""The output of a model and the input of a loss."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """One forward pass of a classifier for N images, K classes and hidden width D.

    All fields but ``logits`` may be ``None``. A loss raises an error for a missing field it needs.

    Attributes:
        logits: (N, K) class scores before softmax and without any margin.
        features: (N, D) input of the classification layer, ``ReLU(hidden * attention)``.
        attention: (N, D) channel-attention vectors in (0, 1), or a sequence of (N, D_l) tensors,
            one for each attention layer.
        feature_map: (N, C, H, W) last feature map of the backbone.
        classifier_weight: (K, D) weight of the classification layer.
    """

    logits: Tensor
    features: Tensor | None = None
    attention: Tensor | Sequence[Tensor] | None = None
    feature_map: Tensor | None = None
    classifier_weight: Tensor | None = None
