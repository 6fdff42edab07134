"""Images per second of the loader beside torchvision, and seconds to the first batch of a folder.

``python -m benchmarks.data_loading`` writes benchmarks/results/data_loading.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.measurement import interleave, write
from ccloss.data import cache
from ccloss.data.loader import train_loader
from ccloss.data.sources import load

BATCH = 32
PHOTOGRAPHS = ((300, 400), (525, 700))  # height, width
WORKERS = (0, 1, 2)


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """A smooth color image with some noise."""
    y, x = np.mgrid[0:height, 0:width] / 100
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    channels = [128 + 100 * np.sin(y * (k + 1) + 3 * x + seed) for k in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, -1) + noise, 0, 255).astype(np.uint8))


def write_photographs(root: Path, count: int, height: int, width: int) -> None:
    for number in range(count):
        folder = root / "train" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        photograph(number, height, width).save(folder / f"{number}.jpg", quality=90)
    for label in range(2):
        folder = root / "test" / f"class{label}"
        folder.mkdir(parents=True)
        photograph(label, height, width).save(folder / "0.jpg", quality=90)


def own_epochs(root: Path, workers: int) -> Callable[[], Iterable[Any]]:
    """A function that starts an epoch of the loader of ccloss."""
    images = load(str(root), image_size=224, resize=256).train
    loader = train_loader(
        images,
        batch_size=BATCH,
        seed=0,
        device="cpu",
        image_size=224,
        padding=4,
        flip=0.5,
        workers=workers,
    )
    return partial(loader.epoch, 0)


def torchvision_epochs(root: Path, workers: int) -> Callable[[], Iterable[Any]]:
    """A function that starts an epoch of torchvision's ImageFolder and v2 transforms."""
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(256, antialias=True),
            v2.RandomCrop(224, padding=4),
            v2.RandomHorizontalFlip(),
        ]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(root / "train"), transform),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return partial(iter, loader)


def seconds_of(start_epoch: Callable[[], Iterable[Any]]) -> float:
    """Seconds of one epoch."""
    begin = time.perf_counter()
    for _ in start_epoch():
        pass
    return time.perf_counter() - begin


def epochs(root: Path, workers: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds of epochs of both loaders, whose workers have been started before."""
    starts = {
        "ccloss": own_epochs(root, workers),
        "torchvision": torchvision_epochs(root, workers),
    }
    for start in starts.values():
        seconds_of(start)
    return interleave(
        {name: partial(seconds_of, start) for name, start in starts.items()}, repetitions
    )


def first_batches(root: Path, count: int) -> list[float]:
    """Seconds to the first batch of small PNG files, at the first and at the second start."""
    for number in range(count):
        folder = root / ("test" if number % 10 == 0 else "train") / f"class{number // 10 % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        images = load(str(root), image_size=32).train
        loader = train_loader(images, batch_size=BATCH, seed=0, device="cpu", image_size=32)
        next(iter(loader.epoch(0)))
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_average = os.getloadavg()[0]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[cache.FOLDER_VARIABLE] = f"{folder}/cache"
        for height, width in PHOTOGRAPHS:
            root = Path(folder) / f"{width}"
            write_photographs(root, arguments.images, height, width)
            for workers in WORKERS:
                seconds = epochs(root, workers, arguments.repetitions)
                cases.append({"pixels": f"{width}x{height}", "workers": workers, **seconds})
        starts = first_batches(Path(folder) / "small", arguments.files)
    write(
        "data_loading",
        load_average=load_average,
        images=arguments.images,
        batch=BATCH,
        cases=cases,
        files=arguments.files,
        first_batch=starts,
    )


if __name__ == "__main__":
    main()
