"""Projections, distances and means of the vectors of test images."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

RAW = "both dimensions"

_FEWEST_FOR_TSNE = 10
"""With fewer points t-SNE has no neighbourhoods to preserve."""


def plane(features: Floats, *, tsne: bool = True) -> tuple[Floats, str]:
    """Projects (n, D) features to the plane: (n, 2) points, and the name of the projection.

    Two features are shown unchanged, more features by t-SNE with a fixed seed, or by principal
    components where t-SNE is undefined: few points, or points that all coincide.

    Args:
        features: (n, D).
        tsne: whether t-SNE may be used, which takes about a second for a few hundred points.
    """
    count, width = features.shape
    if width == 2:
        return features, RAW
    centred = features - features.mean(axis=0, dtype=np.float64)
    spread = np.abs(centred).max()
    if not tsne or width < 2 or count < _FEWEST_FOR_TSNE or spread == 0:
        return _principal_components(centred), "principal components"
    return _tsne(centred / spread), "t-SNE (only small distances are meaningful)"


def balanced(labels: Integers, limit: int) -> Integers:
    """Indices of at most about ``limit`` images, ordered by class, equally many of each.

    Every class that is present keeps one image, even if that exceeds ``limit``.
    """
    present = np.unique(labels)
    quota = max(1, limit // len(present))
    return np.concatenate([np.flatnonzero(labels == label)[:quota] for label in present])


def relative_distances(vectors: Floats, labels: Integers) -> Floats | None:
    """Squared Euclidean distances (n, n) of (n, D) vectors over their mean between classes.

    ``None`` if that mean is zero or there is one class only.
    """
    from scipy.spatial.distance import pdist, squareform

    distances = squareform(pdist(vectors.astype(np.float64), "sqeuclidean"))
    between = distances[labels[:, None] != labels]
    if between.size == 0 or between.mean() == 0:
        return None
    relative: Floats = distances / between.mean()
    return relative


def mean_distances(vectors: Floats, labels: Integers) -> tuple[float | None, float | None]:
    """Mean squared Euclidean distance of pairs of one class, and of pairs of different classes.

    ``None`` where there is no such pair.

    Args:
        vectors: (n, D).
        labels: (n,).
    """
    from scipy.spatial.distance import pdist

    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    distances = pdist(vectors.astype(np.float64), "sqeuclidean")
    within, between = distances[same], distances[~same]
    return (
        float(within.mean()) if within.size else None,
        float(between.mean()) if between.size else None,
    )


def class_means(vectors: Floats, labels: Integers, classes: int) -> Floats:
    """Mean vector of each class, (classes, D); NaN for a class without images."""
    means = np.full((classes, vectors.shape[1]), np.nan)
    for label in np.unique(labels):
        means[label] = vectors[labels == label].mean(axis=0, dtype=np.float64)
    return means


def channel_order(means: Floats) -> Integers:
    """Order of the channels: by the class in which they are highest, then from high to low.

    Args:
        means: (K, D), rows of NaN for classes without images, at least one row without.
    """
    highest = np.nanmax(means, axis=0)
    return np.lexsort((-highest, np.nanargmax(means, axis=0)))


def _principal_components(centred: Floats) -> Floats:
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    points = (left * scale)[:, :2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _tsne(features: Floats) -> Floats:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    method = TSNE(
        perplexity=min(30.0, (len(features) - 1) / 3),
        init="pca",
        max_iter=400,  # enough for the few hundred images of a sample
        angle=0.8,  # approximates distant points, which a sample this small tolerates
        random_state=0,
        n_jobs=1,
    )
    with threadpool_limits(1):  # one order of summation makes the picture reproducible
        points: Floats = method.fit_transform(features)
    return points
