"""Pictures of test images: what their bytes say, read back."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

from ccloss.bench.report import pictures
from ccloss.training.records import ImageSample


def make_sample(images=40, classes=4, width=16, attention=True, shape=(6, 5, 1), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.sort(np.arange(images) % classes)
    return ImageSample(
        features=rng.normal(size=(images, width)).astype(np.float32),
        attention=rng.uniform(size=(images, width)).astype(np.float32) if attention else None,
        labels=labels,
        predictions=(labels + (np.arange(images) == 3)) % classes,
        index=1000 + np.arange(images),
        thumbnails=rng.integers(256, size=(images, *shape), dtype=np.uint8),
    )


def read(heat_map):
    flat = np.frombuffer(base64.b64decode(heat_map["data"]), np.uint8)
    values = flat.reshape(heat_map["rows"], -1).astype(float)
    values[values == 255] = np.nan
    return heat_map["low"] + values / 254 * (heat_map["high"] - heat_map["low"])


def tile(sheets, where):
    """The thumbnail as the page cuts it out of its sheet."""
    sheet = sheets[where[0]]
    content = base64.b64decode(sheet["uri"].removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    row, column = divmod(where[1], sheet["columns"])
    height, width = sheet["height"], sheet["width"]
    assert pixels.shape[:2] == (sheet["rows"] * height, sheet["columns"] * width)
    return pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]


def test_features_of_width_two_are_their_own_points():
    sample = make_sample(images=8, width=2)
    panel = pictures.features(sample, pictures.Sheets(), tsne=True)
    assert panel["raw"]
    assert np.stack([panel["x"], panel["y"]], 1) == pytest.approx(sample.features, rel=1e-3)
    assert panel["label"] == sample.labels.tolist()
    assert panel["prediction"] == sample.predictions.tolist()
    assert panel["index"] == sample.index.tolist()


def test_principal_components_where_there_are_too_many_panels():
    sample = make_sample(images=30)
    panel = pictures.features(sample, pictures.Sheets(), tsne=False)
    assert "principal components" in panel["projection"]
    centred = sample.features - sample.features.mean(0)
    variance = np.linalg.eigvalsh(centred.T @ centred)[::-1][:2]
    points = np.stack([panel["x"], panel["y"]], 1)
    assert (points**2).sum(0) == pytest.approx(variance, rel=1e-2)


@pytest.mark.parametrize("classes", [1, 10, 196, 500])
def test_points_are_few_and_of_every_class_while_that_is_possible(classes):
    sample = make_sample(images=1000, classes=classes, width=2)
    panel = pictures.features(sample, pictures.Sheets(), tsne=False)
    assert len(panel["x"]) <= pictures.IMAGES
    assert len(set(panel["label"])) == (classes if classes <= pictures.IMAGES else 250)


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 30, 3)])
def test_every_point_has_its_own_thumbnail(shape):
    sample = make_sample(shape=shape, width=2)
    sheets = pictures.Sheets()
    panel = pictures.features(sample, sheets, tsne=False)
    found = sheets.to_json()
    for position in (0, 1, 33, 39):
        original = sample.thumbnails[position].squeeze()
        np.testing.assert_array_equal(tile(found, panel["thumbnail"][position]), original)


def test_a_thumbnail_is_kept_once_and_each_shape_has_its_sheet():
    sheets = pictures.Sheets()
    first = pictures.features(make_sample(width=2), sheets, tsne=False)
    again = pictures.features(make_sample(width=2), sheets, tsne=False)
    other = pictures.features(make_sample(width=2, shape=(5, 6, 1)), sheets, tsne=False)
    assert first["thumbnail"] == again["thumbnail"]
    assert len(sheets.positions) == 80
    assert {where[0] for where in other["thumbnail"]} == {1}
    assert len(sheets.to_json()) == 2


def test_a_full_page_takes_no_more_thumbnails(monkeypatch):
    monkeypatch.setattr(pictures, "THUMBNAILS", 3)
    sheets = pictures.Sheets()
    panel = pictures.features(make_sample(width=2), sheets, tsne=False)
    assert panel["thumbnail"][:5] == [(0, 0), (0, 1), (0, 2), None, None]


def test_channel_map_holds_class_means_in_order_of_their_highest_class():
    sample = make_sample()
    found = pictures.channel_map(sample, classes=5)
    means = read(found)
    assert means.shape == (5, 16)
    assert np.isnan(means[4]).all()  # a class without images
    highest = np.argmax(means[:4], axis=0)
    assert (np.diff(highest) >= 0).all()
    expected = np.stack([sample.attention[sample.labels == k].mean(0) for k in range(4)])
    step = (found["high"] - found["low"]) / 254
    np.testing.assert_allclose(np.sort(means[:4], 1), np.sort(expected, 1), atol=step)


def test_large_maps_are_thinned_and_averaged():
    sample = make_sample(images=1000, classes=500, width=1000)
    found = pictures.channel_map(sample, classes=500)
    assert read(found).shape == (167, pictures.COLUMNS)
    assert found["channels"] == 1000
    assert found["classes"][:3] == [0, 3, 6]


def test_distances_are_relative_to_their_mean_between_classes():
    sample = make_sample()
    found = pictures.distance_map(sample)
    distances = cdist(sample.attention, sample.attention, "sqeuclidean")
    between = distances[sample.labels[:, None] != sample.labels].mean()
    expected = np.clip(distances / between, 0, 2)
    np.testing.assert_allclose(read(found), expected, atol=1.01 / 254)
    assert found["label"] == sample.labels.tolist()


def test_each_of_many_classes_has_a_block():
    found = pictures.distance_map(make_sample(images=1000, classes=196))
    _, counts = np.unique(found["label"], return_counts=True)
    assert len(counts) == 49
    assert (counts == 3).all()


def test_what_cannot_be_shown_is_none():
    assert pictures.channel_map(make_sample(attention=False), 4) is None
    assert pictures.distance_map(make_sample(attention=False)) is None
    assert pictures.distance_map(make_sample(classes=1)) is None
    assert pictures.channel_map(make_sample(classes=1), 4) is not None


def test_all_of_it_is_json():
    sample, sheets = make_sample(), pictures.Sheets()
    parts = [
        pictures.features(sample, sheets, tsne=False),
        pictures.channel_map(sample, 4),
        pictures.distance_map(sample),
        sheets.to_json(),
    ]
    json.dumps(parts, allow_nan=False)
