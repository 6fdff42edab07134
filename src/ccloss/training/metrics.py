"""Metrics of a network, computed from its outputs on a set of images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ccloss.functional import class_distances

CALIBRATION_BINS = 15
"""Guo et al., *On Calibration of Modern Neural Networks* (2017)."""

MERGED = 0.1
"""Two classes are merged if the squared distance of their means is at most this share of the mean
squared distance of class means."""


@dataclass(frozen=True)
class Predictions:
    """A network's outputs on n images, on the CPU, ordered by the images' positions in their split.

    Attributes:
        index: (n,) positions in the split.
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
    """Joins the predictions of batches and processes."""
    order = torch.cat([part.index for part in parts]).argsort()

    def column(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])[order]

    attention = None if parts[0].attention is None else column("attention")
    return Predictions(
        column("index"), column("labels"), column("logits"), column("features"), attention
    )


def measure(predictions: Predictions) -> dict[str, Any]:
    """Every metric of :data:`METRICS` by name, as JSON types.

    A value that is not defined, or not finite, is ``None``: a test set may be of any size.
    """
    return {name: _defined(metric(predictions)) for name, metric in METRICS.items()}


# ---- classification ------------------------------------------------------------------------------


def accuracy(predictions: Predictions) -> float:
    """Images whose class has the largest logit, in %."""
    return _percent(_correct(predictions))


def top5(predictions: Predictions) -> float:
    """Images whose class has one of the five largest logits, in %."""
    logits, labels = predictions.logits, predictions.labels
    largest = logits.topk(min(5, logits.shape[1])).indices
    return _percent((largest == labels[:, None]).any(1))


def nll(predictions: Predictions) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    return float(F.cross_entropy(predictions.logits.double(), predictions.labels))


def class_accuracy(predictions: Predictions) -> list[float | None]:
    """Accuracy of each class in %; ``None`` for a class without images."""
    labels, classes = predictions.labels, predictions.logits.shape[1]
    counts = torch.bincount(labels, minlength=classes)
    hits = torch.bincount(labels[_correct(predictions)], minlength=classes)
    return [
        100 * hit / count if count else None
        for hit, count in zip(hits.tolist(), counts.tolist(), strict=True)
    ]


def calibration_error(predictions: Predictions) -> float | None:
    """Expected calibration error in %: mean gap of confidence and accuracy over images."""
    bins = calibration_bins(predictions)
    if bins is None:
        return None
    filled = [each for each in bins if each[0]]
    images = sum(count for count, _, _ in filled)
    return float(sum(count / images * abs(right - sure) for count, sure, right in filled))


def calibration_bins(predictions: Predictions) -> list[list[Any]] | None:
    """``[images, mean confidence %, accuracy %]`` of 15 equally wide bins of the top probability.

    A bin without images is ``[0, None, None]``. ``None`` if a probability is not finite.
    """
    confidence, predicted = predictions.logits.double().softmax(1).max(1)
    if not bool(confidence.isfinite().all()):
        return None
    index = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    counts = torch.bincount(index, minlength=CALIBRATION_BINS)
    sums = torch.zeros(2, CALIBRATION_BINS, dtype=torch.float64)
    correct = predicted == predictions.labels
    sums.index_add_(1, index, torch.stack([confidence, correct]).double())
    means = (100 * sums / counts).T.tolist()
    return [
        [count, *mean] if count else [0, None, None]
        for count, mean in zip(counts.tolist(), means, strict=True)
    ]


# ---- geometry of features and attention ----------------------------------------------------------


def distance_ratio(vectors: Tensor | None, labels: Tensor) -> float | None:
    """Mean intra- over mean inter-class squared distance of (n, D) vectors, over pairs of images.

    A mean over all pairs hides classes that coincide; see :func:`merged_pairs`.
    """
    if vectors is None:
        return None
    intra, inter = class_distances(vectors.double(), labels, "mean")
    return float(intra / inter) if inter > 0 else None


def merged_pairs(vectors: Tensor | None, labels: Tensor) -> float | None:
    """Class pairs that are merged, in %.

    A pair is merged if the squared distance of its class means is at most a tenth of the mean
    squared distance of class means, over all pairs of different classes with images.

    Args:
        vectors: (n, D), or ``None``.
        labels: (n,) int64.
    """
    if vectors is None:
        return None
    means, counts = _class_means(vectors.double(), labels, int(labels.max()) + 1)
    distances = F.pdist(means[counts > 0]).square()
    if len(distances) == 0 or not bool(distances.isfinite().all()):
        return None
    return _percent(distances <= MERGED * distances.mean())


def nearest_mean_accuracy(vectors: Tensor | None, labels: Tensor) -> float | None:
    """Images that are nearer to the mean of their own class than to that of any other, in %.

    The means are those of the evaluated images. An image does not count in the mean of its own
    class, which would favour small classes; an image that is alone in its class is left out.

    Args:
        vectors: (n, D), or ``None``.
        labels: (n,) int64.
    """
    if vectors is None:
        return None
    vectors = vectors.double()
    means, counts = _class_means(vectors, labels, int(labels.max()) + 1)
    if not bool(vectors.isfinite().all()) or not bool((counts > 1).any()):
        return None
    distances = torch.cdist(vectors, means, compute_mode="donot_use_mm_for_euclid_dist")
    distances[:, counts == 0] = torch.inf
    # Without the image itself, its class mean is n / (n - 1) times as far away.
    own_counts = counts[labels].double()
    own = distances.gather(1, labels[:, None]) * (own_counts / (own_counts - 1))[:, None]
    distances.scatter_(1, labels[:, None], own)
    return _percent((distances.argmin(1) == labels)[counts[labels] > 1])


def class_attention_mass(predictions: Predictions) -> list[float | None] | None:
    """Mean attention of each class over its images and over channels, in 0..1.

    It measures how much of the network a class uses. A count of channels above a threshold would
    not do: an SE module without biases whose bottleneck has died has an attention of exactly 0.5
    in every channel, and a count of channels above 0.5 is then either none or all of them.
    """
    if predictions.attention is None:
        return None
    classes = predictions.logits.shape[1]
    mass = predictions.attention.double().mean(1, keepdim=True)
    means, counts = _class_means(mass, predictions.labels, classes)
    return [
        mean if count else None
        for mean, count in zip(means[:, 0].tolist(), counts.tolist(), strict=True)
    ]


def dead_units(predictions: Predictions) -> int:
    """Features that are 0 for every evaluated image."""
    return int((predictions.features == 0).all(0).sum())


METRICS: dict[str, Callable[[Predictions], Any]] = {
    "images": lambda predictions: len(predictions.labels),
    "accuracy": accuracy,
    "top5": top5,
    "nll": nll,
    "calibration_error": calibration_error,
    "calibration_bins": calibration_bins,
    "class_accuracy": class_accuracy,
    "feature_ratio": lambda p: distance_ratio(p.features, p.labels),
    "attention_ratio": lambda p: distance_ratio(p.attention, p.labels),
    "feature_merged_pairs": lambda p: merged_pairs(p.features, p.labels),
    "attention_merged_pairs": lambda p: merged_pairs(p.attention, p.labels),
    "feature_nearest_mean_accuracy": lambda p: nearest_mean_accuracy(p.features, p.labels),
    "attention_nearest_mean_accuracy": lambda p: nearest_mean_accuracy(p.attention, p.labels),
    "class_attention_mass": class_attention_mass,
    "dead_units": dead_units,
}
"""Name of each metric in records and tables, and the function that computes it.

A function takes :class:`Predictions` and returns a JSON type: a number, ``None`` if it is not
defined, or for a name that begins with ``class_`` a list with a value for each class.
"""


# ---- helpers -------------------------------------------------------------------------------------


def _correct(predictions: Predictions) -> Tensor:
    return predictions.logits.argmax(1) == predictions.labels


def _class_means(vectors: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(K, D) means of the vectors of each class, and (K,) counts; a class without images has 0."""
    counts = torch.bincount(labels, minlength=classes)
    sums = vectors.new_zeros(classes, vectors.shape[1]).index_add_(0, labels, vectors)
    return sums / counts.clamp(min=1)[:, None], counts


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def _defined(value: Any) -> Any:
    """A value, or a list of values, with ``None`` for those that are NaN or infinite."""
    if isinstance(value, list):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
