"""Images that are stored with a run, for its figures."""

import torch
from torch import Tensor

from ccloss.data.images import ImageSet
from ccloss.data.splitting import balanced
from ccloss.training.metrics import Predictions

SAMPLE_IMAGES = 1000
"""Largest number of images of a split whose features are stored."""

THUMBNAIL_SIZE = 32
"""Largest side of the stored images, in pixels."""


def make_sample(predictions: Predictions, images: ImageSet) -> dict[str, Tensor]:
    """Class-balanced images with their features and attention.

    Args:
        predictions: on images of a split.
        images: of the split.

    Returns:
        The arrays of :class:`ccloss.training.records.ImageSample`.
    """
    rows = torch.where(balanced(predictions.labels, SAMPLE_IMAGES))[0]
    index = predictions.index[rows]
    sample = {
        "thumbnails": torch.stack([thumbnail(images.image(each)) for each in index.tolist()]),
        "index": index,
        "labels": predictions.labels[rows],
        "predictions": predictions.logits[rows].argmax(1),
        "features": predictions.features[rows],
    }
    if predictions.attention is not None:
        sample["attention"] = predictions.attention[rows]
    return sample


def thumbnail(image: Tensor) -> Tensor:
    """(C, H, W) uint8 -> (H, W, C): the centre square of a large image, reduced to 32 px."""
    # torchvision sets environment variables when it is imported.
    from torchvision.transforms.v2.functional import center_crop, resize

    if max(image.shape[1:]) > THUMBNAIL_SIZE:
        square = center_crop(image, [min(image.shape[1:])] * 2)
        image = resize(square, [THUMBNAIL_SIZE] * 2, antialias=True)
    return image.permute(1, 2, 0).contiguous()
