"""The real MNIST and CIFAR-100, where CCLOSS_DATA says they are."""

from pathlib import Path

import pytest
import torch

from ccloss.data.catalog import SOURCES
from ccloss.data.images import MemoryImages, statistics
from ccloss.data.layouts import read_local
from ccloss.data.sources import load

pytestmark = pytest.mark.data


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_whole_label_sets(real_data: Path, name: str) -> None:
    source = SOURCES[name]
    found = read_local(source, real_data)
    assert found.test is not None
    assert len(found.classes) == source.classes
    assert (len(found.train.labels), len(found.test.labels)) == (source.train, source.test)
    if name == "cifar100":
        assert found.train.labels.bincount().tolist() == [500] * 100
        assert found.test.labels.bincount().tolist() == [100] * 100
        assert found.classes[:2] == ("apple", "aquarium_fish")


def test_mnist_images(real_data: Path) -> None:
    found = load("mnist", data_root=real_data, image_size=24, train_limit=2_000, test_limit=100)
    assert isinstance(found.train, MemoryImages)
    assert found.train.pixels.shape == (2_000, 1, 24, 24)
    assert found.train.labels.bincount().tolist() == [200] * 10
    mean, std = statistics(found.train)
    assert mean[0] == pytest.approx(0.1305, abs=0.01)
    assert std[0] == pytest.approx(0.283, abs=0.01)


def test_cifar_images(real_data: Path) -> None:
    found = load("cifar100", data_root=real_data, image_size=32, train_limit=2_000, test_limit=100)
    assert found.train.labels.bincount().tolist() == [20] * 100
    assert torch.equal(found.test.labels.unique(), torch.arange(100))
    mean, _ = statistics(found.train)
    assert mean == pytest.approx((0.507, 0.487, 0.441), abs=0.02)  # the values commonly quoted
