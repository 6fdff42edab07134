"""Finished runs like those of a training, with random numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ccloss.bench.experiment import Experiment
from ccloss.bench.paper.tables import TABLES
from ccloss.training.records import Record, RunFolder


def make_record(
    method: str = "cc", seed: int = 1, accuracy: float = 90.0, **changes: Any
) -> Record:
    """A record; ``changes`` go to the experiment, or to the evaluation where it has the name."""
    names = changes.pop("classes", [str(label) for label in range(10)])
    experiment = {
        **Experiment(data="digits", epochs=3, image_size=24).resolve().to_dict(),
        "loss": method.split("+")[0],
        "attention": method != "ce",
        "seed": seed,
    }
    evaluation = {
        "split": "test",
        "images": 500,
        "accuracy": accuracy,
        "top5": 99.0,
        "nll": 0.25,
        "calibration_error": 1.5,
        "class_accuracy": [accuracy] * len(names),
        "feature_ratio": 0.2,
        "attention_ratio": 0.5 if method != "ce" else None,
        "attention_merged_pairs": 12.5 if method != "ce" else None,
        "attention_nearest_mean_accuracy": 77.0 if method != "ce" else None,
        "calibration_bins": [[0, None, None]] * 13 + [[100, 90.0, 80.0], [400, 98.0, 99.0]],
        "class_attention_mass": [0.5 - label / 1000 for label in range(len(names))]
        if method != "ce"
        else None,
    }
    seconds = changes.pop("seconds", 12.5)
    for name, value in changes.items():
        (evaluation if name in evaluation else experiment)[name] = value
    return Record(
        method=method,
        experiment=experiment,
        classes=names,
        evaluation=evaluation,
        steps=120,
        seconds=seconds,
        images_per_second=900.0 + seed,
        parameters=123456,
        provenance={"device": "cpu", "processor": "A Processor"},
    )


def write_run(
    folder: Path,
    method: str = "cc",
    seed: int = 1,
    images: int = 40,
    width: int = 16,
    spread: float = 0.5,
    epochs: int = 3,
    **changes: Any,
) -> RunFolder:
    """A finished run on disk, its features and attention in clusters around class centres."""
    record = make_record(method, seed, **changes)
    run = RunFolder(folder / f"{method}-{seed}")
    run.path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    classes = len(record.classes)
    labels = np.sort(np.arange(images) % classes)
    centres = rng.normal(size=(classes, width))
    vectors = centres[labels] + spread * rng.normal(size=(images, width))
    arrays = {
        "features": np.maximum(vectors, 0).astype(np.float32),
        "labels": labels.astype(np.int64),
        "predictions": labels.astype(np.int64),
        "index": np.arange(images, dtype=np.int64),
        "thumbnails": rng.integers(256, size=(images, 8, 8, 1), dtype=np.uint8),
    }
    if record.experiment["attention"]:
        arrays["attention"] = (1 / (1 + np.exp(-vectors))).astype(np.float32)
    save_file(arrays, run.test_sample)
    for epoch in range(1, epochs + 1):
        run.append_metrics(metric_line(record, epoch, float(rng.uniform(0.9, 1.1))))
    run.write_record(record)
    return run


def metric_line(record: Record, epoch: int, noise: float) -> dict[str, Any]:
    ce = 2.3 / epoch * noise
    ratio = {"ratio": 0.5 / epoch * noise} if record.experiment["loss"] == "cc" else {}
    numbers = {k: v for k, v in record.evaluation.items() if not isinstance(v, list)}
    return {
        "epoch": epoch,
        "step": 40 * epoch,
        "terms": {"total": ce + ratio.get("ratio", 0.0), "ce": ce, **ratio},
        "train_accuracy": 95 - 40 / epoch * noise,
        "evaluation": {**numbers, "accuracy": 90 - 40 / epoch * noise},
        "seconds": 1.9,
    }


def table_record(cell: str, seed: int, accuracy: float, **changes: Any) -> Record:
    """A run of a cell of one of the paper's tables, such as ``table1/mnist/vgg16/cc``.

    ``changes`` go to the evaluation where it has the name, and to the experiment otherwise.
    """
    name, data, backbone, row = cell.split("/")
    table = TABLES[name]
    cells = table.cells(data=data, backbone=backbone)
    experiment = next(each for each in cells if each.row == row).experiment
    config = experiment.resolve(channels=1)
    record = make_record("cc", seed, accuracy, images=10_000, attention_merged_pairs=None)
    record.experiment.update(config.to_dict())
    record.experiment["seed"] = seed
    for field, value in changes.items():
        part = record.evaluation if field in record.evaluation else record.experiment
        part[field] = value
    return dataclasses.replace(record, method=config.method)
