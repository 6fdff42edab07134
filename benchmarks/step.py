"""Time of a training step with each loss: ``python -m benchmarks.step``.

ResNet18, batch 32, 32x32 px, 100 classes, fp32, CPU: forward, loss with its terms, backward, SGD.
``ce+cam`` is cross-entropy on the network with attention; the ratio of ``cc`` to it is the cost of
the term.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.measurement import interleave, median_ratio, write
from ccloss.losses import LOSSES, make_loss
from ccloss.models import build_model

BATCH, CLASSES, SIZE, WIDTH = 32, 100, 32, 512
SAME_HEAD = "ce+cam"
ROWS = ("ce", SAME_HEAD, *(name for name in LOSSES if name != "ce"))


def stepper(row: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], float]:
    """A function that takes one step and returns its seconds."""
    torch.manual_seed(0)
    kind = LOSSES[row.removesuffix("+cam")]
    model = build_model(
        "resnet18",
        CLASSES,
        attention=row == SAME_HEAD or "attention" in kind.needs,
        unit_classifier=kind.unit_classifier,
        classifier_bias=kind.classifier_bias,
    )
    model.train().to(memory_format=torch.channels_last)
    loss = make_loss(row.removesuffix("+cam"), num_classes=CLASSES, features=WIDTH)
    parameters = [*model.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)

    def step() -> float:
        started = time.perf_counter()
        terms = loss.terms(model(images), labels)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    steppers = {row: stepper(row, images, labels) for row in ROWS}
    interleave(steppers, 1)  # the first step allocates
    seconds = interleave(steppers, arguments.repetitions)
    for row in ROWS:
        print(f"{row:12} {median_ratio(seconds[row], seconds['ce']):.3f} of ce")
    print(f"cc is {median_ratio(seconds['cc'], seconds[SAME_HEAD]):.3f} of {SAME_HEAD}")
    write("step", seconds=seconds)


if __name__ == "__main__":
    main()
