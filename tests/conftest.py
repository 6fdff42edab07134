"""One thread for torch: tests share the machine, and sums come in one order."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ccloss import passes

# Without a GPU its kernels run in Triton's interpreter, which is asked for before Triton is loaded.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)
    os.environ["CCLOSS_CACHE"] = tempfile.mkdtemp(prefix="ccloss-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["CCLOSS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="module")
def fused() -> Iterator[None]:
    """The loss takes a GPU's kernels for tensors of the CPU too."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("with a GPU there is no interpreter: see test_kernels.py")

    def runs_kernels(tensor: Tensor) -> bool:
        return passes.is_eager_on_cpu(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "runs_kernels", runs_kernels)
        yield
