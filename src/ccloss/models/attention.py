"""Channel attention that hands out its vector."""

import torch
from torch import Tensor, nn

from ccloss.errors import InputError


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation: one weight in (0, 1) for each channel of a hidden layer.

    Hu et al., *Squeeze-and-Excitation Networks* (2018), as used in sec. 2.1 of the CC-Loss paper::

        attention = sigmoid(W2 ReLU(W1 squeeze(F)))

    Where an SE block multiplies and forgets, this returns the vector: CC-Loss works on it. It is
    computed in float32 (float64 if given) under any autocast, for the loss compares vectors that
    may differ by less than half precision can hold.

    Args:
        in_features: C, channels of the backbone's features.
        channels: D, channels to weight.
        reduction: the bottleneck has ``max(1, in_features // reduction)`` units.

    Raises:
        InputError: an argument below 1.
    """

    def __init__(self, in_features: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_positive(in_features=in_features, channels=channels, reduction=reduction)
        bottleneck = max(1, in_features // reduction)
        self.reduce = nn.Linear(in_features, bottleneck, bias=False)
        self.expand = nn.Linear(bottleneck, channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) map or (N, C) vectors of the backbone -> (N, D) attention."""
        squeezed = squeeze(features)
        with torch.autocast(squeezed.device.type, enabled=False):
            squeezed = squeezed.to(self.reduce.weight.dtype)
            attention: Tensor = self.expand(self.reduce(squeezed).relu()).sigmoid()
        return attention


def squeeze(features: Tensor) -> Tensor:
    """Global average pool of a (N, C, H, W) map; (N, C) vectors as they are."""
    if features.ndim == 4:
        return features.mean((2, 3))
    if features.ndim == 2:
        return features
    raise InputError(
        f"features must be a map (N, C, H, W) or vectors (N, C), got {tuple(features.shape)}"
    )


def check_positive(**sizes: int) -> None:
    """Refuses sizes below 1, by name."""
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} must be 1 or more, got {size}")
