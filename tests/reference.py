"""Slow loops written straight from the paper, in float64: what the fast code is compared with."""

import math
from typing import Any

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


def class_distances_by_rows(attention: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`class_distances` with one loop, for large batches and (N, K) rows."""
    vectors, rows = attention.double(), rows.double()
    intra = inter = (vectors * 0).sum()
    for i in range(len(vectors) - 1):
        distances = ((vectors[i + 1 :] - vectors[i]) ** 2).sum(1)
        same = rows[i + 1 :] @ rows[i]
        intra = intra + (distances * same).sum()
        inter = inter + (distances * (1 - same)).sum()
    return intra, inter


def class_overlap(attention: Tensor, rows: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean over pairs of classes of within / (within + distance), from (N, K) rows."""
    vectors, rows = attention.double(), rows.double()
    counts = rows.sum(0).tolist()
    zero = (vectors * 0).sum()
    means, scatter = [], zero
    for k, count in enumerate(counts):
        mean = (rows[:, k, None] * vectors).sum(0) / (count or 1)
        means.append(mean)
        for vector, row in zip(vectors, rows, strict=True):
            scatter = scatter + row[k] * ((vector - mean) ** 2).sum()
    within = 2 * scatter / len(vectors)
    total, weight = zero, 0.0
    for k in range(len(counts)):
        for j in range(k):
            pairs = counts[k] * counts[j]
            distance = ((means[k] - means[j]) ** 2).sum()
            total = total + pairs * within / (within + distance + eps)
            weight += pairs
    return total / weight if weight else zero


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


# --- the other losses, one sample and one class at a time

Weights = list[float] | None


def rows_of(labels: Tensor, classes: int) -> Tensor:
    """(N, K) probabilities, whichever way labels come."""
    if labels.ndim == 2:
        return labels.double()
    rows = torch.zeros(len(labels), classes, dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        rows[i, label] = 1
    return rows


def averaged(losses: list[Tensor], rows: Tensor, weights: Weights = None) -> Tensor:
    """sum_i w_i l_i / sum_i w_i with w_i = sum_k y_ik w_k."""
    over = under = torch.zeros((), dtype=torch.float64)
    for loss, row in zip(losses, rows, strict=True):
        share = sum(float(y) * w for y, w in zip(row, weights or [1.0] * len(row), strict=True))
        over, under = over + share * loss, under + share
    return over / under if under > 0 else over


def softmax_loss(
    logits: Tensor, labels: Tensor, weights: Weights = None, smoothing: float = 0, gamma: float = 0
) -> Tensor:
    """Cross-entropy, and with gamma focal loss, of smoothed targets and weighted samples."""
    classes = logits.shape[1]
    rows = rows_of(labels, classes)
    losses = []
    for row, target in zip(logits.double(), rows, strict=True):
        top = row.max().detach()
        log_sum = torch.log(torch.exp(row - top).sum()) + top
        loss = (row * 0).sum()
        for k in range(classes):
            log_p = row[k] - log_sum
            share = (1 - smoothing) * target[k] + smoothing / classes
            focus = (1 - torch.exp(log_p)) ** gamma if gamma and classes > 1 else 1
            loss = loss - share * focus * log_p
        losses.append(loss)
    return averaged(losses, rows, weights)


def length(vector: Tensor) -> Tensor:
    return (vector**2).sum() ** 0.5


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum() / length(one) / length(other)


def margin_logits(
    kind: str, features: Tensor, weight: Tensor, labels: Tensor, **options: float
) -> Tensor:
    """Logits of A-Softmax (margin, annealing), CosFace and ArcFace (scale, margin), from angles."""
    rows = []
    for x, label in zip(features.double(), labels.tolist(), strict=True):
        row = []
        for k, w in enumerate(weight.double()):
            cos = cosine(x, w)
            theta = torch.acos(cos)
            if kind == "a-softmax":
                lam = options["annealing"]
                value = (lam * cos + psi(theta, int(options["margin"]))) / (1 + lam)
                row.append(length(x) * (value if k == label else cos))
            elif kind == "cosface":
                row.append(options["scale"] * (cos - options["margin"] * (k == label)))
            else:
                m = options["margin"]
                moved = cos - m * math.sin(m)
                if theta + m <= math.pi:
                    moved = torch.cos(theta + m)
                row.append(options["scale"] * (moved if k == label else cos))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def psi(theta: Tensor, m: int) -> Tensor:
    """(-1)^k cos(m theta) - 2k on [k pi / m, (k + 1) pi / m]."""
    k = min(int(float(theta.detach()) * m / math.pi), m - 1)
    return (-1) ** k * torch.cos(m * theta) - 2 * k


def mutual_channel(
    maps: Tensor, labels: Tensor, classes: int, mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """L_dis and L_div; ``mask`` is one number a channel."""
    samples, channels, height, width = maps.shape
    sizes = [channels // classes + (k >= classes - channels % classes) for k in range(classes)]
    assert sum(sizes) == channels
    scores, covered = [], []
    for i in range(samples):
        first = 0
        for size in sizes:
            score = cover = torch.zeros((), dtype=torch.float64)
            spread = {
                c: torch.exp(maps[i, c].double()) / torch.exp(maps[i, c].double()).sum()
                for c in range(first, first + size)
            }
            for h in range(height):
                for w in range(width):
                    own = [
                        maps[i, c, h, w].double() * (1 if mask is None else float(mask[c]))
                        for c in range(first, first + size)
                    ]
                    score = score + max(own) / (height * width)
                    cover = cover + max(spread[c][h, w] for c in spread) / size
            scores.append(score)
            covered.append(cover)
            first += size
    dis = softmax_loss(torch.stack(scores).view(samples, classes), labels, **options)
    return dis, 1 - torch.stack(covered).mean()


def inter_class_angle(weight: Tensor) -> Tensor:
    """Mean cosine over all ordered pairs of classes, each with itself included."""
    classes = len(weight)
    total = (weight.double() * 0).sum()
    for i in range(classes):
        for j in range(classes):
            total = total + cosine(weight[i].double(), weight[j].double())
    return total / classes**2


def confused_angle(weight: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """sum_{i != j} r_ij cos(w_i, w_j), from the whole table of confusion rates."""
    samples, classes = logits.shape
    rows = rows_of(labels, classes)
    rates = torch.zeros(classes, classes, dtype=torch.float64)
    for row, scores in zip(rows, logits, strict=True):
        for i in range(classes):
            rates[i, int(scores.argmax())] += float(row[i]) / samples
    total = (weight.double() * 0).sum()
    for i in range(classes):
        for j in range(classes):
            if i != j:
                total = total + rates[i, j] * cosine(weight[i].double(), weight[j].double())
    return total


def center_distance(features: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """mean_i sum_k y_ik |f_i - c_k|^2 / 2."""
    rows = rows_of(labels, len(centers))
    total = (features.double() * 0).sum()
    for x, row in zip(features.double(), rows, strict=True):
        for k, center in enumerate(centers.double()):
            total = total + row[k] * ((x - center) ** 2).sum() / 2
    return total / len(features)


def center_step(features: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Eq. 4 of the center loss paper: sum_i y_ik (c_k - f_i) / (1 + sum_i y_ik)."""
    rows = rows_of(labels, len(centers))
    step = torch.zeros(centers.shape, dtype=torch.float64)
    for k, center in enumerate(centers.double()):
        count = 1.0
        for x, row in zip(features.double(), rows, strict=True):
            step[k] += row[k] * (center - x)
            count += float(row[k])
        step[k] /= count
    return step


def virtual_softmax(
    features: Tensor, weight: Tensor, labels: Tensor, weights: Weights = None, smoothing: float = 0
) -> Tensor:
    """-log(e^{w_y x} / (sum_k e^{w_k x} + e^{|w_y| |x|})), smoothed over the K real classes."""
    classes = len(weight)
    losses = []
    for x, label in zip(features.double(), labels.tolist(), strict=True):
        scores = [(w * x).sum() for w in weight.double()]
        total = torch.exp(length(weight[label].double()) * length(x))
        for score in scores:
            total = total + torch.exp(score)
        loss = torch.log(total) - (1 - smoothing) * scores[label]
        for score in scores:
            loss = loss - smoothing / classes * score
        losses.append(loss)
    return averaged(losses, rows_of(labels, classes), weights)
