"""One thread for torch: tests share the machine, and sums come in one order."""

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
