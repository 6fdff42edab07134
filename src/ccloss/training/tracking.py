"""Loss terms and accuracy within an epoch, read from the device now and then."""

import time
from typing import Any

import torch
from torch import Tensor

from ccloss.errors import DivergenceError
from ccloss.output import Output
from ccloss.training.progress import duration, terms_text

SYNC_SECONDS = 0.5
"""Time between reads of the loss terms within an epoch. Each read waits for the device."""


class EpochBuffers:
    """Terms of the loss and correct predictions of the steps of an epoch, on the device.

    The tensors keep their addresses from one epoch to the next, so a captured step can write them.

    Args:
        steps: largest number of steps of an epoch.
        device: of the network.

    Attributes:
        step: (1,) int64, the number of stored steps.
        correct: scalar float32, the correct predictions in them.
        names: names of the terms; empty before the first step.
        terms: (steps, T), the terms of each step.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.correct = torch.zeros((), device=device)
        self.names: list[str] = []
        self.terms = torch.empty(steps, 0, device=device)

    def reset(self) -> None:
        """Starts an epoch."""
        self.step.zero_()
        self.correct.zero_()

    def store(self, output: Output, terms: dict[str, Tensor], labels: Tensor) -> None:
        """Stores one step. It does not wait for the device.

        Args:
            output: of the network.
            terms: of the loss.
            labels: (N,) classes, or (N, K) probabilities, of which the share of the predicted
                class counts as correct.
        """
        values = torch.stack([term.detach() for term in terms.values()])
        if not self.names:
            # One allocation for all steps: small tensors kept from every step fragment memory.
            self.names = list(terms)
            self.terms = values.new_zeros(len(self.terms), len(terms))
        self.terms.index_copy_(0, self.step, values[None])
        self.correct += _correct(output.logits.detach(), labels)
        self.step += 1


class MetricTracker:
    """Tracks the terms of the loss and the training accuracy of one epoch.

    Args:
        accelerator: device and processes.
        buffers: where the steps of this epoch are stored.
        epoch: number of the epoch, from 0.
        first_step: optimiser steps before this epoch.
        total_steps: optimiser steps of the run.
        batch_size: images in a step, over all processes.
    """

    def __init__(
        self,
        accelerator: Any,
        buffers: EpochBuffers,
        *,
        epoch: int,
        first_step: int,
        total_steps: int,
        batch_size: int,
    ) -> None:
        self._accelerator = accelerator
        self._buffers = buffers
        self._epoch = epoch
        self._first_step = first_step
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._step = 0  # steps that are stored, perhaps not yet on the device
        self._synced = 0  # steps that are known to be finite
        self._started = self._last_sync = time.perf_counter()

    def advance(self) -> None:
        """Counts a step that the device stores in the buffers."""
        self._step += 1

    @property
    def sync_due(self) -> bool:
        """Whether the last read is long enough ago."""
        return time.perf_counter() - self._last_sync > SYNC_SECONDS

    def sync(self) -> str:
        """Reads the terms since the last read, and returns the state of the epoch as text.

        Raises:
            DivergenceError: a term is NaN or infinite.
        """
        values = self._buffers.terms[self._synced : self._step].cpu()
        self._require_finite(values)
        self._synced = self._step
        terms = dict(zip(self._buffers.names, values.mean(0).tolist(), strict=True))
        images = self._synced * self._batch_size
        own_images = images / self._accelerator.num_processes
        seconds = time.perf_counter() - self._started
        steps_left = self._total_steps - self._first_step - self._synced
        self._last_sync = time.perf_counter()
        return (
            f"{terms_text(terms)}  train {100 * self._buffers.correct.item() / own_images:.2f} %  "
            f"{images / seconds:.0f} images/s  "
            f"{duration(seconds / self._synced * steps_left)} left"
        )

    def summary(self) -> dict[str, Any]:
        """The epoch in numbers: means over steps and processes.

        Raises:
            DivergenceError: a term is NaN or infinite.
        """
        values = self._buffers.terms[: self._step]
        self._require_finite(values[self._synced :].cpu())
        seconds = time.perf_counter() - self._started
        means = self._accelerator.reduce(values.mean(0), "mean").tolist()
        correct = self._accelerator.reduce(self._buffers.correct, "sum").item()
        images = self._step * self._batch_size
        return {
            "epoch": self._epoch + 1,
            "step": self._first_step + self._step,
            "terms": dict(zip(self._buffers.names, means, strict=True)),
            "train_accuracy": 100 * correct / images,
            "train_seconds": seconds,
            "images_per_second": images / seconds,
        }

    def _require_finite(self, values: Tensor) -> None:
        """Raises an error that names the first step with a NaN or infinite term."""
        invalid = ~values.isfinite().all(1)
        if not bool(invalid.any()):
            return
        index = int(invalid.nonzero()[0, 0])
        terms = dict(zip(self._buffers.names, values[index].tolist(), strict=True))
        step = self._first_step + self._synced + index + 1
        raise DivergenceError(
            f"the loss is not finite at step {step} (epoch {self._epoch + 1}): "
            f"{terms_text(terms)}; try a lower learning rate or loss weight, or precision fp32"
        )


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Number of images whose class is predicted, a scalar."""
    predicted = logits.argmax(1)
    if labels.is_floating_point():
        return labels.gather(1, predicted[:, None]).sum()
    return (predicted == labels).sum()
