"""Step time of the ways to take the same training step, relative to the one that ccloss takes.

    python -m benchmarks.step_variants --out benchmarks/results/step_variants.json

``ours`` is a step in channels last with the fused optimiser, in fp32; on a device made for it
ccloss takes the one in bf16 instead. Each variant differs from it in one thing: contiguous images
(NCHW), SGD over lists of weights (torch's own choice) or weight by weight, bf16 autocast, the
network under ``torch.compile``; the last has both of these. Forward, cross-entropy, backward and
optimiser on random images, batch 32. In each repetition every variant takes one step, in an order
drawn anew; the ratio to ours is taken within a repetition. The first step, which may compile, is
timed apart, with no compiled code left from before; a variant whose second step takes ``SLOW``
times ours is not asked for more.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ccloss.models import build_model
from ccloss.training.provenance import provenance

BATCH = 32
SLOW = 5.0
OURS = "ours"


class Case(NamedTuple):
    """A network and its images."""

    backbone: str
    channels: int
    size: int
    classes: int
    hidden: int


CASES = {
    "resnet18 32 px": Case("resnet18", 3, 32, 100, 512),
    "vgg16 24 px": Case("vgg16", 1, 24, 10, 512),
    "convnet 8 px": Case("convnet", 1, 8, 10, 64),
}


@dataclass(frozen=True)
class Variant:
    """How a step is taken."""

    channels_last: bool = True
    optimizer: str = "fused"  # or "foreach", or "loop"
    bf16: bool = False
    compiled: bool = False


VARIANTS = {
    OURS: Variant(),
    "NCHW": Variant(channels_last=False),
    "SGD over lists": Variant(optimizer="foreach"),
    "SGD weight by weight": Variant(optimizer="loop"),
    "bf16": Variant(bf16=True),
    "torch.compile": Variant(compiled=True),
    "bf16, torch.compile": Variant(bf16=True, compiled=True),
}


def stepper(case: Case, variant: Variant, device: torch.device) -> Callable[[], float]:
    """A function that takes one step and returns its seconds."""
    torch.manual_seed(0)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    model: nn.Module = build_model(
        case.backbone, case.classes, case.channels, case.size, case.hidden, attention=False
    )
    model.train().to(memory_format=layout).to(device)
    images = torch.rand(BATCH, case.channels, case.size, case.size).to(device, memory_format=layout)
    labels = (torch.arange(BATCH) % case.classes).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=1e-3,
        momentum=0.9,
        weight_decay=5e-4,
        fused=variant.optimizer == "fused",
        foreach=variant.optimizer == "foreach",
    )
    forward: Callable[..., Any] = torch.compile(model) if variant.compiled else model

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bf16):
            output = forward(images)
        optimizer.zero_grad()
        nn.functional.cross_entropy(output.logits.float(), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return step


def measure(case: Case, device: torch.device, repetitions: int) -> dict[str, Any]:
    """First steps, and the seconds of the others, of every variant."""
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    steppers: dict[str, Callable[[], float]] = {}
    for name, variant in VARIANTS.items():
        take = stepper(case, variant, device)
        try:
            first[name] = take()
        except Exception as error:  # such as a compiler that is not there
            failed[name] = str(error).strip().splitlines()[0]
            continue
        seconds[name], steppers[name] = [take()], take
    order = [name for name in seconds if seconds[name][0] < SLOW * seconds[OURS][0]]
    shuffler = random.Random(0)
    for _ in range(repetitions - 1):
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(steppers[name]())
    return {
        "first_step_seconds": first,
        "seconds": seconds,
        "median_ratio_to_ours": {
            name: statistics.median(a / b for a, b in zip(taken, seconds[OURS], strict=False))
            for name, taken in seconds.items()
        },
        "failed": failed,
    }


def main() -> None:
    """Measures every case, prints a line a variant, writes the raw times after each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    content: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "provenance": provenance(where),
        "cases": {},
    }
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as place:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = place
            found = measure(CASES[name], device, arguments.repetitions)
        content["cases"][name] = found
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
        for variant, taken in found["seconds"].items():
            print(
                f"{name}  {variant:20} {found['median_ratio_to_ours'][variant]:.3f} of ours  "
                f"{1000 * statistics.median(taken):.1f} ms, "
                f"first step {found['first_step_seconds'][variant]:.1f} s",
                flush=True,
            )
        for variant, reason in found["failed"].items():
            print(f"{name}  {variant:20} not taken: {reason}", flush=True)


if __name__ == "__main__":
    main()
