"""Slow loops written straight from the paper, in float64: what the fast code is compared with."""

import torch
from torch import Tensor


def same_class(labels: Tensor, i: int, j: int) -> float:
    """I(Y_i, Y_j), or its soft form <y_i, y_j>."""
    if labels.ndim == 2:
        return float(torch.dot(labels[i].double(), labels[j].double()))
    return float(labels[i] == labels[j])


def class_distances(attention: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """L_intra and L_inter by a double loop over pairs (eqs. 3, 6, 7)."""
    vectors = attention.double()
    intra = inter = (vectors * 0).sum()
    for i in range(len(vectors)):
        for j in range(i, len(vectors)):
            distance = ((vectors[i] - vectors[j]) ** 2).sum()
            same = same_class(labels, i, j)
            intra = intra + distance * same
            inter = inter + distance * (1 - same)
    return intra, inter


def pair_counts(labels: Tensor) -> tuple[float, float]:
    """Pairs i < j of one class and of two."""
    intra = inter = 0.0
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            same = same_class(labels, i, j)
            intra += same
            inter += 1 - same
    return intra, inter


def channel_correlation(
    attention: Tensor, labels: Tensor, eps: float = 1e-6, reduction: str = "sum"
) -> Tensor:
    """The ratio of eq. 8, of sums or of means over pairs."""
    intra, inter = class_distances(attention, labels)
    if reduction == "mean":
        pairs = pair_counts(labels)
        intra, inter = intra / (pairs[0] or 1), inter / (pairs[1] or 1)
    return intra / (inter + eps)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 1 and 9: the mean over samples of -log softmax at the label."""
    total = (logits.double() * 0).sum()
    for row, label in zip(logits.double(), labels, strict=True):
        log_sum = torch.log(torch.exp(row - row.max()).sum()) + row.max()
        if labels.ndim == 2:
            total = total + (label.double() * (log_sum - row)).sum()
        else:
            total = total + log_sum - row[label]
    return total / len(logits)


def paper_form(attention: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's E + E^T - 2G of sec. 2.3, in the precision of its input."""
    squares = attention.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * attention @ attention.T
    same = labels[:, None] == labels[None, :]
    upper = torch.triu(distances, diagonal=1)
    return (upper * same).sum(), (upper * ~same).sum()
