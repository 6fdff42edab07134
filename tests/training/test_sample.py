"""Test images that are stored for the figures."""

from pathlib import Path

import pytest
import torch

from ccloss.training.evaluation import load_model
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.sample import thumbnail
from small_runs import small_config, small_data

DATA = small_data()


def test_sample_is_class_balanced_test_images(finished_run: RunFolder) -> None:
    sample = finished_run.read_sample(finished_run.test_sample)
    assert sample.attention is not None
    assert sample.features.shape == sample.attention.shape == (50, 16)
    labels = DATA.test.labels[torch.from_numpy(sample.index)]
    assert labels.tolist() == sample.labels.tolist()
    assert torch.bincount(labels).tolist() == [5] * 10
    images = DATA.test.pixels[torch.from_numpy(sample.index)]
    assert torch.equal(torch.from_numpy(sample.thumbnails), images.permute(0, 2, 3, 1))


def test_training_images_are_stored_for_features_of_width_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccloss.training.evaluation.SAMPLE_IMAGES", 50)
    folder = RunFolder(tmp_path / "run")
    train(small_config(hidden_features=2, flip=0.5), folder, DATA, workers=0)
    sample = folder.read_sample(folder.train_sample)
    index = torch.from_numpy(sample.index)
    assert index.tolist() != list(range(50))
    assert torch.bincount(DATA.train.labels[index]).tolist() == [5] * 10
    assert DATA.train.labels[index].tolist() == sample.labels.tolist()
    images = DATA.train.pixels[index]
    assert torch.equal(torch.from_numpy(sample.thumbnails), images.permute(0, 2, 3, 1))
    with torch.inference_mode():
        output = load_model(folder)(images)
    assert output.features is not None
    torch.testing.assert_close(torch.from_numpy(sample.features), output.features)
    assert output.logits.argmax(1).tolist() == sample.predictions.tolist()


def test_training_images_of_wider_features_are_not_stored(finished_run: RunFolder) -> None:
    assert not finished_run.train_sample.exists()


def test_thumbnail_of_a_large_image_is_its_centre_reduced() -> None:
    ramp = torch.arange(96, dtype=torch.uint8).expand(3, 64, 96)
    small = thumbnail(ramp)
    assert small.shape == (32, 32, 3)
    # The middle square's columns are 16 to 79: a pixel of the thumbnail is the mean of two.
    expected = torch.arange(32) * 2 + 16.5
    assert (small[16, 1:-1, 0] - expected[1:-1]).abs().max() <= 1
