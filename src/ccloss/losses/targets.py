"""Target distributions of classification terms."""

import torch
from torch import Tensor


def class_probabilities(labels: Tensor, like: Tensor, smoothing: float = 0.0) -> Tensor:
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
