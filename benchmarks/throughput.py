"""Images per second of training: ``python -m benchmarks.throughput``.

The same network, cross-entropy, batch 32 and SGD in

* ``ccloss``: the training loop of this package, second of two epochs;
* ``lightning``: a Lightning Trainer;
* ``loop``: a plain loop over a DataLoader.

Lightning and the loop read images as torchvision's data sets do: a PIL image per sample, random
crop, flip, ToTensor, Normalize. ``defaults`` is fp32 in the default memory format; ``same`` has the
memory format (channels last) and the fused SGD of ccloss. ccloss runs in fp32.
"""

import argparse
import contextlib
import io
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measurement import Seconds, interleave, median_ratio, write
from ccloss.bench.experiment import Experiment
from ccloss.data.images import MemoryImages
from ccloss.data.sources import Dataset as ImageDataset
from ccloss.models import build_model
from ccloss.training.loop import train
from ccloss.training.records import RunFolder

BATCH, WARM_UP = 32, 2


class Case(NamedTuple):
    """A network and its images."""

    backbone: str
    data: str
    size: int
    channels: int
    classes: int


CASES = {
    "resnet18-32px": Case("resnet18", "cifar100", 32, 3, 100),
    "vgg16-24px": Case("vgg16", "mnist", 24, 1, 10),
}


class PILImages(Dataset[tuple[Tensor, int]]):
    """Random images, transformed one by one."""

    def __init__(self, case: Case, count: int) -> None:
        shape = (count, case.size, case.size, case.channels)[: 4 if case.channels > 1 else 3]
        self.pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.classes = case.classes
        color = case.channels > 1
        augmentation = [transforms.RandomCrop(case.size, 4), transforms.RandomHorizontalFlip()]
        normalize = transforms.Normalize([0.5] * case.channels, [0.25] * case.channels)
        steps = [*(augmentation if color else []), transforms.ToTensor(), normalize]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self.transform(Image.fromarray(self.pixels[index]))
        return image, index % self.classes


def loader(case: Case, steps: int) -> DataLoader[tuple[Tensor, int]]:
    """Enough batches for the steps and those that workers fetch ahead."""
    images = PILImages(case, (WARM_UP + steps + 4) * BATCH)
    return DataLoader(images, BATCH, shuffle=True, num_workers=os.cpu_count() or 1)


def make(case: Case, same: bool) -> tuple[nn.Module, torch.optim.SGD]:
    """The network and its optimiser."""
    torch.manual_seed(0)
    model: nn.Module = build_model(
        case.backbone, case.classes, case.channels, case.size, attention=False
    )
    if same:
        model = model.to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=same or None
    )
    return model.train(), sgd


def ccloss_seconds(case: Case, steps: int) -> float:
    """Seconds of an epoch of the package's loop, without its evaluation."""
    config = Experiment(
        data=case.data,
        loss="ce",
        backbone=case.backbone,
        epochs=2,
        evaluate_every=2,
        clip_grad_norm=0.0,  # the other loops do not clip
    ).resolve()

    def images(count: int) -> MemoryImages:
        pixels = torch.randint(
            0, 256, (count, case.channels, case.size, case.size), dtype=torch.uint8
        )
        return MemoryImages(pixels, torch.arange(count) % case.classes)

    names = tuple(map(str, range(case.classes)))
    data = ImageDataset(
        case.data, images(steps * BATCH), images(case.classes), names, case.channels
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        train(config, run, data)
        return float(run.read_metrics()[-1]["train_seconds"])


def loop_seconds(case: Case, steps: int, same: bool) -> float:
    """Seconds of the timed steps of a plain loop."""
    model, sgd = make(case, same)
    started = 0.0
    for step, (images, labels) in enumerate(loader(case, steps)):
        if step == WARM_UP:
            started = time.perf_counter()
        if step == WARM_UP + steps:
            break
        images = images.to(memory_format=torch.channels_last) if same else images
        loss = F.cross_entropy(model(images).logits, labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        loss.item()
    return time.perf_counter() - started


def lightning_seconds(case: Case, steps: int, same: bool) -> float:
    """Seconds of the timed steps of a Lightning Trainer."""
    import lightning.pytorch as lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    moments: list[float] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.sgd = make(case, same)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            images, labels = batch
            images = images.to(memory_format=torch.channels_last) if same else images
            loss = F.cross_entropy(self.network(images).logits, labels)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.sgd

    class Clock(lightning.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            moments.append(time.perf_counter())

    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, quiet[0], quiet[1]:
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=WARM_UP + steps,
            default_root_dir=folder,
            callbacks=[Clock()],
        )
        trainer.fit(Module(), loader(case, steps))
    return moments[-1] - moments[WARM_UP - 1]


def measure(case: Case, steps: int, repetitions: int) -> Seconds:
    """Seconds of the timed steps of each alternative."""
    alternatives: dict[str, Callable[[], float]] = {
        "ccloss, same fp32": lambda: ccloss_seconds(case, steps),
        "loop, defaults": lambda: loop_seconds(case, steps, same=False),
        "loop, same fp32": lambda: loop_seconds(case, steps, same=True),
    }
    if find_spec("lightning"):
        alternatives["lightning, defaults"] = lambda: lightning_seconds(case, steps, same=False)
        alternatives["lightning, same fp32"] = lambda: lightning_seconds(case, steps, same=True)
    return interleave(alternatives, repetitions)


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    cases = {}
    for name, case in CASES.items():
        seconds = measure(case, arguments.steps, arguments.repetitions)
        cases[name] = {"seconds": seconds}
        for alternative, times in seconds.items():
            ratio = median_ratio(times, seconds["ccloss, same fp32"])
            print(f"{name:16} {alternative:22} {ratio:.2f} times the time of ccloss")
    write("throughput", batch=BATCH, steps=arguments.steps, cases=cases)


if __name__ == "__main__":
    main()
