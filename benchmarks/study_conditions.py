"""Question 4 of the study: ``python -m benchmarks.study_conditions --data-root FOLDER``.

Trains on MNIST with few labels, wrong labels and unequal classes, and measures each trained network
on the unchanged test images: accuracy, retrieval, and detection of images of another data set.
Finished runs are kept, so the command can be interrupted and repeated. ``--rounds 1`` is a dry run;
its results are not stored.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.measurement import write
from ccloss.bench.experiment import Experiment
from ccloss.data.images import ImageSet, MemoryImages
from ccloss.data.splitting import balanced
from ccloss.inference import load
from ccloss.inference.model import TrainedModel
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.loop import train
from ccloss.training.records import RunFolder

IMAGE_SIZE, CLASSES, ROUNDS, FIRST_SEED = 12, 10, 10, 4000

METHODS: Mapping[str, tuple[str, bool]] = {
    "ce+cam": ("ce", True),
    "cc": ("cc", True),
    "class-overlap": ("class-overlap", True),
}
"""Method -> loss and attention."""

RETRIEVAL_IMAGES = 2_000
"""Test images among which the nearest one is looked up."""

Change = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Labels and seed -> rows of the images to keep, and their labels."""


class Condition(NamedTuple):
    """Training images of a condition.

    Attributes:
        change: which images are kept, with which labels.
        epochs: so many that a run sees about 10,000 images.
    """

    change: Change
    epochs: int


def few(per_class: int) -> Change:
    """``per_class`` images of every class, drawn by the seed."""

    def change(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        rows = order[balanced(labels[order], per_class * CLASSES)]
        return rows, labels[rows]

    return change


def noise(share: float) -> Change:
    """100 images of every class; a share of all labels becomes another class, drawn uniformly."""

    def change(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        rows, own = few(100)(labels, seed)
        generator = torch.Generator().manual_seed(seed)
        wrong = torch.randperm(len(own), generator=generator)[: round(share * len(own))]
        own = own.clone()
        own[wrong] += torch.randint(1, CLASSES, (len(wrong),), generator=generator)
        return rows, own % CLASSES

    return change


def imbalance(ratio: int) -> Change:
    """Class k has 200 / ratio^(k / 9) images, so the largest has ``ratio`` times the smallest."""

    def change(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        rows, own = few(200)(labels, seed)
        kept = [
            rows[own == k][: round(200 * ratio ** (-k / (CLASSES - 1)))] for k in range(CLASSES)
        ]
        rows = torch.cat(kept)
        return rows, labels[rows]

    return change


CONDITIONS: Mapping[str, Condition] = {
    "100 images a class": Condition(few(100), 10),
    "20 images a class": Condition(few(20), 50),
    "5 images a class": Condition(few(5), 200),
    "20 % wrong labels": Condition(noise(0.2), 10),
    "40 % wrong labels": Condition(noise(0.4), 10),
    "imbalance 1:10": Condition(imbalance(10), 12),
    "imbalance 1:100": Condition(imbalance(100), 19),
}
"""Conditions by name. Wrong labels are 100 images of every class."""


def configuration(method: str, epochs: int, seed: int) -> RunConfig:
    """A run of question 4."""
    loss, attention = METHODS[method]
    return Experiment(
        data="mnist",
        loss=loss,
        attention=attention,
        backbone="convnet",
        hidden_features=128,
        image_size=IMAGE_SIZE,
        epochs=epochs,
        evaluate_every=epochs,
        precision="fp32",
        seed=seed,
    ).resolve()


def altered(images: ImageSet, change: Change, seed: int) -> MemoryImages:
    """The training images of a condition."""
    assert isinstance(images, MemoryImages)
    rows, labels = change(images.labels, seed)
    return MemoryImages(images.pixels[rows], labels)


def recall_at_1(vectors: Tensor, labels: Tensor) -> float:
    """Share in % of images whose nearest other image (Euclidean) has the same class."""
    neighbours = NearestNeighbors(n_neighbors=2).fit(vectors.numpy()).kneighbors()[1][:, 0]
    return 100 * float((labels[torch.from_numpy(neighbours)] == labels).double().mean())


def measure(folder: RunFolder, test: MemoryImages, others: Tensor) -> dict[str, float]:
    """Metrics of a finished run.

    Args:
        folder: of the run.
        test: the unchanged test images.
        others: (N, 1, H, W) images of another data set.
    """
    record = folder.read_record()
    model = load(folder.path)
    own = model(test.pixels[:RETRIEVAL_IMAGES])
    labels = test.labels[:RETRIEVAL_IMAGES]
    assert own.features is not None and isinstance(own.attention, Tensor)
    return {
        "accuracy": record.accuracy,
        "nll": float(record.evaluation["nll"]),
        "attention_merged_pairs": float(record.evaluation["attention_merged_pairs"]),
        "recall_features": recall_at_1(own.features, labels),
        "recall_attention": recall_at_1(own.attention, labels),
        "detection": detection(model, own.logits, others),
    }


def detection(model: TrainedModel, logits: Tensor, others: Tensor) -> float:
    """Area under the ROC curve in %: the largest probability of own and other images."""
    confidences = [part.softmax(1).amax(1) for part in (logits, model(others).logits)]
    is_own = torch.cat([torch.full_like(part, 1 - i) for i, part in enumerate(confidences)])
    return 100 * float(roc_auc_score(is_own.numpy(), torch.cat(confidences).numpy()))


def other_images(root: Path) -> Tensor:
    """2,000 test images of CIFAR-100, grey and with the size of the training images."""
    config = Experiment(data="cifar100", loss="ce", backbone="convnet").resolve()
    images = load_data(config, root).test
    assert isinstance(images, MemoryImages)
    grey = images.pixels[:RETRIEVAL_IMAGES].float().mean(1, keepdim=True)
    small = interpolate(grey, size=IMAGE_SIZE, mode="area")
    return small.round().to(torch.uint8)


def run(root: Path, out: Path, rounds: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Condition -> method -> seed -> metrics. Trains what is missing."""
    data = load_data(configuration("cc", 1, 0), root)
    assert isinstance(data.test, MemoryImages)
    others = other_images(root)
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + rounds):
        for name, condition in CONDITIONS.items():
            own = data._replace(train=altered(data.train, condition.change, seed))
            for method in METHODS:
                folder = RunFolder(
                    out / name.replace(" ", "-").replace(":", "-") / method / str(seed)
                )
                if not folder.finished:
                    print(folder.path, flush=True)
                    config = configuration(method, condition.epochs, seed)
                    train(config, folder, own, resume=folder.started)
                values = measure(folder, data.test, others)
                found.setdefault(name, {}).setdefault(method, {})[str(seed)] = values
    return found


def main() -> None:
    """Trains what is missing and stores the metrics."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/study-conditions"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = run(arguments.data_root, arguments.out, arguments.rounds)
    if arguments.rounds == ROUNDS:
        write("study-conditions", conditions=found)


if __name__ == "__main__":
    main()
