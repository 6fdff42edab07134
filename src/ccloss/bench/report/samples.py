"""The stored images of a run, checked before they are drawn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ccloss.errors import InputError
from ccloss.training.records import ImageSample, Record, RunFolder


def read(folder: RunFolder, record: Record, path: Path) -> ImageSample:
    """Stored images of a run.

    Args:
        folder: of the run.
        record: of the run.
        path: one of the folder's samples.

    Raises:
        InputError: it cannot be read, or does not hold finite vectors of the record's classes.
    """
    sample = folder.read_sample(path)
    vectors = [array for array in (sample.features, sample.attention) if array is not None]
    if not (_are_finite(sample, vectors) and _have_classes(sample, len(record.classes))):
        shapes = ", ".join(str(array.shape) for array in vectors)
        raise InputError(
            f"{path} does not hold finite vectors of labelled images ({shapes} for "
            f"{sample.labels.shape} labels of {len(record.classes)} classes); train the run again"
        )
    return sample


def problems(folder: RunFolder, record: Record) -> Iterator[str]:
    """Why the figures do not show stored images of a run, one line each.

    Training images are expected for features of width 2 only.
    """
    paths = [folder.test_sample]
    if record.experiment.get("hidden_features") == 2:
        paths.append(folder.train_sample)
    for path in paths:
        try:
            read(folder, record, path)
        except InputError as error:
            yield str(error) if path.exists() else f"{path} is missing; train the run again"


def _are_finite(sample: ImageSample, vectors: list[np.ndarray]) -> bool:
    """Whether there is one vector of finite numbers an image."""
    count = len(sample.labels)
    return (
        count > 0
        and all(array.ndim == 2 and len(array) == count for array in vectors)
        and all(array.shape[1] > 0 and bool(np.isfinite(array).all()) for array in vectors)
    )


def _have_classes(sample: ImageSample, classes: int) -> bool:
    """Whether there is a valid label and prediction for each image."""
    return all(
        len(indices) == len(sample.labels)
        and bool((indices >= 0).all())
        and bool((indices < classes).all())
        for indices in (sample.labels, sample.predictions)
    )
