"""Evidence for the head of VGG16: ``python -m benchmarks.heads --data-root FOLDER``.

Trains VGG16 on MNIST with three heads: (a) average pool and a plain head, (b) the literal fifth
max-pool with batch normalisation in the head, (c) the literal pool, a plain head and gradient
clipping. The protocol is the paper's (He initialisation, learning rate 0.1 that falls along a
cosine, no warm-up) over 200 steps. Records contain accuracy and dead units; the loss of each step
is stored beside them. The table and the figure of docs/decisions.md are made from both.

Finished runs are kept, so the command can be interrupted and repeated. Two commands with different
``--methods`` or ``--seeds`` can share a folder.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from benchmarks.measurement import RESULTS
from benchmarks.pages import with_table
from benchmarks.write_results import read
from ccloss.bench.experiment import Experiment
from ccloss.bench.report.text import markdown_table
from ccloss.bench.results import write_campaign
from ccloss.output import Output
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.tracking import EpochBuffers

IMAGES, TEST_IMAGES = 6_400, 1_000
"""200 steps with the paper's batch size of 32; evaluation once, after the last step."""

SEEDS = range(5000, 5005)

HEADS: Mapping[str, Mapping[str, Any]] = {
    "average": {"final_pool": "average", "head_norm": "none"},
    "batch-norm": {"final_pool": "max", "head_norm": "batch"},
    "clipping": {"final_pool": "max", "head_norm": "none", "clip_grad_norm": 1.0},
}

METHODS: Mapping[str, tuple[str, bool]] = {
    "cc": ("cc", True),
    "ce+cam": ("ce", True),
    "ce": ("ce", False),
}
"""Method -> loss and attention."""

LOSSES = "losses.json"
"""File in a run's folder with the loss of each step."""

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "decisions.md", DOCS / "figures" / "heads.png"

NAMES: Mapping[str, str] = {
    "average": "(a) average pool, plain head",
    "batch-norm": "(b) max-pool, batch normalisation",
    "clipping": "(c) max-pool, plain head, gradient clipping at 1.0",
}

WINDOW = 10
"""Steps over which the figure averages the loss."""


def configuration(head: str, method: str, seed: int) -> RunConfig:
    """One run."""
    loss, attention = METHODS[method]
    return Experiment(
        data="mnist",
        backbone="vgg16",
        loss=loss,
        attention=attention,
        image_size=24,
        epochs=1,
        train_limit=IMAGES,
        test_limit=TEST_IMAGES,
        precision="fp32",
        seed=seed,
        **HEADS[head],
    ).resolve()


def runs(
    out: Path, methods: Iterable[str] = METHODS, seeds: Iterable[int] = SEEDS
) -> Iterator[tuple[RunFolder, str, str, int]]:
    """Folder, head, method and seed of each run. The heads take turns."""
    for method in methods:
        for seed in seeds:
            for head in HEADS:
                yield RunFolder(out / head / method / str(seed)), head, method, seed


def train_and_keep_losses(config: RunConfig, folder: RunFolder, root: Path) -> None:
    """Trains one network and stores the loss of each step, in order."""
    losses: list[float] = []
    store = EpochBuffers.store

    def recorded(
        self: EpochBuffers, output: Output, terms: dict[str, Tensor], labels: Tensor
    ) -> None:
        losses.append(round(float(terms["total"].detach()), 4))
        store(self, output, terms, labels)

    with mock.patch.object(EpochBuffers, "store", recorded):
        train(config, folder, load_data(config, root), overwrite=folder.started)
    (folder.path / LOSSES).write_text(json.dumps(losses))


def store_results(out: Path) -> None:
    """Stores the records and the losses of the finished runs."""
    write_campaign(out, RESULTS / "heads.jsonl")
    losses: dict[str, dict[str, dict[str, list[float]]]] = {}
    for folder, head, method, seed in runs(out):
        if (folder.path / LOSSES).exists():
            own = losses.setdefault(head, {}).setdefault(method, {})
            own[str(seed)] = json.loads((folder.path / LOSSES).read_text())
    (RESULTS / "heads-losses.json").write_text(json.dumps(losses) + "\n")


def table() -> str:
    """Means over the seeds of each head and method, and the figure."""
    records = read("heads")
    lines = [
        ["head", "method", "accuracy (%)", "lowest", "dead units of 512", "loss, last 20 steps"]
    ]
    losses = json.loads((RESULTS / "heads-losses.json").read_text())
    for head, fields in HEADS.items():
        for method, by_seed in losses[head].items():
            own = [
                record
                for record in records
                if record.method == method
                and all(record.experiment[name] == value for name, value in fields.items())
            ]
            accuracies = [record.accuracy for record in own]
            lines.append(
                [
                    f"{NAMES[head]}: {method}",
                    str(len(own)),
                    f"{fmean(accuracies):.1f}",
                    f"{min(accuracies):.1f}",
                    f"{fmean(record.evaluation['dead_units'] for record in own):.0f}",
                    f"{fmean(value for each in by_seed.values() for value in each[-20:]):.3f}",
                ]
            )
    return f"{markdown_table(lines, numbers=True)}\n![Loss of each run](figures/{FIGURE.name})\n"


def draw() -> None:
    """Draws the loss of each run: one panel a method, one colour a head."""
    losses = json.loads((RESULTS / "heads-losses.json").read_text())
    methods = [method for method in METHODS if any(method in own for own in losses.values())]
    figure, axes = plt.subplots(
        1, len(methods), figsize=(11, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for method, axis in zip(methods, axes.flat, strict=True):
        for index, head in enumerate(HEADS):
            for number, values in enumerate(losses[head].get(method, {}).values()):
                means = np.convolve(values, np.ones(WINDOW) / WINDOW, "valid")
                label = NAMES[head] if number == 0 else None
                steps = np.arange(WINDOW, WINDOW + len(means))
                axis.plot(steps, means, color=f"C{index}", linewidth=0.8, label=label)
        axis.set_title(method)
        axis.set_xlabel("step")
    axes.flat[0].set_ylabel(f"loss, mean of {WINDOW} steps")
    axes.flat[0].legend(fontsize=8)
    figure.savefig(FIGURE, dpi=110)
    plt.close(figure)


def main() -> None:
    """Trains what is missing, stores the results, and writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, choices=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods = arguments.methods.split(",")
    for folder, head, method, seed in runs(arguments.out, methods, arguments.seeds):
        if not (folder.path / LOSSES).exists():
            print(folder.path, flush=True)
            config = configuration(head, method, seed)
            train_and_keep_losses(config, folder, arguments.data_root)
    store_results(arguments.out)
    PAGE.write_text(with_table(PAGE.read_text(), "heads", table()))
    draw()


if __name__ == "__main__":
    main()
