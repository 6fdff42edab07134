"""Channel attention that returns its vector."""

import torch
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.validation import require_positive_integer


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation: one weight in (0, 1) for each channel of a hidden layer.

    Hu et al., *Squeeze-and-Excitation Networks* (2018), as used in sec. 2.1 of the CC-Loss paper::

        attention = sigmoid(W2 ReLU(W1 squeeze(F)))

    An SE block multiplies its input by this vector; here the vector itself is the output, because
    CC-Loss needs it. It is computed in float32 (float64 for float64 weights) under any autocast:
    the loss compares vectors that may differ by less than half precision resolves.

    Args:
        in_features: C, channels of the backbone's features.
        channels: D, channels to weight.
        reduction: the bottleneck has ``max(1, in_features // reduction)`` units.

    Raises:
        InputError: an argument that is not a positive integer.
    """

    def __init__(self, in_features: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        require_positive_integer("in_features", in_features)
        require_positive_integer("channels", channels)
        require_positive_integer("reduction", reduction)
        bottleneck = max(1, in_features // reduction)
        self.reduce = nn.Linear(in_features, bottleneck, bias=False)
        self.expand = nn.Linear(bottleneck, channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Computes attention (N, D) from features (N, C, H, W) or (N, C)."""
        squeezed = squeeze(features)
        with torch.autocast(squeezed.device.type, enabled=False):
            squeezed = squeezed.to(self.reduce.weight.dtype)
            attention: Tensor = self.expand(self.reduce(squeezed).relu()).sigmoid()
        return attention


def squeeze(features: Tensor) -> Tensor:
    """Global average pooling of a map (N, C, H, W); vectors (N, C) are returned unchanged.

    Raises:
        InputError: features of another shape.
    """
    if features.ndim == 4:
        return features.mean((2, 3))
    if features.ndim == 2:
        return features
    raise InputError(
        f"features must be a map (N, C, H, W) or vectors (N, C), got {tuple(features.shape)}"
    )
