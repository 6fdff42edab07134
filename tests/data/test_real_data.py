"""The real MNIST and CIFAR-100, if CCLOSS_DATA names their folder."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ccloss.data.images import MemoryImages, statistics
from ccloss.data.sources import Dataset, load

pytestmark = pytest.mark.data


def pixels(dataset: Dataset, split: str) -> np.ndarray:
    """(N, C, H, W) uint8."""
    images = getattr(dataset, split)
    assert isinstance(images, MemoryImages)
    return images.pixels.numpy()


def test_mnist_from_parquet_and_idx(real_data: Path, tmp_path: Path) -> None:
    found = load("mnist", data_root=real_data, image_size=28)
    home = tmp_path / "MNIST" / "raw"
    home.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = pixels(found, split)[:, 0]
        labels = getattr(found, split).labels.numpy().astype(np.uint8)
        for name, array in (("images", images), ("labels", labels)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            file = home / f"{prefix}-{name}-idx{array.ndim}-ubyte"
            file.write_bytes(head + array.tobytes())
    other = load("mnist", data_root=tmp_path, image_size=28)
    assert other.digests() == found.digests()
    assert (len(found.train), len(found.test)) == (60_000, 10_000)
    mean, std = statistics(found.train)
    assert mean[0] == pytest.approx(0.1307, abs=5e-5)  # the values commonly quoted
    assert std[0] == pytest.approx(0.3081, abs=5e-5)


def test_cifar100_from_parquet_and_pickle(real_data: Path, tmp_path: Path) -> None:
    found = load("cifar100", data_root=real_data, image_size=32)
    home = tmp_path / "cifar-100-python"
    home.mkdir()
    for split in ("train", "test"):
        labels = getattr(found, split).labels.tolist()
        content = {b"data": pixels(found, split).reshape(len(labels), -1), b"fine_labels": labels}
        (home / split).write_bytes(pickle.dumps(content, protocol=2))
    (home / "meta").write_bytes(pickle.dumps({b"fine_label_names": list(found.classes)}))
    other = load("cifar100", data_root=tmp_path, image_size=32)
    assert other.digests() == found.digests()
    assert found.train.labels.bincount().tolist() == [500] * 100
    assert found.test.labels.bincount().tolist() == [100] * 100
    mean, _ = statistics(found.train)
    assert mean == pytest.approx((0.507, 0.487, 0.441), abs=5e-4)
