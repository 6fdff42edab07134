"""One optimiser step."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ccloss.losses import Loss
from ccloss.output import Output
from ccloss.training.optimizers import set_learning_rate


class TrainState(NamedTuple):
    """What a training step reads and changes.

    Attributes:
        network: the model as it is trained: on its device, over all processes.
        loss: the loss, which may have parameters of its own.
        optimizer: over the parameters of both.
        accelerator: device, precision and processes.
    """

    network: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    accelerator: Any


def train_step(
    state: TrainState,
    images: Tensor,
    labels: Tensor,
    *,
    learning_rate: float | Tensor,
    clip_grad_norm: float = 0.0,
    part: int = 0,
    parts: int = 1,
) -> tuple[Output, dict[str, Tensor]]:
    """Forward and backward pass of a batch, and the optimiser's step after the last part.

    Args:
        state: network, loss and optimiser; they are changed.
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64, or (N, K) rows of probabilities.
        learning_rate: of this step; a captured step needs a tensor.
        clip_grad_norm: largest norm of the gradient of all parameters; 0: no clipping.
        part: index of this batch in its gradient accumulation, from 0.
        parts: batches of the accumulation; their gradients are averaged.

    Returns:
        The network's output and the terms of the loss, both before the optimiser's step.
    """
    output = state.network(to_float(images))
    terms = state.loss.terms(output, labels)
    if part == 0:
        state.optimizer.zero_grad()
    state.accelerator.backward(terms["total"] / parts)
    if part + 1 < parts:
        return output, terms
    if state.accelerator.num_processes > 1:
        _average_gradients(state.loss, state.accelerator)
    if clip_grad_norm:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_grad_norm)
    set_learning_rate(state.optimizer, learning_rate)
    state.optimizer.step()
    return output, terms


def to_float(images: Tensor) -> Tensor:
    """Pixels as floats in [0, 1], in the memory format of the network; floats stay as they are."""
    images = images.to(memory_format=torch.channels_last)
    return images if images.is_floating_point() else images.float().div_(255)


def accumulation(index: int, steps: int, accumulation_steps: int) -> tuple[int, int]:
    """Position of a batch among those whose gradients are averaged, and their number.

    The last batches of an epoch may be fewer: no gradient is carried over to the next epoch.

    Args:
        index: of the batch in the epoch.
        steps: batches of the epoch.
        accumulation_steps: batches whose gradients are averaged.
    """
    part = index % accumulation_steps
    return part, min(accumulation_steps, steps - index + part)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed that differs by run seed, epoch and process.

    All bits depend on all arguments: the generator of the CPU uses the lower 32 only.
    """
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0])


def _average_gradients(loss: Loss, accelerator: Any) -> None:
    """Averages the gradients of a loss's own parameters, as those of the network are."""
    for parameter in loss.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")
