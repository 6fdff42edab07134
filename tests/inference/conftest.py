"""A finished run and its test images as files."""

from pathlib import Path

import pytest
from PIL import Image

from ccloss.data.sources import Dataset
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import small_config, small_data


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return small_data()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A run on 8x8 gray images."""
    folder = RunFolder(tmp_path_factory.mktemp("inference") / "run")
    train(small_config(), folder, dataset)
    return folder.path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A folder with the test images of the run as PNG files, named by their position."""
    folder = tmp_path_factory.mktemp("photos")
    for index, pixels in enumerate(dataset.test.pixels):
        Image.fromarray(pixels[0].numpy()).save(folder / f"{index:02}.png")
    return folder
