"""Time until the library or the command answers: ``python -m benchmarks.start_up``.

Each case is a new process. ``after_torch_seconds`` is the time from the end of ``import torch``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.measurement import interleave, write

AFTER_TORCH = """
import time, torch
started = time.perf_counter()
{code}
print("after_torch", time.perf_counter() - started)
"""
FIRST_STEP = """
import os, sys, time, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
started = time.perf_counter()

def stop(*_):
    print("after_torch", time.perf_counter() - started, flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
from ccloss.cli import main
sys.exit(main(["train", "--data", "digits", "--out", "run"]) or 1)
"""

CASES: dict[str, tuple[list[str], int]] = {
    # name: arguments of Python, expected exit code
    "import torch": (["-c", AFTER_TORCH.format(code="")], 0),
    "import torch, ccloss": (["-c", AFTER_TORCH.format(code="import ccloss; ccloss.CCLoss")], 0),
    "ccloss --help": (["-m", "ccloss", "--help"], 0),
    "ccloss train --help": (["-m", "ccloss", "train", "--help"], 0),
    "ccloss train --epochs x": (["-m", "ccloss", "train", "--epochs", "x"], 2),
    "ccloss train --loss cx": (["-m", "ccloss", "train", "--loss", "cx"], 2),
    "first step of ccloss train --data digits": (["-c", FIRST_STEP], 0),
}


def process(name: str, after_torch: dict[str, list[float]]) -> Callable[[], float]:
    """A function that runs a case in an empty folder and returns its seconds."""
    arguments, code = CASES[name]

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - started
        if done.returncode != code:
            raise RuntimeError(f"{name}: exit code {done.returncode}\n{done.stderr}")
        after_torch.setdefault(name, []).extend(
            float(line.split()[1])
            for line in done.stdout.splitlines()
            if line.startswith("after_torch ")
        )
        return seconds

    return run


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    interleave({name: process(name, {}) for name in CASES}, 1)  # fills the file cache
    after_torch: dict[str, list[float]] = {}
    runs = {name: process(name, after_torch) for name in CASES}
    seconds = interleave(runs, arguments.repetitions)
    cases = {
        name: {"seconds": seconds[name], "after_torch_seconds": after_torch.get(name, [])}
        for name in CASES
    }
    write("start_up", cases=cases)


if __name__ == "__main__":
    main()
