"""Folders of runs for the tests of training."""

from pathlib import Path

import pytest

from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import small_config, small_data


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder for a new run."""
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was not interrupted."""
    folder = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    train(small_config(), folder, small_data())
    return folder
