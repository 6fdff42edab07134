"""Processes for tests, forked from a server that has imported what training needs."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
# torch._dynamo is imported by the first optimiser, sklearn.datasets by the digits.
FORKS.set_forkserver_preload(
    ["ccloss.cli", "ccloss.bench.campaign.scheduler", "sklearn.datasets", "torch._dynamo"]
)


def run_forked(
    folder: Path, function: Callable[..., int | None], *arguments: Any
) -> tuple[int | None, str]:
    """Calls a function in a new process.

    Args:
        folder: working directory of the process.
        function: of a module; its result is the exit code.
        arguments: of the function.

    Returns:
        The exit code, and what the process printed to both of its streams.
    """
    output = folder / "printed"
    process = FORKS.Process(target=_call, args=(folder, output, function, arguments))
    process.start()
    process.join()
    return process.exitcode, output.read_text()


def _call(
    folder: Path, output: Path, function: Callable[..., int | None], arguments: tuple[Any, ...]
) -> None:
    os.chdir(folder)
    stream = output.open("w", buffering=1)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    try:
        code = function(*arguments)
    except Exception:
        traceback.print_exc()
        code = 1
    stream.flush()
    os._exit(code or 0)
