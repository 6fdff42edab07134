"""``ccloss predict``: classes of images."""

import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter

from ccloss.cli.console import print_table, progress_reporter
from ccloss.data.names import printable
from ccloss.errors import InputError

if TYPE_CHECKING:
    from ccloss.inference.model import Prediction, TrainedModel
    from ccloss.output import Output

    Sink = Callable[[Sequence[Prediction], Output], None]
    """Takes the predictions of a batch and the network's output on it."""


def predict(
    run: str,
    /,
    *paths: Annotated[str, Parameter(allow_leading_hyphen=True)],
    top: int = 5,
    csv_file: Annotated[Path | None, Parameter("--csv", allow_leading_hyphen=True)] = None,
    json_file: Annotated[Path | None, Parameter("--json", allow_leading_hyphen=True)] = None,
    features: Path | None = None,
    batch_size: int = 128,
    workers: int | None = None,
    device: str | None = None,
) -> int:
    """Print the most probable classes of images.

    Args:
        run: Folder of a run, an exported model, or OWNER/NAME on the Hugging Face Hub.
        paths: Image files, folders, patterns such as "*.png", or - for one path per line of
            standard input.
        top: Number of classes per image.
        csv_file: Write a CSV file instead of the table. A minus sign means standard output.
        json_file: Write a JSON file instead of the table. A minus sign means standard output.
        features: Write features and attention vectors to an .npz file.
        batch_size: Images per forward pass.
        workers: Processes that decode images. By default as many as the cores allow.
        device: Device of the model: cpu, cuda, cuda:1, mps. By default a GPU if there is one.
    """
    from ccloss.inference.images import find_images
    from ccloss.inference.loading import load_trained
    from ccloss.validation import require_positive_integer

    for path in paths:
        if path.startswith("-") and path != "-":
            raise InputError(f"unknown option {path}; write a file of that name as ./{path}")
    _check_outputs(csv_file, json_file, features)
    model = load_trained(run, device or _default_device())
    if features is not None:
        model.classifier("--features")
    require_positive_integer("top", top)
    require_positive_integer("batch_size", batch_size)
    images = find_images(paths, sys.stdin)
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = []
        if features is not None:
            sinks.append(stack.enter_context(_features_file(features)))
        if csv_file is not None:
            sinks.append(stack.enter_context(_csv_file(csv_file, min(top, len(model.classes)))))
        if json_file is not None:
            sinks.append(stack.enter_context(_json_file(json_file)))
        if csv_file is None and json_file is None:
            sinks.append(stack.enter_context(_table()))
        unreadable = _predict(model, images, top, batch_size, workers, sinks)
    return 1 if unreadable else 0


def _check_outputs(*paths: Path | None) -> None:
    """Checks, before anything is computed, that the files can be written."""
    for path in paths:
        if path is not None and str(path).startswith("--"):
            raise InputError(f"a file to write must not start with two hyphens, got {path}")
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path.parent} is no folder; create it or choose another path")
    features = paths[-1]
    if features is not None and features.suffix != ".npz":
        raise InputError(f"--features must end in .npz, got {features}")


def _default_device() -> str:
    """The accelerator of this machine, else the CPU."""
    import torch

    return str(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def _predict(
    model: "TrainedModel",
    images: Sequence[str],
    top: int,
    batch_size: int,
    workers: int | None,
    sinks: Sequence["Sink"],
) -> int:
    """Sends the predictions of each batch to the sinks. Returns the number of unreadable images."""
    from ccloss.training.components import workers_per_process

    batches = model.outputs(images, batch_size, workers_per_process(workers))
    total, unreadable = -(-len(images) // batch_size), 0
    for sources, output, errors in progress_reporter().track(batches, "prediction", total):
        predictions = list(model.most_probable(sources, output.logits, top))
        for sink in sinks:
            sink(predictions, output)
        for error in errors:
            print(f"error: {printable(str(error))}", file=sys.stderr)
        unreadable += len(errors)
    return unreadable


# ---- where predictions go ------------------------------------------------------------------------


@contextlib.contextmanager
def _table() -> "Iterator[Sink]":
    """Prints a table at the end: its columns are as wide as their longest cells."""
    rows = []

    def add(predictions: "Sequence[Prediction]", _: "Output") -> None:
        for prediction in predictions:
            source = prediction.source
            for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
                rows.append((source, name, f"{100 * probability:.2f} %"))
                source = ""

    yield add
    if rows:
        print_table(("image", "class", "probability"), rows)


@contextlib.contextmanager
def _csv_file(path: Path, top: int) -> "Iterator[Sink]":
    with _text_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [f"{name}_{k}" for k in range(1, top + 1) for name in ("class", "probability")]
        writer.writerow(["path", *names])

        def add(predictions: "Sequence[Prediction]", _: "Output") -> None:
            for each in predictions:
                pairs = zip(each.classes, each.probabilities, strict=True)
                writer.writerow([each.source, *(value for pair in pairs for value in pair)])

        yield add


@contextlib.contextmanager
def _json_file(path: Path) -> "Iterator[Sink]":
    """A list with an object on each line."""
    with _text_file(path) as file:
        separators = itertools.chain("[", itertools.repeat(","))

        def add(predictions: "Sequence[Prediction]", _: "Output") -> None:
            for each in predictions:
                classes = [
                    {"name": name, "probability": probability}
                    for name, probability in zip(each.classes, each.probabilities, strict=True)
                ]
                content = json.dumps({"path": each.source, "classes": classes})
                file.write(f"{next(separators)}\n{content}")

        yield add
        file.write("[]\n" if next(separators) == "[" else "\n]\n")


@contextlib.contextmanager
def _features_file(path: Path) -> "Iterator[Sink]":
    """Writes ``paths`` (n,), ``features`` (n, D) and, if the network has it, ``attention``."""
    import numpy as np

    from ccloss.training.files import write_atomically

    paths: list[str] = []
    values: dict[str, list[np.ndarray[Any, Any]]] = {"features": [], "attention": []}

    def add(predictions: "Sequence[Prediction]", output: "Output") -> None:
        paths.extend(each.source for each in predictions)
        for name, arrays in values.items():
            value = getattr(output, name)
            if value is not None:
                arrays.append(value.numpy())

    yield add
    found = {name: np.concatenate(arrays) for name, arrays in values.items() if arrays}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, paths=np.array(paths, dtype=np.str_), **found)
    write_atomically(path, file.getvalue())


@contextlib.contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    """Standard output, or a file that appears when it is complete."""
    from ccloss.training.files import open_atomically

    if str(path) == "-":
        yield sys.stdout
        return
    with open_atomically(path) as binary:
        # Names of files that are not UTF-8 keep their bytes.
        text = io.TextIOWrapper(binary, "utf-8", "surrogateescape", newline="")
        yield text
        text.detach()  # writes what is buffered, and leaves the file open
