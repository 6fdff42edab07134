"""Images per second of the loader beside torchvision, and seconds to the first batch of a folder.

python benchmarks/data_loading.py --out benchmarks/results/data_loading.json
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ccloss.data import cache
from ccloss.data.loader import train_loader
from ccloss.data.sources import load

BATCH = 32


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


def ours(root: Path, workers: int, epochs: int) -> float:
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
    list(loader.epoch(0))  # starts the workers
    begin = time.perf_counter()
    count = sum(
        len(batch.labels) for epoch in range(1, epochs + 1) for batch in loader.epoch(epoch)
    )
    return count / (time.perf_counter() - begin)


def torchvision_loop(root: Path, workers: int, epochs: int) -> float:
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
    list(loader)
    begin = time.perf_counter()
    count = sum(len(labels) for _ in range(epochs) for _, labels in loader)
    return count / (time.perf_counter() - begin)


def starts(root: Path, count: int) -> list[float]:
    """Seconds to the first batch of a folder of small PNG files, at the first and second start."""
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
        seconds.append(round(time.perf_counter() - begin, 2))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[cache.FOLDER_VARIABLE] = f"{folder}/cache"
        for height, width in ((300, 400), (525, 700)):
            root = Path(folder) / f"{width}"
            write_photographs(root, arguments.images, height, width)
            for workers in (0, 1, 2):
                row = {
                    "pixels": f"{width}x{height}",
                    "workers": workers,
                    "ccloss": round(ours(root, workers, arguments.epochs), 1),
                    "torchvision": round(torchvision_loop(root, workers, arguments.epochs), 1),
                }
                print(row, flush=True)
                rates.append(row)
        first, second = starts(Path(folder) / "small", arguments.files)
    result = {
        "images_per_second": rates,
        "seconds_to_first_batch": {"files": arguments.files, "first": first, "second": second},
        "torch": torch.__version__,
        "threads": 1,
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
