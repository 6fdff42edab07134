"""Points, heat maps and thumbnails of test images, as compact JSON types."""

import base64
import io
import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccloss.bench.report.charts import rounded
from ccloss.bench.report.geometry import (
    balanced,
    channel_order,
    class_means,
    plane,
    relative_distances,
)
from ccloss.training.records import ImageSample

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

IMAGES = 300
"""Points in a panel of features."""

MATRIX_IMAGES = 150
"""Images along each side of a matrix of distances."""

MATRIX_IMAGES_A_CLASS = 3
"""Least number of images of a class, so that its block is visible; if there are too many classes,
some are left out."""

ROWS, COLUMNS = 200, 128
"""Largest size of a heat map: of more classes evenly spaced ones are shown, of more channels
neighbours are averaged."""

TOP_DISTANCE = 2.0
"""Distances are clipped at this multiple of the mean distance between classes."""

THUMBNAILS = 1500
"""Largest number on the page; further points have a text only."""

_MISSING = 255
"""Byte of a heat map that stands for a missing value."""

_SHEET_COLUMNS = 32


@dataclass
class Sheets:
    """Thumbnails, each stored once, on one sheet for each shape."""

    sheets: dict[tuple[int, ...], list[Bytes]] = field(default_factory=dict)
    positions: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def add(self, thumbnail: Bytes) -> tuple[int, int] | None:
        """Sheet and position of a thumbnail; ``None`` if the page has enough thumbnails."""
        shape = thumbnail.shape
        key = blake2b(thumbnail.tobytes(), key=repr(shape).encode()).digest()
        if key not in self.positions:
            if len(self.positions) >= THUMBNAILS:
                return None
            sheet = self.sheets.setdefault(shape, [])
            self.positions[key] = list(self.sheets).index(shape), len(sheet)
            sheet.append(thumbnail)
        return self.positions[key]

    def to_json(self) -> list[dict[str, Any]]:
        """Each sheet as a PNG in a data URI, with the size of its tiles."""
        return [
            {
                "height": height,
                "width": width,
                "columns": _SHEET_COLUMNS,
                "rows": math.ceil(len(images) / _SHEET_COLUMNS),
                "uri": _png(_sheet(images)),
            }
            for (height, width, _), images in self.sheets.items()
        ]


def features(sample: ImageSample, sheets: Sheets, *, tsne: bool) -> dict[str, Any]:
    """Test images as points in the plane of their features, with label and prediction."""
    chosen = _thin(balanced(sample.labels, IMAGES), IMAGES)
    points, projection = plane(sample.features[chosen], tsne=tsne)
    thumbnails = [sheets.add(sample.thumbnails[position]) for position in chosen]
    return {
        "projection": projection,
        "raw": sample.features.shape[1] == 2,
        "x": [rounded(x) for x in points[:, 0].tolist()],
        "y": [rounded(y) for y in points[:, 1].tolist()],
        "label": sample.labels[chosen].tolist(),
        "prediction": sample.predictions[chosen].tolist(),
        "index": sample.index[chosen].tolist(),
        "thumbnail": thumbnails,
    }


def channel_map(sample: ImageSample, classes: int) -> dict[str, Any] | None:
    """Mean attention by class and channel, in the order of `geometry.channel_order`."""
    if sample.attention is None:
        return None
    means = class_means(sample.attention, sample.labels, classes)
    means = means[:, channel_order(means)]
    rows = _thin(np.arange(classes), ROWS)
    parts = np.array_split(means[rows], min(COLUMNS, means.shape[1]), axis=1)
    shown = np.stack([part.mean(axis=1) for part in parts], axis=1)
    return {
        "classes": rows.tolist(),
        "channels": means.shape[1],
        **_bytes(shown, float(np.nanmin(shown)), float(np.nanmax(shown))),
    }


def distance_map(sample: ImageSample) -> dict[str, Any] | None:
    """Squared distances between attention vectors of images, ordered by class.

    ``None`` without attention, and if classes have no distance.
    """
    if sample.attention is None:
        return None
    chosen = _in_blocks(sample.labels)
    distances = relative_distances(sample.attention[chosen], sample.labels[chosen])
    if distances is None:
        return None
    return {"label": sample.labels[chosen].tolist(), **_bytes(distances, 0.0, TOP_DISTANCE)}


def _in_blocks(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Indices of images, ordered by class, some of each class that is shown."""
    shown = _thin(np.unique(labels), MATRIX_IMAGES // MATRIX_IMAGES_A_CLASS)
    positions = np.flatnonzero(np.isin(labels, shown))
    return positions[balanced(labels[positions], MATRIX_IMAGES)]


def _bytes(values: Floats, low: float, high: float) -> dict[str, Any]:
    """A matrix in steps of 1/254 from low to high, base64."""
    steps = np.clip((values - low) / ((high - low) or 1), 0, 1) * (_MISSING - 1)
    whole = np.where(np.isfinite(values), np.rint(np.nan_to_num(steps)), _MISSING)
    text = base64.b64encode(whole.astype(np.uint8).tobytes()).decode()
    return {"low": rounded(low), "high": rounded(high), "rows": len(values), "data": text}


def _thin(positions: NDArray[np.integer], limit: int) -> NDArray[np.integer]:
    """Evenly spaced elements, at most ``limit`` of them."""
    return positions[:: math.ceil(len(positions) / limit)]


def _sheet(images: list[Bytes]) -> Bytes:
    """Tiles in rows; missing tiles are black."""
    height, width, channels = images[0].shape
    rows = math.ceil(len(images) / _SHEET_COLUMNS)
    sheet = np.zeros((rows, _SHEET_COLUMNS, height, width, channels), np.uint8)
    sheet.reshape(-1, height, width, channels)[: len(images)] = images
    return sheet.swapaxes(1, 2).reshape(rows * height, _SHEET_COLUMNS * width, channels)


def _png(pixels: Bytes) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
