"""How long one waits before anything happens: imports, help, mistakes, a run's first step.

    python -m benchmarks.start_up --out benchmarks/results/start_up.json

Every measurement is a new process of this Python, timed from outside from its start to its exit:

* imports: ``import torch`` alone and with ``ccloss`` (with its losses and networks looked up, too,
  for ``import ccloss`` loads them when they are first used), and with what users would import
  instead. What a second import adds is also timed within the process, from the end of
  ``import torch`` on, where the noise of torch's own start is not in it;
* the command: its help, and mistakes of several kinds, whose exit codes are looked at;
* ``ccloss train --data digits``, with torch imported before: from the end of ``import torch``
  (``after_torch``: the rest of ccloss, the data, the network and the run's folder) to the end of
  the first ``optimizer.step()``, which a hook of torch's tells and the process then ends.

A repetition does each once, in an order drawn anew; differences are taken within it. One round
beforehand, not kept, leaves all files in the system's cache.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ccloss.training.provenance import provenance

PYTHON, TORCH = "python -c pass", "import torch"
RIVALS = {
    "timm": "timm",
    "pytorch_metric_learning.losses": "pytorch-metric-learning",
    "lightning": "lightning",
}
"""Modules, and the packages that have them."""

AFTER_TORCH = """
import time
import torch
started = time.perf_counter()
{rest}
print("after_torch", time.perf_counter() - started)
"""

FIRST_STEP = """
import os, sys, time
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
started = time.perf_counter()

def stepped(*_):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print("after_torch", time.perf_counter() - started, flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stepped)
from ccloss.cli import main
sys.exit(main(["train", "--data", "digits", "--out", "run"]) or 1)  # a run without a step failed
"""


class Case(NamedTuple):
    """What a process does: arguments of Python, the exit code that is right, what it needs."""

    arguments: Sequence[str]
    code: int = 0
    needs: str | None = None


def script(rest: str, needs: str | None = None) -> Case:
    """Python code after ``import torch``."""
    return Case(["-c", AFTER_TORCH.format(rest=rest)], needs=needs)


def command(line: str, code: int = 0) -> Case:
    """The command, by way of ``python -m ccloss``."""
    return Case(["-m", "ccloss", *line.split()], code)


CASES: dict[str, Case] = {
    PYTHON: Case(["-c", "pass"]),
    "import ccloss": Case(["-c", "import ccloss"]),
    TORCH: script(""),
    "import torch, ccloss": script("import ccloss"),
    "import torch, ccloss; ccloss.CCLoss, ccloss.build_model": script(
        "import ccloss; ccloss.CCLoss, ccloss.build_model"
    ),
    **{
        f"import torch, {name}": script(f"import {name}", needs=name.split(".")[0])
        for name in RIVALS
    },
    "ccloss --help": command("--help"),
    "ccloss train --help": command("train --help"),
    "ccloss train --epochs x": command("train --epochs x", 2),
    "ccloss train --epoch 3": command("train --epoch 3", 2),
    "ccloss train --loss cx": command("train --loss cx", 2),
    "ccloss train --loss.gama 2": command("train --loss.gama 2", 2),
    "ccloss train --loss.weight -1": command("train --loss.weight -1", 2),
    "ccloss train --data digit": command("train --data digit", 2),
    "ccloss train --backbone vgg": command("train --backbone vgg", 2),
    "ccloss train --loss pml:Contrastive": command("train --loss pml:Contrastive", 2),
    "ccloss train --data digits --backbone timm:vit": command(
        "train --data digits --backbone timm:vit", 2
    ),
    "ccloss compare --losses ce,cx": command("compare --losses ce,cx", 2),
    "ccloss reproduce table9": command("reproduce table9", 2),
    "first step of ccloss train --data digits": Case(["-c", FIRST_STEP]),
}


class Times(NamedTuple):
    """Seconds of a process, and those from the end of ``import torch`` on, where it tells them."""

    whole: float
    after_torch: float | None


def measure(name: str) -> Times:
    """Starts a process in an empty folder and waits for its end."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *case.arguments],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        whole = time.perf_counter() - started
    if done.returncode != case.code:
        raise RuntimeError(f"{name}: exit code {done.returncode}, not {case.code}\n{done.stderr}")
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("after_torch ")]
    return Times(whole, float(told[0]) if told else None)


def results(times: Mapping[str, Sequence[Times]]) -> dict[str, Any]:
    """Raw times, medians, and what a case takes over ``import torch``, repetition by repetition."""
    found: dict[str, Any] = {}
    for name, own in times.items():
        over = [a.whole - b.whole for a, b in zip(own, times[TORCH], strict=True)]
        after = [one.after_torch for one in own if one.after_torch is not None]
        found[name] = {
            "python": list(CASES[name].arguments),
            "seconds": [one.whole for one in own],
            "median_seconds": statistics.median(one.whole for one in own),
            "after_torch_seconds": after,
            "median_after_torch_seconds": statistics.median(after) if after else None,
            "seconds_over_import_torch": over,
            "median_seconds_over_import_torch": statistics.median(over),
        }
    return found


def line(name: str, found: Mapping[str, Any]) -> str:
    """What is printed of a case."""
    text = f"{name:56} {1000 * found['median_seconds']:7.0f} ms"
    after = found["median_after_torch_seconds"]
    if after is None or name == TORCH:
        return text
    over = found["median_seconds_over_import_torch"]
    return f"{text}   after torch {1000 * after:7.1f} ms, by difference {1000 * over:6.0f} ms"


def absent() -> list[str]:
    """What others would import and is not installed here."""
    needed = {case.needs for case in CASES.values() if case.needs}
    return sorted(name for name in needed if not find_spec(name))


def heading() -> dict[str, Any]:
    """What was measured where, with what."""
    cuda = torch.cuda.is_available()
    installed = [package for name, package in RIVALS.items() if name.split(".")[0] not in absent()]
    return {
        "threads": torch.get_num_threads(),
        "provenance": provenance(torch.cuda.get_device_name() if cuda else "cpu"),
        "versions": {package: metadata.version(package) for package in installed},
        "left_out": absent(),
    }


def main() -> None:
    """Measures, prints a line a case, keeps the raw times after every repetition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", default=[""], help="cases with one of these in them"
    )
    arguments = parser.parse_args()
    asked = [name for name in CASES if any(text in name for text in arguments.only)]
    order = [name for name in dict.fromkeys([TORCH, *asked]) if CASES[name].needs not in absent()]
    for name in absent():
        print(f"{name} left out: it is not installed")
    for name in order:
        measure(name)
    times: dict[str, list[Times]] = {name: [] for name in CASES if name in order}
    shuffler = random.Random(0)
    for repetition in range(arguments.repetitions):
        shuffler.shuffle(order)
        for name in order:
            times[name].append(measure(name))
        content = {**heading(), "cases": results(times)}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
        print(f"repetition {repetition + 1} of {arguments.repetitions} done", flush=True)
    for name, found in content["cases"].items():
        print(line(name, found))


if __name__ == "__main__":
    main()
