"""A trained model with the images' preprocessing and the names of its classes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ccloss.errors import InputError
from ccloss.inference.images import Image, Preprocessing, batches
from ccloss.models import Classifier
from ccloss.output import Output
from ccloss.training.components import EVALUATION_BATCH_SIZE
from ccloss.training.config import RunConfig
from ccloss.training.devices import fp32_without_tf32
from ccloss.training.records import Record
from ccloss.validation import require_positive_integer

Network = Callable[[Tensor], Output]
"""(N, C, H, W) images, uint8 or float in [0, 1], to an output."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image.

    Attributes:
        classes: names of the k most probable classes, the most probable first.
        probabilities: of these classes.
        source: path of the image, or its position among the images.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, made by :func:`ccloss.load`. It is in evaluation mode.

    Attributes:
        network: (N, C, H, W) images, uint8 or float in [0, 1], to :class:`ccloss.Output`. Models
            that were exported to ``onnx`` or ``torch`` give logits only.
        record: of the run.
        device: where the network computes.
        autocast: whether it computes in bf16, as its run did.
    """

    network: Network
    record: Record
    device: torch.device
    autocast: bool = False

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return RunConfig.from_dict(self.record.experiment)

    def classifier(self, purpose: str) -> Classifier:
        """The network with all its outputs; ``purpose`` is for the message.

        Raises:
            InputError: the model was exported to ``onnx`` or ``torch``.
        """
        if not isinstance(self.network, Classifier):
            raise InputError(
                f"{purpose} needs a run or its weights, and this model was exported to logits "
                "only; use the run folder, or a folder made by `ccloss export --format hub`"
            )
        return self.network

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self.record.classes)

    @property
    def image_size(self) -> int:
        """Height and width of the network's input in pixels."""
        return self.config.image_size

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (RGB)."""
        return self.config.channels

    @property
    def preprocessing(self) -> Preprocessing:
        """Decoding, resizing and cropping as in the evaluation of the run."""
        config = self.config
        return Preprocessing(config.image_size, config.resize, config.channels)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Output:
        """The network's output on a batch, in float32 on the CPU.

        Args:
            images: (N, C, H, W), uint8, or float in [0, 1].
        """
        precision: Any = torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)
        # As in training: the memory format decides how convolutions round.
        images = images.to(self.device, memory_format=torch.channels_last)
        with precision, fp32_without_tf32("bf16" if self.autocast else "fp32"):
            output = self.network(images)
        return Output(*(_to_cpu(value) for value in output))

    def predict(
        self,
        images: Image | Iterable[Image],
        top: int = 5,
        *,
        batch_size: int = EVALUATION_BATCH_SIZE,
        workers: int = 0,
    ) -> list[Prediction]:
        """The most probable classes of each image.

        Images are decoded, resized and cropped as in the evaluation of the run.

        Args:
            images: one or more paths, images of Pillow, uint8 arrays (H, W) or (H, W, 3), or uint8
                tensors (C, H, W).
            top: number of classes; all classes if there are fewer.
            batch_size: images in a forward pass.
            workers: processes that decode images; 0: this process.

        Raises:
            InputError: an image cannot be read, or an argument is out of range.
        """
        require_positive_integer("top", top)
        predictions: list[Prediction] = []
        for sources, output, errors in self.outputs(images, batch_size, workers):
            if errors:
                raise errors[0]
            predictions += self.most_probable(sources, output.logits, top)
        return predictions

    def outputs(
        self, images: Image | Iterable[Image], batch_size: int, workers: int
    ) -> Iterator[tuple[list[str], Output, list[InputError]]]:
        """The network's outputs on each batch of images, and the images that cannot be read.

        Yields:
            Sources of the n images that could be read; outputs on them; errors of the others. A
            batch without readable images has no rows.
        """
        for batch in batches(self.preprocessing, images, batch_size, workers):
            yield batch.sources, self(batch.pixels), batch.errors

    def most_probable(
        self, sources: Sequence[str], logits: Tensor, top: int
    ) -> Iterator[Prediction]:
        """The ``top`` most probable classes of each of n images with (n, K) logits."""
        probabilities, labels = logits.softmax(1).topk(min(top, logits.shape[1]))
        rows = zip(sources, labels.tolist(), probabilities.tolist(), strict=True)
        for source, row, values in rows:
            yield Prediction(tuple(self.classes[k] for k in row), tuple(values), source)


def _to_cpu(value: Any) -> Any:
    return value.float().cpu() if isinstance(value, Tensor) else value
