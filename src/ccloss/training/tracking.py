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


class MetricTracker:
    """Tracks the terms of the loss and the training accuracy of one epoch.

    Args:
        accelerator: device and processes.
        epoch: number of the epoch, from 0.
        first_step: optimiser steps before this epoch.
        steps: optimiser steps of this epoch.
        total_steps: optimiser steps of the run.
        batch_size: images in a step, over all processes.
    """

    def __init__(
        self,
        accelerator: Any,
        *,
        epoch: int,
        first_step: int,
        steps: int,
        total_steps: int,
        batch_size: int,
    ) -> None:
        self._accelerator = accelerator
        self._epoch = epoch
        self._first_step = first_step
        self._steps = steps
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._names: list[str] = []
        self._history = torch.empty(0)  # [steps, terms], on the device
        self._correct = torch.zeros((), dtype=torch.long, device=accelerator.device)
        self._step = 0  # steps that are stored
        self._synced = 0  # steps that are known to be finite
        self._started = self._last_sync = time.perf_counter()

    def update(self, output: Output, terms: dict[str, Tensor], labels: Tensor) -> None:
        """Stores the terms of one step on the device.

        Args:
            output: of the network.
            terms: of the loss.
            labels: (N,) classes, or (N, K) probabilities, of which the share of the predicted
                class counts as correct.
        """
        values = torch.stack([term.detach() for term in terms.values()])
        if self._step == 0:
            # One allocation for all steps: small tensors kept from every step fragment memory.
            self._names, self._history = list(terms), values.new_empty(self._steps, len(terms))
        self._history[self._step] = values
        self._step += 1
        self._correct = self._correct + _correct(output.logits.detach(), labels)

    @property
    def sync_due(self) -> bool:
        """Whether the last read is long enough ago."""
        return time.perf_counter() - self._last_sync > SYNC_SECONDS

    def sync(self) -> str:
        """Reads the terms since the last read, and returns the state of the epoch as text.

        Raises:
            DivergenceError: a term is NaN or infinite.
        """
        values = self._history[self._synced : self._step].cpu()
        self._require_finite(values)
        self._synced = self._step
        terms = dict(zip(self._names, values.mean(0).tolist(), strict=True))
        images = self._synced * self._batch_size
        own_images = images / self._accelerator.num_processes
        seconds = time.perf_counter() - self._started
        steps_left = self._total_steps - self._first_step - self._synced
        self._last_sync = time.perf_counter()
        return (
            f"{terms_text(terms)}  train {100 * self._correct.item() / own_images:.2f} %  "
            f"{images / seconds:.0f} images/s  "
            f"{duration(seconds / self._synced * steps_left)} left"
        )

    def summary(self) -> dict[str, Any]:
        """The epoch in numbers: means over steps and processes.

        Raises:
            DivergenceError: a term is NaN or infinite.
        """
        values = self._history[: self._step]
        self._require_finite(values[self._synced :].cpu())
        seconds = time.perf_counter() - self._started
        means = self._accelerator.reduce(values.mean(0), "mean").tolist()
        correct = self._accelerator.reduce(self._correct, "sum").item()
        images = self._step * self._batch_size
        return {
            "epoch": self._epoch + 1,
            "step": self._first_step + self._step,
            "terms": dict(zip(self._names, means, strict=True)),
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
        terms = dict(zip(self._names, values[index].tolist(), strict=True))
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
