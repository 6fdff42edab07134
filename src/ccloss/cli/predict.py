"""``ccloss predict``: classes of images."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ccloss.cli.console import print_table, progress_reporter
from ccloss.data.names import printable
from ccloss.errors import InputError

if TYPE_CHECKING:
    from ccloss.inference.model import Prediction, TrainedModel
    from ccloss.output import Output


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

    for path in paths:
        if path.startswith("-") and path != "-":
            raise InputError(f"unknown option {path}; write a file of that name as ./{path}")
    _check_outputs(csv_file, json_file, features)
    model = load_trained(run, device or _default_device())
    if features is not None:
        model.classifier("--features")
    results = _predict(model, find_images(paths, sys.stdin), top, batch_size, workers)
    if features is not None:
        _write_features(features, results)
    if csv_file is not None:
        _write(csv_file, _to_csv(results.predictions, min(top, len(model.classes))))
    if json_file is not None:
        _write(json_file, _to_json(results.predictions))
    if csv_file is None and json_file is None:
        _print(results.predictions)
    for error in results.errors:
        print(f"error: {printable(str(error))}", file=sys.stderr)
    return 1 if results.errors else 0


@dataclass
class _Results:
    """Predictions and outputs of the images that can be read, and errors of the others."""

    predictions: "list[Prediction]" = field(default_factory=list)
    outputs: "list[Output]" = field(default_factory=list)
    errors: list[InputError] = field(default_factory=list)


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
    model: "TrainedModel", images: Sequence[str], top: int, batch_size: int, workers: int | None
) -> _Results:
    from ccloss.training.components import workers_per_process
    from ccloss.validation import require_positive_integer

    require_positive_integer("top", top)
    require_positive_integer("batch_size", batch_size)
    results = _Results()
    batches = model.outputs(images, batch_size, workers_per_process(workers))
    total = -(-len(images) // batch_size)
    for sources, output, errors in progress_reporter().track(batches, "prediction", total):
        results.predictions += model.most_probable(sources, output.logits, top)
        results.outputs.append(output._replace(feature_map=None))
        results.errors += errors
    return results


def _print(predictions: "Iterable[Prediction]") -> None:
    rows = []
    for prediction in predictions:
        source = prediction.source
        for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
            rows.append((source, name, f"{100 * probability:.2f} %"))
            source = ""
    if rows:
        print_table(("image", "class", "probability"), rows)


def _to_csv(predictions: "Iterable[Prediction]", top: int) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ranks = range(1, top + 1)
    writer.writerow(["path", *(f"{name}_{k}" for k in ranks for name in ("class", "probability"))])
    for each in predictions:
        pairs = zip(each.classes, each.probabilities, strict=True)
        writer.writerow([each.source, *(value for pair in pairs for value in pair)])
    return file.getvalue()


def _to_json(predictions: "Iterable[Prediction]") -> str:
    content = [
        {
            "path": each.source,
            "classes": [
                {"name": name, "probability": probability}
                for name, probability in zip(each.classes, each.probabilities, strict=True)
            ],
        }
        for each in predictions
    ]
    return json.dumps(content, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    from ccloss.training.files import write_atomically

    if str(path) == "-":
        sys.stdout.write(text)
    else:
        # Names of files that are not UTF-8 keep their bytes.
        write_atomically(path, text.encode("utf-8", "surrogateescape"))


def _write_features(path: Path, results: _Results) -> None:
    """Writes ``paths`` (n,), ``features`` (n, D) and, if the network has it, ``attention``."""
    import numpy as np

    from ccloss.training.files import write_atomically

    arrays = {"paths": np.array([each.source for each in results.predictions], dtype=np.str_)}
    for name in ("features", "attention"):
        values = [getattr(output, name) for output in results.outputs]
        if values[0] is not None:
            arrays[name] = np.concatenate(values)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    write_atomically(path, file.getvalue())
