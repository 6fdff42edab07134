"""Evidence for the head of VGG16: ``python -m benchmarks.heads --data-root FOLDER``.

Trains VGG16 on MNIST with four heads: average pool and a plain head (A), the literal fifth
max-pool with batch normalisation in the head (B), the literal pool, a plain head and gradient
clipping (C), the literal pool, batch normalisation and gradient clipping (D). The protocol is the
paper's (He initialisation, learning rate 0.1 that falls along a cosine, no warm-up), over 200 steps
or over 5 epochs of 10,000 images. Records contain accuracy and dead units; the loss of each step is
stored beside them. The table and the figure of docs/decisions.md are made from both.

Finished runs are kept, so the command can be interrupted and repeated. Two commands with different
``--scales``, ``--heads``, ``--methods`` or ``--seeds`` can share a folder.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from benchmarks.measurement import RESULTS
from benchmarks.pages import with_table
from benchmarks.write_results import read
from ccloss.bench.experiment import Experiment
from ccloss.bench.report import canvas
from ccloss.bench.report.text import markdown_table
from ccloss.bench.results import write_campaign
from ccloss.output import Output
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.tracking import EpochBuffers

SCALES: Mapping[str, tuple[int, int]] = {"200 steps": (6_400, 1), "5 epochs": (10_000, 5)}
"""Training images and epochs. Evaluation is on 1,000 test images, once, after the last step."""

SEEDS = range(5000, 5005)

HEADS: Mapping[str, Mapping[str, Any]] = {
    "average": {"final_pool": "average", "head_norm": "none", "clip_grad_norm": 0.0},
    "batch-norm": {"final_pool": "max", "head_norm": "batch", "clip_grad_norm": 0.0},
    "clipping": {"final_pool": "max", "head_norm": "none", "clip_grad_norm": 1.0},
    "both": {"final_pool": "max", "head_norm": "batch", "clip_grad_norm": 1.0},
}

METHODS: Mapping[str, tuple[str, bool]] = {
    "cc": ("cc", True),
    "ce+cam": ("ce", True),
    "ce": ("ce", False),
}
"""Method -> loss and attention."""

CURVES = RESULTS / "heads-losses.json"

LOSSES = "losses.json"
"""File in a run's folder with the loss of each step."""

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "decisions.md", DOCS / "figures" / "heads.png"

NAMES: Mapping[str, str] = {
    "average": "A: average pool, plain head",
    "batch-norm": "B: max-pool, batch normalisation",
    "clipping": "C: max-pool, plain head, gradient clipping at 1.0",
    "both": "D: max-pool, batch normalisation, gradient clipping at 1.0",
}

WINDOW, LAST = 10, 20
"""Steps over which the figure averages the loss, and last steps of which the table has the mean."""


class Run(NamedTuple):
    """One training run."""

    scale: str
    head: str
    method: str
    seed: int

    def folder(self, out: Path) -> RunFolder:
        """Where the run is stored."""
        scale, head, method, seed = self
        return RunFolder(out / scale.replace(" ", "-") / head / method / str(seed))


def configuration(run: Run) -> RunConfig:
    """The experiment of a run."""
    loss, attention = METHODS[run.method]
    images, epochs = SCALES[run.scale]
    return Experiment(
        data="mnist",
        backbone="vgg16",
        loss=loss,
        attention=attention,
        image_size=24,
        epochs=epochs,
        evaluate_every=epochs,
        train_limit=images,
        test_limit=1_000,
        precision="fp32",
        seed=run.seed,
        **HEADS[run.head],
    ).resolve()


def runs(
    scales: Iterable[str] = SCALES,
    heads: Iterable[str] = HEADS,
    methods: Iterable[str] = METHODS,
    seeds: Iterable[int] = SEEDS,
) -> list[Run]:
    """All runs. The heads take turns."""
    order = itertools.product(scales, methods, seeds, heads)
    return [Run(scale, head, method, seed) for scale, method, seed, head in order]


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
    stored = [
        {**run._asdict(), "losses": json.loads(path.read_text())}
        for run in runs()
        if (path := run.folder(out).path / LOSSES).exists()
    ]
    CURVES.write_text(json.dumps(stored) + "\n")


def curves() -> dict[Run, list[float]]:
    """The loss of each step of the finished runs."""
    found = {}
    for curve in json.loads(CURVES.read_text()):
        losses = curve.pop("losses")
        found[Run(**curve)] = losses
    return found


def evaluations(wanted: Iterable[Run]) -> dict[Run, dict[str, Any]]:
    """The final evaluation of each run."""
    records = [(RunConfig.from_dict(each.experiment), each.evaluation) for each in read("heads")]
    found = {}
    for run in wanted:
        config = configuration(run)
        (found[run],) = (evaluation for other, evaluation in records if other == config)
    return found


def table() -> str:
    """Means over the seeds of each scale, head and method, and the figure."""
    losses = curves()
    results = evaluations(losses)
    text = ""
    for scale in dict.fromkeys(run.scale for run in losses):
        images, epochs = SCALES[scale]
        lines = [["head and method", "seeds", "accuracy (%)", "lowest", "dead units", "loss"]]
        for head, method in itertools.product(HEADS, METHODS):
            done = [run for run in losses if run[:3] == (scale, head, method)]
            if done:
                accuracies = [results[run]["accuracy"] for run in done]
                lines.append(
                    [
                        f"{NAMES[head]}; {method}",
                        str(len(done)),
                        f"{fmean(accuracies):.1f}",
                        f"{min(accuracies):.1f}",
                        f"{fmean(results[run]['dead_units'] for run in done):.0f}",
                        f"{fmean(value for run in done for value in losses[run][-LAST:]):.3f}",
                    ]
                )
        length = f"{epochs} epoch{'s' * (epochs > 1)}"
        text += f"{images:,} images, {length}:\n\n{markdown_table(lines)}\n"
    return f"{text}\n![Loss of each run](figures/{FIGURE.name})\n"


def draw() -> None:
    """Draws the loss of each run: one panel a scale and method, one colour a head."""
    losses = curves()
    panels = list(dict.fromkeys((run.scale, run.method) for run in losses))
    figure, axes = canvas.panels(len(panels), columns=3, width=3.2, height=2.6)
    for (scale, method), axis in zip(panels, axes, strict=True):
        for index, head in enumerate(HEADS):
            for run, values in losses.items():
                if run[:3] == (scale, head, method):
                    means = np.convolve(values, np.ones(WINDOW) / WINDOW, "valid")
                    axis.plot(np.arange(len(means)) + WINDOW, means, f"C{index}", linewidth=0.8)
        axis.set_title(f"{method}, {scale}")
        axis.set_xlabel("step")
    for axis in axes[1:]:
        axis.sharey(axes[0])
    for axis in axes[::3]:
        axis.set_ylabel(f"loss, mean of {WINDOW} steps")
    handles = [
        Line2D([], [], color=f"C{index}", label=NAMES[head]) for index, head in enumerate(HEADS)
    ]
    figure.legend(handles=handles, loc="outside lower center", fontsize=8)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Trains what is missing, stores the results, and writes the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/heads"))
    choices: Mapping[str, Iterable[Any]] = {
        "scales": SCALES,
        "heads": HEADS,
        "methods": METHODS,
        "seeds": SEEDS,
    }
    for name, values in choices.items():
        kind = type(next(iter(values)))
        parser.add_argument(f"--{name}", nargs="+", type=kind, default=values, choices=values)
    arguments = vars(parser.parse_args())
    torch.set_num_threads(1)
    for run in runs(**{name: arguments[name] for name in choices}):
        folder = run.folder(arguments["out"])
        if not (folder.path / LOSSES).exists():
            print(folder.path, flush=True)
            train_and_keep_losses(configuration(run), folder, arguments["data_root"])
    store_results(arguments["out"])
    PAGE.write_text(with_table(PAGE.read_text(), "heads", table()))
    draw()


if __name__ == "__main__":
    main()
