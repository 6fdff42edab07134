"""One thread for torch: tests share the machine, and sums are taken in one order."""

import os
import shutil
import tempfile

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    os.environ["CCLOSS_CACHE"] = tempfile.mkdtemp(prefix="ccloss-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["CCLOSS_CACHE"], ignore_errors=True)
