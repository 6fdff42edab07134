"""Step time of every loss relative to cross-entropy, on one network.

    python benchmarks/loss_step.py --out benchmarks/results/loss_step.json

ResNet18, batch 32, 32x32, 100 classes, fp32: forward, loss with its terms, backward, optimiser.
In each repetition every loss takes one step, in an order drawn anew, so that what else the
machine does falls on all alike; the ratio to cross-entropy is taken within a repetition. The
network of a loss is the one it is trained with: with attention for cc, with unit rows for angular
losses.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ccloss.experiment import LOSSES_ON_ATTENTION
from ccloss.losses import LOSSES, make_loss
from ccloss.models import build_model
from ccloss.records import provenance

BATCH, CLASSES, SIZE, WIDTH = 32, 100, 32, 512


def stepper(name: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """A function that takes one training step with a loss and returns its seconds."""
    torch.manual_seed(0)
    model = build_model(
        "resnet18",
        CLASSES,
        attention=name in LOSSES_ON_ATTENTION,
        unit_classifier=LOSSES[name].unit_classifier,
    )
    model.train().to(memory_format=torch.channels_last)
    loss = make_loss(name, num_classes=CLASSES, features=WIDTH)
    optimizer = torch.optim.SGD(
        [*model.parameters(), *loss.parameters()], lr=1e-3, momentum=0.9, fused=True
    )

    def step() -> float:
        started = time.perf_counter()
        terms = loss.terms(model(images), labels)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    """Measures, prints a table, writes the raw times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    steppers = {name: stepper(name, images, labels) for name in LOSSES}
    order = list(steppers)
    for name in order:  # the first step of a network sets up what the others use
        steppers[name]()
    seconds: dict[str, list[float]] = {name: [] for name in order}
    shuffler = random.Random(0)
    for _ in range(arguments.repetitions):
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(steppers[name]())
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, seconds["ce"], strict=True))
        for name, times in seconds.items()
    }
    for name, ratio in ratios.items():
        print(f"{name:10} {ratio:.3f}  {1000 * statistics.median(seconds[name]):.1f} ms")
    content = {
        "threads": torch.get_num_threads(),
        "provenance": provenance("cpu"),
        "median_ratio_to_ce": ratios,
        "seconds": seconds,
    }
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
