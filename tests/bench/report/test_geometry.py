"""The arrays behind the figures against slow loops and other libraries."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from ccloss.bench.report import geometry


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_two_features_are_shown_as_they_are(rng):
    features = rng.normal(size=(30, 2))
    points, projection = geometry.plane(features)
    assert np.array_equal(points, features)
    assert projection == geometry.RAW


def test_tsne_keeps_neighbours_and_says_so(rng):
    centres = 10 * rng.normal(size=(4, 12))
    features = (centres[np.arange(48) % 4] + rng.normal(size=(48, 12))).astype(np.float32)
    points, projection = geometry.plane(features)
    assert points.shape == (48, 2)
    assert "t-SNE" in projection
    assert trustworthiness(features, points) > 0.85
    assert np.array_equal(points, geometry.plane(features)[0])


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_tsne_does_not_depend_on_the_unit(rng, scale):
    features = rng.normal(size=(12, 5))
    assert np.isfinite(geometry.plane(features * scale)[0]).all()


def test_few_points_by_principal_components(rng):
    features = rng.normal(size=(6, 5))
    points, projection = geometry.plane(features)
    assert "principal components" in projection
    expected = PCA(2).fit_transform(features)
    assert np.allclose(np.abs(points), np.abs(expected))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 9), (2, 1), (40, 1)])
def test_thin_features_get_a_place(rng, shape):
    features = rng.normal(size=shape)
    points, _ = geometry.plane(features)
    assert points.shape == (shape[0], 2)
    assert np.allclose(pdist(points), pdist(features))


def test_features_that_all_coincide(rng):
    points, projection = geometry.plane(np.full((40, 8), 3.0, np.float32))
    assert np.array_equal(points, np.zeros((40, 2)))
    assert "principal components" in projection


def test_tsne_of_points_on_a_line(rng):
    line = np.outer(np.arange(20.0), np.ones(6))
    assert np.isfinite(geometry.plane(line)[0]).all()


def test_balanced_takes_as_many_of_each_class_in_order():
    labels = np.array([2, 0, 2, 0, 2, 0, 5])
    assert geometry.balanced(labels, 6).tolist() == [1, 3, 0, 2, 6]
    assert geometry.balanced(labels, 100).tolist() == [1, 3, 5, 0, 2, 4, 6]


def test_balanced_keeps_every_class():
    assert geometry.balanced(np.arange(100), 3).tolist() == list(range(100))


def test_relative_distances_against_loops(rng):
    vectors, labels = rng.normal(size=(9, 4)).astype(np.float32), np.arange(9) % 3
    expected = np.zeros((9, 9))
    between = []
    for i in range(9):
        for j in range(9):
            for d in range(4):
                expected[i, j] += (float(vectors[i, d]) - float(vectors[j, d])) ** 2
            if labels[i] != labels[j]:
                between.append(expected[i, j])
    assert np.allclose(geometry.relative_distances(vectors, labels), expected / np.mean(between))


def test_relative_distances_of_nearly_equal_vectors(rng):
    noise = rng.integers(-8, 8, size=(8, 16))
    labels = np.arange(8) % 2
    near = (0.5 + noise * 2.0**-20).astype(np.float32)  # exact in float32
    far = geometry.relative_distances(noise.astype(np.float32), labels)
    assert np.allclose(geometry.relative_distances(near, labels), far, rtol=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_no_distance_between_classes(labels):
    assert geometry.relative_distances(np.ones((3, 4), np.float32), np.array(labels)) is None


def test_class_means_against_loops(rng):
    vectors, labels = rng.normal(size=(7, 3)), np.array([0, 2, 2, 0, 0, 2, 2])
    means = geometry.class_means(vectors, labels, 4)
    for label in (0, 2):
        members = [vectors[i] for i in range(7) if labels[i] == label]
        assert np.allclose(means[label], sum(members) / len(members))
    assert np.isnan(means[[1, 3]]).all()


def test_channel_order():
    means = np.array([[0.9, 0.1, 0.2, 0.8], [np.nan] * 4, [0.3, 0.6, 0.7, 0.1]])
    assert geometry.channel_order(means).tolist() == [0, 3, 2, 1]
