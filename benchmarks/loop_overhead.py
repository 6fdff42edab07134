"""What the training loop costs over a bare one: same model, images, precision and loss.

    python benchmarks/loop_overhead.py --out benchmarks/results/loop_overhead.json

Each pair times an epoch of ``ccloss.training.loop.train`` (its loader, metering of every term,
looking for NaN) and an epoch of the shortest loop that does the same training, one after the
other; the order changes from pair to pair. Model building, evaluation and files are left out of
both. Pixels are random, for speed does not depend on them. The ratio of each pair and their median
are kept.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ccloss.bench.experiment import Experiment
from ccloss.data.augment import random_crop, random_flip
from ccloss.data.images import MemoryImages
from ccloss.data.sources import Dataset
from ccloss.losses import make_loss
from ccloss.models import build_model
from ccloss.training.config import RunConfig
from ccloss.training.loop import train
from ccloss.training.provenance import provenance
from ccloss.training.records import RunFolder
from ccloss.training.step import cosine_learning_rate


def an_epoch(data: str, backbone: str) -> RunConfig:
    """In fp32, as the bare loop trains."""
    return Experiment(data=data, backbone=backbone, epochs=1, precision="fp32").resolve()


CASES: dict[str, tuple[RunConfig, int, int, int]] = {
    # name -> configuration, channels, classes, steps an epoch
    "mnist vgg16": (an_epoch("mnist", "vgg16"), 1, 10, 40),
    "cifar100 resnet18": (an_epoch("cifar100", "resnet18"), 3, 100, 25),
    "digits convnet": (an_epoch("digits", "convnet"), 1, 10, 400),
}


def random_data(config: RunConfig, channels: int, classes: int, steps: int) -> Dataset:
    """As many training images as an epoch of so many steps takes, and one test image a class."""
    size = config.image_size
    count = steps * config.batch_size
    generator = torch.Generator().manual_seed(0)

    def images(number: int) -> MemoryImages:
        pixels = torch.randint(
            0, 256, (number, channels, size, size), generator=generator, dtype=torch.uint8
        )
        return MemoryImages(pixels, torch.arange(number) % classes)

    names = tuple(str(number) for number in range(classes))
    return Dataset(config.data, images(count), images(classes), names, channels)


def ours(config: RunConfig, data: Dataset) -> float:
    """Seconds of one epoch of the library's loop."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        train(config, folder, data)
        return float(folder.read_metrics()[0]["train_seconds"])


def bare(config: RunConfig, data: Dataset) -> float:
    """Seconds of one epoch of the shortest loop."""
    assert isinstance(data.train, MemoryImages)
    torch.manual_seed(0)
    model = build_model(
        config.backbone,
        len(data.classes),
        data.channels,
        config.image_size,
        config.hidden_features,
        attention=config.attention,
    )
    model.train().to(memory_format=torch.channels_last)
    loss = make_loss(config.loss)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    pixels, labels = data.train.pixels, data.train.labels
    padding, batch = config.padding, config.batch_size
    steps = len(labels) // batch
    started = time.perf_counter()
    for step, rows in enumerate(torch.randperm(len(labels)).split(batch)):
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(step, steps, 0.1, 1e-5)
        images = pixels[rows]
        if padding:
            top, left = torch.randint(0, 2 * padding + 1, (2, batch))
            images = random_crop(images, top, left, padding)
        if config.flip:
            images = random_flip(images, torch.rand(batch) < config.flip)
        images = images.to(memory_format=torch.channels_last).float().div_(255)
        optimizer.zero_grad()
        loss(model(images), labels[rows]).backward()
        optimizer.step()
    return time.perf_counter() - started


def measure(name: str, pairs: int) -> dict[str, Any]:
    """Times of both loops, pair by pair, after one pair to warm up."""
    experiment, channels, classes, steps = CASES[name]
    data = random_data(experiment, channels, classes, steps)
    ours(experiment, data)
    bare(experiment, data)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for pair in range(pairs):
        loops = [("ours", ours), ("bare", bare)]
        for title, loop in loops if pair % 2 else reversed(loops):
            times[title].append(loop(experiment, data))
    ratios = [a / b for a, b in zip(times["ours"], times["bare"], strict=True)]
    return {
        "steps": steps,
        "seconds": times,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "ratio_of_minima": min(times["ours"]) / min(times["bare"]),
    }


def main() -> None:
    """Measures every case, prints a line each, writes the raw times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    results = {}
    for name in CASES:
        results[name] = measure(name, arguments.pairs)
        step = 1000 * statistics.median(results[name]["seconds"]["bare"]) / results[name]["steps"]
        print(f"{name}: {results[name]['median_ratio']:.4f} of a bare step of {step:.1f} ms")
    content = {
        "threads": torch.get_num_threads(),
        "provenance": provenance("cpu"),
        "cases": results,
    }
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
