"""Effect of training options: ``python -m benchmarks.finetuning --data-root FOLDER``.

Pretrains the convnet on 50 classes of CIFAR-100 at 16 px, then trains on few images of 10 other
classes, from these weights or from random ones, with one option changed at a time. Every variant
has the same images, steps and seeds. Finished runs are kept, so the command can be interrupted and
repeated. ``--seeds 1 --epochs 2`` is a dry run of minutes; its results are not stored.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.measurement import RESULTS, write
from benchmarks.pages import with_table
from ccloss.bench.comparisons import Comparison, compare
from ccloss.bench.experiment import Experiment
from ccloss.bench.report.text import markdown_table
from ccloss.data.images import ImageSet, MemoryImages
from ccloss.data.sources import Dataset
from ccloss.data.splitting import hold_out
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.evaluation import evaluate
from ccloss.training.loop import train
from ccloss.training.records import RunFolder

SOURCE = tuple(range(10, 60))
"""Classes of the pretraining."""

TARGET = tuple(range(10))
"""Classes of the training that is measured."""

IMAGE_SIZE = 16

PRETRAINING_EPOCHS = 8

EPOCHS = {20: 50, 100: 15}
"""Images of a class -> epochs of a run."""

SEEDS = 5

ROOT = Path(__file__).parents[1]

PAGE = ROOT / "docs" / "guides" / "training-options.md"

Fields = Mapping[str, Any]

SCRATCH: Mapping[str, Fields] = {
    "random weights": {},
    "nesterov": {"nesterov": True},
    "warm-up": {"warmup_epochs": 0.1},
    "constant rate": {"schedule": "constant"},
    "clipping at 1": {"clip_grad_norm": 1.0},
    "accumulation of 2": {"accumulation_steps": 2},
    "AdamW": {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.05},
    "mixup": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "TrivialAugment": {"trivial_augment": True},
    "resized crops": {"random_resized_crop": 0.3},
    "erasing": {"random_erasing": 0.25},
    "average of weights": {"ema_decay": 0.99},
    "best of validation": {"select": "best", "validation": 0.2},
}
"""Variants from random weights, compared with the first one. The fields of :data:`PARTS` are parts
of the epochs."""

PARTS = ("warmup_epochs", "freeze_backbone_epochs")

SMALL_RATE = {"learning_rate": 0.02}

PRETRAINED: Mapping[str, Fields] = {
    "pretrained": {},
    "pretrained, rate 0.02": SMALL_RATE,
    "pretrained, backbone rate x 0.1": {"backbone_rate_factor": 0.1},
    "pretrained, backbone frozen for 10 %": {"freeze_backbone_epochs": 0.1},
    "pretrained, backbone frozen": {"freeze_backbone_epochs": 1.0},
}
"""Variants from pretrained weights, compared with ``random weights``."""


def subset(images: ImageSet, classes: tuple[int, ...], per_class: int | None) -> MemoryImages:
    """The first images of some classes, whose labels count from 0."""
    assert isinstance(images, MemoryImages)
    rows = [torch.where(images.labels == label)[0][:per_class] for label in classes]
    labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(r) for r in rows]))
    return MemoryImages(images.pixels[torch.cat(rows)], labels)


def restrict(data: Dataset, classes: tuple[int, ...], per_class: int | None) -> Dataset:
    """Some classes of a data set, with few training images and all test images of each."""
    return data._replace(
        train=subset(data.train, classes, per_class),
        test=subset(data.test, classes, None),
        classes=tuple(data.classes[label] for label in classes),
    )


def configuration(epochs: int, seed: int, fields: Fields) -> RunConfig:
    """A run on the images of :func:`restrict`."""
    experiment = Experiment(
        data="cifar100",
        loss="cc",
        backbone="convnet",
        image_size=IMAGE_SIZE,
        epochs=epochs,
        seed=seed,
        evaluate_every=1 if "select" in fields else epochs,
        precision="fp32",
        **fields,
    )
    return experiment.resolve()


def accuracy(config: RunConfig, data: Dataset, folder: RunFolder) -> float:
    """Test accuracy of a run in %, which is trained unless it is finished.

    The accuracy of a run that holds out images for the selection is that of the selected network on
    the test images.
    """
    own = data
    if config.validation:
        train_images, held_out = hold_out(data.train, config.validation)
        own = data._replace(train=train_images, test=held_out)
    if not folder.finished:
        print(folder.path, flush=True)
        train(config, folder, own, resume=folder.started)
    if not config.validation:
        return folder.read_record().accuracy
    return float(evaluate(folder, data, split="test")["accuracy"])


def variants(epochs: int, weights: Path) -> Iterator[tuple[str, Fields]]:
    """Every variant with its fields."""
    pretrained = {name: {**own, "init_from": str(weights)} for name, own in PRETRAINED.items()}
    for name, fields in {**SCRATCH, **pretrained}.items():
        yield name, {key: round(epochs * v) if key in PARTS else v for key, v in fields.items()}


def measure(data: Dataset, out: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Accuracies of every variant, by images of a class, variant and seed."""
    pretraining = configuration(epochs or PRETRAINING_EPOCHS, 0, {})
    accuracy(
        pretraining, restrict(data, SOURCE, 20 if epochs else None), RunFolder(out / "pretraining")
    )
    found: dict[str, Any] = {}
    for count, planned in EPOCHS.items():
        target = restrict(data, TARGET, count)
        length = epochs or planned
        rows: dict[str, dict[str, float]] = {}
        for seed in range(seeds):
            for name, fields in variants(length, out / "pretraining"):
                folder = RunFolder(out / str(count) / name.replace(" ", "-") / f"seed-{seed}")
                value = accuracy(configuration(length, seed, fields), target, folder)
                rows.setdefault(name, {})[str(seed)] = value
        found[str(count)] = rows
    return found


def comparisons(rows: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    """Every variant against random weights without options, one family."""
    values = {name: {int(seed): v for seed, v in own.items()} for name, own in rows.items()}
    first, *others = values
    pairs = [(name, first) for name in others]
    return compare(values, pairs, resolution=100 / (100 * len(TARGET)))


def table(accuracies: Mapping[str, Any]) -> str:
    """Markdown table: mean accuracy, and difference from the variant without options."""
    header = ["variant"]
    for images in accuracies:
        header += [f"{images} images a class", "difference", "adjusted p"]
    lines = [header]
    families = {
        images: {each.row: each for each in comparisons(rows)}
        for images, rows in accuracies.items()
    }
    for name in next(iter(accuracies.values())):
        line = [name]
        for images, rows in accuracies.items():
            line += [f"{fmean(rows[name].values()):.2f}", *_difference(families[images].get(name))]
        lines.append(line)
    return markdown_table(lines)


def _difference(found: Comparison | None) -> list[str]:
    if found is None or found.estimate is None:
        return ["–", "–"]
    interval = found.interval and f" ({found.interval.low:+.2f} to {found.interval.high:+.2f})"
    p = "–" if found.p_adjusted is None else f"{found.p_adjusted:.2g}"
    return [f"{found.estimate:+.2f}{interval or ''}", p]


def write_page() -> None:
    """Replaces the table of the page."""
    content = json.loads((RESULTS / "finetuning.json").read_text())
    PAGE.write_text(with_table(PAGE.read_text(), "finetuning", table(content["accuracies"])))


def main() -> None:
    """Trains what is missing, stores the accuracies and writes the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(configuration(1, 0, {}), arguments.data_root)
    accuracies = measure(data, arguments.out, arguments.seeds, arguments.epochs)
    if arguments.epochs is not None:
        print(table(accuracies))
        return
    write("finetuning", seeds=arguments.seeds, epochs=EPOCHS, accuracies=accuracies)
    write_page()


if __name__ == "__main__":
    main()
