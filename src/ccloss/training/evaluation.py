"""Evaluation of a network, during training and after it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ccloss.data.images import ImageSet
from ccloss.data.loader import Batch, Loader
from ccloss.data.sources import Dataset, check_same_data
from ccloss.data.splitting import balanced
from ccloss.errors import InputError, first_line
from ccloss.models import Classifier
from ccloss.output import Output
from ccloss.training.components import Components, build_eval_loader, build_network
from ccloss.training.config import RunConfig
from ccloss.training.devices import fp32_without_tf32, make_accelerator
from ccloss.training.metrics import Predictions, join, measure
from ccloss.training.progress import NullProgress, ProgressReporter
from ccloss.training.records import Record, RunFolder
from ccloss.training.sample import SAMPLE_IMAGES
from ccloss.training.step import to_float


def evaluate(
    folder: RunFolder,
    dataset: Dataset,
    *,
    split: str | None = None,
    allow_changed_data: bool = False,
    workers: int | None = None,
    reporter: ProgressReporter | None = None,
) -> dict[str, Any]:
    """Evaluates the network of a finished run with :func:`ccloss.training.metrics.measure`.

    Args:
        folder: the run's folder.
        dataset: the run's data, see :func:`ccloss.training.components.load_data`.
        split: ``test`` or ``validation``, the images in ``dataset.test``; ``None``: those that the
            run was evaluated on. Only these are compared with the images of the run.
        allow_changed_data: continue with a warning if the test images have changed.
        workers: processes on this machine that decode large images; ``None``: by its cores.
        reporter: shows the progress.

    Raises:
        InputError: the folder has no finished run, or the data are not those of the run.
    """
    record = folder.read_record()
    if tuple(record.classes) != dataset.classes:
        raise InputError(
            f"data {dataset.name} has {len(dataset.classes)} classes, and the run in "
            f"{folder.path} has {len(record.classes)} or others; evaluate on the run's own data"
        )
    reporter = reporter or NullProgress()
    if split in (None, record.evaluation["split"]):
        warning = check_same_data(
            record.provenance.get("data"),
            dataset,
            allow_changed=allow_changed_data,
            splits=("test",),
        )
        if warning is not None:
            reporter.warn(warning)
    else:
        reporter.warn(f"the run has no digest of its {split} images, so they are not checked")
    config = RunConfig.from_dict(record.experiment)
    accelerator = make_accelerator(config.precision)
    network = accelerator.prepare_model(load_model(folder), evaluation_mode=True)
    loader = build_eval_loader(config, dataset.test, accelerator, workers)
    with fp32_without_tf32(config.precision):
        return measure(_predict(network, loader, reporter))


def config_of_split(config: RunConfig, split: str) -> RunConfig:
    """The configuration whose data have the images of a split as test images.

    Args:
        config: of the run.
        split: ``test`` or ``validation``.

    Raises:
        InputError: the run has held out no validation images.
    """
    if split == "test":
        return dataclasses.replace(config, validation=0.0, select="last")
    if not config.validation:
        raise InputError(
            "split validation needs a run that has held out training images, and this one has not; "
            "use split test"
        )
    return config


def load_model(folder: RunFolder) -> Classifier:
    """The trained network of a finished run, in evaluation mode.

    It takes images in [0, 1] or uint8.

    Raises:
        InputError: the folder has no finished run, or its weights cannot be read.
    """
    return load_network(folder.read_record(), folder.model)


def load_network(record: Record, weights: Path) -> Classifier:
    """The network of a record with the weights of a safetensors file, in evaluation mode.

    Raises:
        InputError: the weights cannot be read, or are those of another network.
    """
    model = build_network(RunConfig.from_dict(record.experiment), len(record.classes))
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:  # the last: other weights
        raise InputError(
            f"{weights} cannot be read ({first_line(error)}); train the run again"
        ) from None
    return model.eval()


def predict(run: Components, network: Classifier, reporter: ProgressReporter) -> Predictions:
    """The outputs of a network of a run on the images to evaluate."""
    if run.accelerator.num_processes > 1:
        # The model is saved with the batch statistics of the main process.
        broadcast(list(network.buffers()))
    return _predict(network, run.eval_loader, reporter)


def predict_training_sample(
    config: RunConfig,
    run: Components,
    images: ImageSet,
    workers: int | None,
    reporter: ProgressReporter,
) -> Predictions | None:
    """The outputs of a run's network on class-balanced training images, without augmentation.

    ``None`` unless the features have width 2: only these are drawn for both splits, as in Figure 3
    of the paper.

    Args:
        config: of the run.
        run: its network has the same buffers in every process, as after :func:`predict`.
        images: the training images.
        workers: processes on this machine that decode large images; ``None``: by its cores.
        reporter: shows the progress.
    """
    if config.hidden_features != 2:
        return None
    rows = torch.where(balanced(images.labels, SAMPLE_IMAGES))[0]
    loader = build_eval_loader(config, images.subset(rows), run.accelerator, workers)
    predictions = _predict(run.evaluated, loader, reporter)
    return dataclasses.replace(predictions, index=rows[predictions.index])


@torch.inference_mode()
def _predict(network: nn.Module, loader: Loader, reporter: ProgressReporter) -> Predictions:
    """The network's outputs on every image of a loader, gathered from all processes."""
    network.eval()
    parts = [
        _to_predictions(batch, network(to_float(batch.images)))
        for batch in reporter.track(loader.epoch(0), "evaluation", len(loader))
    ]
    return join(gather_object(parts))


def _to_predictions(batch: Batch, output: Output) -> Predictions:
    assert output.features is not None  # networks of this package return one tensor of each
    assert output.attention is None or isinstance(output.attention, Tensor)
    attention = None if output.attention is None else output.attention.float().cpu()
    return Predictions(
        index=batch.index,
        labels=batch.labels.cpu(),
        logits=output.logits.float().cpu(),
        features=output.features.float().cpu(),
        attention=attention,
    )
