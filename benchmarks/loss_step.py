"""Step time of every loss relative to cross-entropy, on one network.

    python benchmarks/loss_step.py --out benchmarks/results/loss_step.json

ResNet18, batch 32, 32x32, 100 classes, fp32: forward, loss with its terms, backward, optimiser.
In each repetition every loss takes one step, in an order drawn anew, so that what else the
machine does falls on all alike; the ratio to cross-entropy is taken within a repetition. The
network of a loss is the one it is trained with: with attention for cc, with unit rows for angular
losses. ``ce+cam`` is cross-entropy on the network with attention: cc's ratio to it is what the
term itself costs, and is given beside the others.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ccloss.losses import LOSSES, make_loss
from ccloss.models import build_model
from ccloss.training.config import ATTENTION_SUFFIX as ATTENTION
from ccloss.training.provenance import provenance

BATCH, CLASSES, SIZE, WIDTH = 32, 100, 32, 512
SAME_HEAD = "ce" + ATTENTION
ROWS = ("ce", SAME_HEAD, *(name for name in LOSSES if name != "ce"))


def stepper(row: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """A function that takes one training step with a loss and returns its seconds."""
    torch.manual_seed(0)
    name = row.removesuffix(ATTENTION)
    model = build_model(
        "resnet18",
        CLASSES,
        attention=row.endswith(ATTENTION) or "attention" in LOSSES[name].needs,
        unit_classifier=LOSSES[name].unit_classifier,
    )
    model.train().to(memory_format=torch.channels_last).to(images.device)
    loss = make_loss(name, num_classes=CLASSES, features=WIDTH).to(images.device)
    optimizer = torch.optim.SGD(
        [*model.parameters(), *loss.parameters()], lr=1e-3, momentum=0.9, fused=True
    )

    def step() -> float:
        started = time.perf_counter()
        terms = loss.terms(model(images), labels)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return step


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median of the ratios within repetitions."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def main() -> None:
    """Measures, prints a table, writes the raw times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=25)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    images = images.to(arguments.device, memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator).to(arguments.device)
    steppers = {name: stepper(name, images, labels) for name in ROWS}
    order = list(steppers)
    for name in order:  # the first step of a network sets up what the others use
        steppers[name]()
    seconds: dict[str, list[float]] = {name: [] for name in order}
    shuffler = random.Random(0)
    for _ in range(arguments.repetitions):
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(steppers[name]())
    ratios = {name: ratio(seconds, name, "ce") for name in ROWS}
    for name, to_ce in ratios.items():
        print(f"{name:10} {to_ce:.3f}  {1000 * statistics.median(seconds[name]):.1f} ms")
    to_same_head = ratio(seconds, "cc", SAME_HEAD)
    print(f"cc is {to_same_head:.3f} of {SAME_HEAD}")
    content = {
        "threads": torch.get_num_threads(),
        "provenance": provenance(arguments.device),
        "median_ratio_to_ce": ratios,
        "median_ratio_of_cc_to_ce+cam": to_same_head,
        "seconds": seconds,
    }
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
