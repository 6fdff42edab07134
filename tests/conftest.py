"""One thread for torch: tests share the machine, and sums are taken in one order."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    # Processes that tests start find the modules of the tests as the tests themselves do.
    folders = [str(Path(config.rootpath, name)) for name in config.getini("pythonpath")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])
    os.environ["CCLOSS_CACHE"] = tempfile.mkdtemp(prefix="ccloss-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["CCLOSS_CACHE"], ignore_errors=True)
