"""What a model hands out and a loss takes."""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """One forward pass of a classifier, for N images, K classes and hidden width D.

    A loss takes what it needs and says so when it is missing; the last three may be ``None``.

    Attributes:
        logits: (N, K) plain class scores, before softmax and without any margin.
        features: (N, D) what the classification layer sees, ``ReLU(hidden * attention)``.
        attention: (N, D) channel-attention vectors in (0, 1); ``None`` without attention.
        feature_map: (N, C, H, W) last feature map of the backbone; ``None`` for vector backbones.
        classifier_weight: (K, D) weight of the classification layer.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor | None = None
    feature_map: Tensor | None = None
    classifier_weight: Tensor | None = None
