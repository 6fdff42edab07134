"""Metrics against scikit-learn, and against slow loops."""

import itertools
import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from ccloss.training.metrics import (
    METRICS,
    Predictions,
    calibration_error,
    distance_ratio,
    join,
    measure,
    merged_pairs,
    nearest_mean_accuracy,
)

IMAGES, CLASSES, WIDTH = 60, 7, 5


def make_predictions(seed: int = 0, images: int = IMAGES, classes: int = CLASSES) -> Predictions:
    gen = torch.Generator().manual_seed(seed)
    return Predictions(
        index=torch.arange(images),
        labels=torch.randint(classes, (images,), generator=gen),
        logits=2 * torch.randn(images, classes, generator=gen),
        features=torch.rand(images, WIDTH, generator=gen),
        attention=torch.rand(images, WIDTH, generator=gen),
    )


def of_logits(logits: Tensor, labels: Tensor) -> Predictions:
    vectors = torch.zeros(len(labels), 1)
    return Predictions(torch.arange(len(labels)), labels, logits, vectors, None)


def slow_ratio(vectors: Tensor, labels: Tensor) -> float:
    distances: dict[bool, list[float]] = {True: [], False: []}
    for i, j in itertools.combinations(range(len(labels)), 2):
        distance = float((vectors[i].double() - vectors[j].double()).square().sum())
        distances[bool(labels[i] == labels[j])].append(distance)
    return float(np.mean(distances[True]) / np.mean(distances[False]))


def slow_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Guo et al., eq. 3."""
    probabilities = logits.double().softmax(1)
    members: dict[int, list[tuple[float, bool]]] = {b: [] for b in range(bins)}
    for row, label in zip(probabilities, labels, strict=True):
        confidence = float(row.max())
        for b in range(bins):
            if b / bins < confidence <= (b + 1) / bins:
                members[b].append((confidence, int(row.argmax()) == int(label)))
    error = 0.0
    for found in members.values():
        if found:
            confidence, accuracy = np.mean(found, axis=0)
            error += len(found) / len(labels) * abs(accuracy - confidence)
    return 100 * error


def test_accuracies_and_likelihood_are_scikit_learns() -> None:
    found = make_predictions()
    measured = measure(found)
    labels, logits = found.labels.numpy(), found.logits.double()
    probabilities = logits.softmax(1).numpy()
    names = list(range(CLASSES))
    top1 = sk.accuracy_score(labels, logits.argmax(1).numpy())
    top5 = sk.top_k_accuracy_score(labels, probabilities, k=5, labels=names)
    assert measured["images"] == IMAGES
    assert measured["accuracy"] == pytest.approx(100 * top1)
    assert measured["top5"] == pytest.approx(100 * top5)
    assert measured["nll"] == pytest.approx(sk.log_loss(labels, probabilities, labels=names))


def test_accuracy_of_a_class_is_its_recall() -> None:
    found = make_predictions()
    expected = sk.recall_score(found.labels, found.logits.argmax(1), average=None)
    assert measure(found)["class_accuracy"] == pytest.approx(list(100 * expected))


def test_top5_of_few_classes_is_all() -> None:
    assert measure(make_predictions(classes=3))["top5"] == 100


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (7, 1.0), (7, 10.0), (40, 0.3)])
def test_calibration_error_is_the_slow_loops(classes: int, sharpness: float) -> None:
    found = make_predictions(classes=classes)
    logits = sharpness * found.logits
    expected = slow_calibration_error(logits, found.labels)
    measured = measure(replace(found, logits=logits))
    assert measured["calibration_error"] == pytest.approx(expected)


def test_first_bin_ends_at_a_fifteenth() -> None:
    # Right at 0.05 and wrong at 0.1: in one bin the two would partly cancel.
    confidences = torch.tensor([[0.05], [0.1]], dtype=torch.float64)
    logits = torch.cat([confidences, ((1 - confidences) / 39).expand(-1, 39)], 1).log()
    error = calibration_error(of_logits(logits, torch.tensor([0, 1])))
    assert error == pytest.approx(100 * (0.95 + 0.1) / 2)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    logits = 1000 * torch.eye(4, dtype=torch.float64)
    right, wrong = torch.arange(4), (torch.arange(4) + 1) % 4
    assert calibration_error(of_logits(logits, right)) == pytest.approx(0)
    assert calibration_error(of_logits(logits, wrong)) == pytest.approx(100)


def test_calibration_bins_are_means_of_the_images_in_them() -> None:
    found = make_predictions(images=200)
    confidence, predicted = found.logits.double().softmax(1).max(1)
    for index, (count, sure, right) in enumerate(measure(found)["calibration_bins"]):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        assert count == int(inside.sum())
        if count:
            assert sure == pytest.approx(100 * float(confidence[inside].mean()))
            hits = (predicted == found.labels)[inside].double().mean()
            assert right == pytest.approx(100 * float(hits))
        else:
            assert sure is right is None


def test_attention_mass_is_a_mean_over_images_and_channels() -> None:
    attention = torch.tensor([[0.9, 0.5], [0.2, 0.4], [0.1, 0.3], [0.5, 0.5]])
    labels = torch.tensor([0, 0, 2, 2])
    found = Predictions(torch.arange(4), labels, torch.zeros(4, 4), attention, attention)
    assert measure(found)["class_attention_mass"] == pytest.approx([0.5, None, 0.35, None])


def test_dead_units_are_zero_for_every_image() -> None:
    features = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    found = Predictions(torch.arange(2), torch.arange(2), torch.zeros(2, 2), features, None)
    assert measure(found)["dead_units"] == 1


def slow_means(vectors: Tensor, labels: Tensor, but: int = -1) -> dict[int, Tensor]:
    """Class means, without one of the images."""
    kept = [i for i in range(len(labels)) if i != but]
    return {
        label: torch.stack([vectors[i].double() for i in kept if labels[i] == label]).mean(0)
        for label in {int(labels[i]) for i in kept}
    }


@pytest.mark.parametrize("seed", range(4))
def test_merged_pairs_and_nearest_means_are_those_of_slow_loops(seed: int) -> None:
    found = make_predictions(seed, images=25, classes=9)
    vectors, labels = found.features, found.labels
    means = slow_means(vectors, labels)
    distances = [
        float((one - other).square().sum())
        for one, other in itertools.combinations(means.values(), 2)
    ]
    merged = [distance <= np.mean(distances) / 10 for distance in distances]
    assert merged_pairs(vectors, labels) == pytest.approx(100 * np.mean(merged))

    hits = []
    for image, label in enumerate(labels.tolist()):
        others = slow_means(vectors, labels, but=image)
        if label in others:
            nearest = min(others, key=lambda k: float((others[k] - vectors[image]).norm()))
            hits.append(nearest == label)
    assert nearest_mean_accuracy(vectors, labels) == pytest.approx(100 * np.mean(hits))


def test_classes_in_two_far_groups_are_merged_within_them() -> None:
    """The ratio of mean distances is 0 although half of the class pairs coincide."""
    vectors = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).repeat(2, 1)
    labels = torch.arange(4).repeat(2)
    assert merged_pairs(vectors, labels) == pytest.approx(50)
    assert distance_ratio(vectors, labels) == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_identical_vectors_are_merged(classes: int) -> None:
    vectors, labels = torch.ones(6, 2), torch.arange(6) % classes
    assert merged_pairs(vectors, labels) == (100 if classes > 1 else None)


def test_means_of_single_images_decide_nothing() -> None:
    assert nearest_mean_accuracy(torch.rand(3, 2), torch.arange(3)) is None
    assert merged_pairs(None, torch.arange(3)) is nearest_mean_accuracy(None, torch.arange(3))


def test_distance_ratios_are_means_over_all_pairs() -> None:
    found = make_predictions()
    measured = measure(found)
    assert found.attention is not None
    assert measured["feature_ratio"] == pytest.approx(slow_ratio(found.features, found.labels))
    assert measured["attention_ratio"] == pytest.approx(slow_ratio(found.attention, found.labels))


def test_undefined_metrics_are_none() -> None:
    found = replace(make_predictions(), attention=None)
    assert measure(found)["attention_ratio"] is None
    assert measure(found)["class_attention_mass"] is None
    one_class = replace(found, labels=torch.full((IMAGES,), 2))
    measured = measure(one_class)
    assert measured["feature_ratio"] is None
    assert [accuracy is None for accuracy in measured["class_accuracy"]] == [
        label != 2 for label in range(CLASSES)
    ]


def test_identical_vectors_have_no_ratio() -> None:
    assert distance_ratio(torch.ones(4, 3), torch.arange(4) % 2) is None


@settings(max_examples=60)
@given(
    images=st.integers(1, 5),
    classes=st.integers(1, 7),
    value=st.sampled_from([None, math.nan, math.inf, -math.inf]),
    attention=st.booleans(),
)
def test_metrics_are_json_for_any_number_of_images_and_any_values(
    images: int, classes: int, value: float | None, attention: bool
) -> None:
    found = make_predictions(images, images, classes)
    if value is not None:
        for column in (found.logits, found.features, found.attention):
            assert column is not None
            column[-1] = value
    measured = measure(found if attention else replace(found, attention=None))
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    if value is not None:
        assert measured["nll"] is measured["calibration_bins"] is measured["feature_ratio"] is None


def test_a_metric_is_added_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "error", lambda found: 100 - measure_accuracy(found))
    measured = measure(make_predictions())
    assert measured["error"] == 100 - measured["accuracy"]


def measure_accuracy(found: Predictions) -> float:
    return float(METRICS["accuracy"](found))


@pytest.mark.parametrize("attention", [True, False])
def test_joined_parts_are_the_whole_in_order(attention: bool) -> None:
    whole = make_predictions()
    whole = whole if attention else replace(whole, attention=None)
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(1))
    columns = [getattr(whole, field.name) for field in fields(Predictions)]
    parts = [
        Predictions(*(None if column is None else column[rows] for column in columns))
        for rows in order.split(13)
    ]
    joined = join(parts)
    for field, column in zip(fields(Predictions), columns, strict=True):
        ours = getattr(joined, field.name)
        assert (ours is None and column is None) or torch.equal(ours, column)
