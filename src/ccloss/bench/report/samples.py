"""The stored test images of a run, checked before they are drawn."""

import numpy as np

from ccloss.errors import InputError
from ccloss.training.records import Record, RunFolder, TestSample


def read(folder: RunFolder, record: Record) -> TestSample:
    """The stored test images of a run.

    Raises:
        InputError: it cannot be read, or does not hold finite vectors of the record's classes.
    """
    sample = folder.read_test_sample()
    vectors = [array for array in (sample.features, sample.attention) if array is not None]
    if not (_are_finite(sample, vectors) and _have_classes(sample, len(record.classes))):
        shapes = ", ".join(str(array.shape) for array in vectors)
        raise InputError(
            f"{folder.test_sample} does not hold finite vectors of labelled images ({shapes} for "
            f"{sample.labels.shape} labels of {len(record.classes)} classes); train the run again"
        )
    return sample


def _are_finite(sample: TestSample, vectors: list[np.ndarray]) -> bool:
    """Whether there is one vector of finite numbers an image."""
    count = len(sample.labels)
    return (
        count > 0
        and all(array.ndim == 2 and len(array) == count for array in vectors)
        and all(array.shape[1] > 0 and bool(np.isfinite(array).all()) for array in vectors)
    )


def _have_classes(sample: TestSample, classes: int) -> bool:
    """Whether there is a valid label and prediction for each image."""
    return all(
        len(indices) == len(sample.labels)
        and bool((indices >= 0).all())
        and bool((indices < classes).all())
        for indices in (sample.labels, sample.predictions)
    )
