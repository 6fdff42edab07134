"""One optimiser step."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccloss.losses import Loss
from ccloss.output import Output


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
    learning_rate: float,
    clip_grad_norm: float | None = None,
) -> tuple[Output, dict[str, Tensor]]:
    """One eager step of the optimiser.

    Args:
        state: network, loss and optimiser; they are changed.
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        learning_rate: of this step.
        clip_grad_norm: largest norm of the gradient of all parameters; ``None``: no clipping.

    Returns:
        The network's output and the terms of the loss, both before the step.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    output = state.network(to_float(images))
    terms = state.loss.terms(output, labels)
    state.optimizer.zero_grad()
    state.accelerator.backward(terms["total"])
    if state.accelerator.num_processes > 1:
        _average_gradients(state.loss, state.accelerator)
    if clip_grad_norm is not None:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_grad_norm)
    state.optimizer.step()
    return output, terms


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels as floats in [0, 1], in the memory format of the network."""
    return images.to(memory_format=torch.channels_last).float().div_(255)


def cosine_learning_rate(step: int, total: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` at step 0 to ``last`` at step ``total``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / total)) / 2


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed that differs for every run seed, epoch and process."""
    return (rank << 52) + seed * 1_000_003 + epoch + 1


def _average_gradients(loss: Loss, accelerator: Any) -> None:
    """Averages the gradients of a loss's own parameters, as those of the network are."""
    for parameter in loss.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")
