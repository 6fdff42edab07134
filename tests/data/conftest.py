"""Small generated data sets."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_data import picture, png, write_annotations

Rows = Sequence[tuple[bytes, int]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "data: needs the real data sets in CCLOSS_DATA")


@pytest.fixture
def real_data() -> Path:
    if "CCLOSS_DATA" not in os.environ:
        pytest.skip("CCLOSS_DATA is not set: no folder with the real data sets")
    return Path(os.environ["CCLOSS_DATA"])


@pytest.fixture
def write_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path, Rows, str, str, list[str] | None], None]:
    """Writes parquet as the Hub does, with the schema of `datasets` in its metadata."""
    import datasets
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets_cache")

    def write(file: Path, rows: Rows, image: str, label: str, names: list[str] | None) -> None:
        images = pa.array(
            [{"bytes": encoded, "path": None} for encoded, _ in rows],
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        )
        table = pa.table({image: images, label: pa.array([k for _, k in rows], pa.int64())})
        if names is not None:
            features = {
                image: {"_type": "Image"},
                label: {"names": names, "_type": "ClassLabel"},
            }
            info = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": info})
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, file)

    return write


@pytest.fixture
def mnist_root(tmp_path: Path, write_parquet: Callable[..., None]) -> Path:
    """Two training shards of 20 + 10 images and 10 test images, labels 0..9 in turn."""
    root = tmp_path / "root"
    names = [str(k) for k in range(10)]
    train = [(png(i), i % 10) for i in range(30)]
    test = [(png(100 + i), i % 10) for i in range(10)]
    for file, rows in (
        ("train-00000-of-00002.parquet", train[:20]),
        ("train-00001-of-00002.parquet", train[20:]),
        ("test-00000-of-00001.parquet", test),
    ):
        write_parquet(root / "mnist" / file, rows, "image", "label", names)
    return root


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[..., Path]:
    """Writes {"train": {"cat": 3}} as train/cat/0.png, 1.png, 2.png."""

    def write(
        counts: dict[str, dict[str, int]],
        size: tuple[int, int] = (12, 12),
        mode: str = "RGB",
        name: str = "pictures",
    ) -> Path:
        root = tmp_path / name
        seed = 0
        for split, classes in counts.items():
            for label, count in classes.items():
                folder = root / split / label
                folder.mkdir(parents=True)
                for number in range(count):
                    picture(seed, size, mode).save(folder / f"{number}.png")
                    seed += 1
        return root

    return write


@pytest.fixture
def cars_root(tmp_path: Path) -> Path:
    """The devkit with 4 training and 3 test images and all 196 class names."""
    from scipy.io import savemat

    root = tmp_path / "root" / "cars196"
    (root / "devkit").mkdir(parents=True)
    names = np.array([f"Car {k}" for k in range(1, 197)], dtype=object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    write_annotations(root, "train", "devkit/cars_train_annos.mat", [1, 196, 14, 14], "cars_train")
    write_annotations(root, "test", "cars_test_annos_withlabels.mat", [196, 1, 2], "cars_test")
    return root.parent
