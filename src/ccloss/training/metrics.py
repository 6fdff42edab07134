"""How good a trained network is: from its outputs on a set of images to numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ccloss.functional import class_distances

CALIBRATION_BINS = 15
"""Guo et al., *On Calibration of Modern Neural Networks* (2017)."""

OPEN = 0.5
"""Attention above which a channel counts as open: the middle of the sigmoid."""


@dataclass(frozen=True)
class Predictions:
    """A network's outputs on n images, on the CPU, ordered by the images' places in their split.

    Attributes:
        index: (n,) places in the split.
        labels: (n,) true classes.
        logits: (n, K) float32.
        features: (n, D) float32.
        attention: (n, D) float32, or ``None``.
    """

    index: Tensor
    labels: Tensor
    logits: Tensor
    features: Tensor
    attention: Tensor | None


def join(parts: Sequence[Predictions]) -> Predictions:
    """One set of predictions from the parts that batches or processes have made."""
    order = torch.cat([part.index for part in parts]).argsort()

    def column(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])[order]

    attention = None if parts[0].attention is None else column("attention")
    return Predictions(
        column("index"), column("labels"), column("logits"), column("features"), attention
    )


def measure(predictions: Predictions) -> dict[str, Any]:
    """Metrics of a set of predictions, fit for JSON; see :class:`ccloss.training.records.Record`.

    The ratios are mean intra- over mean inter-class squared distance over all pairs of images. A
    metric that is not defined, or not finite, is ``None``.
    """
    logits, labels = predictions.logits.double(), predictions.labels
    classes = logits.shape[1]
    correct = logits.argmax(1) == labels
    top5 = (logits.topk(min(5, classes)).indices == labels[:, None]).any(1)
    counts = torch.bincount(labels, minlength=classes)
    hits = torch.bincount(labels[correct], minlength=classes)
    bins = calibration_bins(logits, labels)
    return {
        "images": len(labels),
        "accuracy": _percent(correct),
        "top5": _percent(top5),
        "nll": _finite(F.cross_entropy(logits, labels)),
        "calibration_error": calibration_error(bins),
        "calibration_bins": bins,
        "class_accuracy": [
            100 * hit / count if count else None
            for hit, count in zip(hits.tolist(), counts.tolist(), strict=True)
        ],
        "feature_ratio": distance_ratio(predictions.features, labels),
        "attention_ratio": distance_ratio(predictions.attention, labels),
        "class_channels": open_channels(predictions.attention, labels, classes),
    }


def calibration_bins(logits: Tensor, labels: Tensor) -> list[list[Any]] | None:
    """``[images, mean confidence %, accuracy %]`` of 15 bins of equal width of the top probability.

    A bin without images is ``[0, None, None]``; all is ``None`` where a probability is not finite.
    """
    confidence, predicted = logits.softmax(1).max(1)
    if not bool(confidence.isfinite().all()):
        return None
    places = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    counts = torch.bincount(places, minlength=CALIBRATION_BINS)
    sums = torch.zeros(2, CALIBRATION_BINS, dtype=torch.float64)
    sums.index_add_(1, places, torch.stack([confidence, predicted == labels]).double())
    means = (100 * sums / counts).T.tolist()
    return [
        [count, *mean] if count else [0, None, None]
        for count, mean in zip(counts.tolist(), means, strict=True)
    ]


def calibration_error(bins: list[list[Any]] | None) -> float | None:
    """Expected calibration error in %: mean gap of confidence and accuracy over images."""
    if bins is None:
        return None
    filled = [each for each in bins if each[0]]
    images = sum(count for count, _, _ in filled)
    return float(sum(count / images * abs(right - sure) for count, sure, right in filled))


def open_channels(
    attention: Tensor | None, labels: Tensor, classes: int
) -> list[int | None] | None:
    """How many channels the mean attention of each class opens, of (n, D) attention."""
    if attention is None:
        return None
    sums = torch.zeros(classes, attention.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, attention.double())
    counts = torch.bincount(labels, minlength=classes)
    opened = (sums > OPEN * counts[:, None]).sum(1).tolist()
    return [found if count else None for found, count in zip(opened, counts.tolist(), strict=True)]


def distance_ratio(vectors: Tensor | None, labels: Tensor) -> float | None:
    """Mean intra- over mean inter-class squared distance of (n, D) vectors."""
    if vectors is None:
        return None
    intra, inter = class_distances(vectors.double(), labels, "mean")
    return _finite(intra / inter) if inter > 0 else None


def balanced(labels: Tensor, limit: int) -> Tensor:
    """Places of at most ``limit`` samples, as many of every class as there are, in order."""
    counts = torch.zeros(int(labels.max()) + 1, dtype=torch.long)
    rank = torch.empty_like(labels)
    for place, label in enumerate(labels.tolist()):
        rank[place] = counts[label]
        counts[label] += 1
    return rank.argsort(stable=True)[:limit].sort().values


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
