"""Random outputs of a network, and losses built for them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ccloss import Output
from ccloss.losses import LOSSES, Loss, make_loss
from ccloss.losses.angular import MarginLoss

SAMPLES, CLASSES, WIDTH = 12, 4, 8
CHANNELS = 10  # groups of 2, 2, 3, 3 for MC

WITH_SOFT_LABELS = [name for name, cls in LOSSES.items() if cls.takes_soft_labels]
ONLY_HARD_LABELS = [name for name, cls in LOSSES.items() if not cls.takes_soft_labels]
MARGIN_LOSSES = [name for name, cls in LOSSES.items() if issubclass(cls, MarginLoss)]


def make_output(
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
    samples: int = SAMPLES,
    classes: int = CLASSES,
    channels: int = CHANNELS,
) -> Output:
    gen = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    parts = [
        scale * draw(samples, classes),
        draw(samples, WIDTH).relu(),
        draw(samples, WIDTH).sigmoid(),
        draw(samples, max(channels, classes), 2, 2),
        draw(classes, WIDTH),
    ]
    return Output(*(part.to(dtype).requires_grad_() for part in parts))


def hard_labels(samples: int = SAMPLES, classes: int = CLASSES, seed: int = 0) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (samples,), generator=gen)


def soft_labels(samples: int = SAMPLES, classes: int = CLASSES, seed: int = 1) -> Tensor:
    gen = torch.Generator().manual_seed(seed)
    return torch.rand(samples, classes, generator=gen, dtype=torch.float64).softmax(1)


HARD = torch.arange(SAMPLES) % CLASSES
SOFT = soft_labels()
LABELS = {"hard": HARD, "soft": SOFT}

LOSSES_AND_LABELS = [
    (name, kind) for name in LOSSES for kind in LABELS if kind == "hard" or name in WITH_SOFT_LABELS
]


def loss_for(name: str, options: Mapping[str, Any] | None = None, classes: int = CLASSES) -> Loss:
    """A loss by name for :func:`make_output`, in training mode."""
    return make_loss(name, options, num_classes=classes, features=WIDTH)


def leaves(output: Output) -> list[Tensor]:
    return [part for part in output if part is not None]


def gradients(total: Tensor, output: Output) -> list[Tensor]:
    """d total / d (every part of the output), zeros where there is none."""
    grads = torch.autograd.grad(total, leaves(output), allow_unused=True)
    return [
        torch.zeros_like(part) if grad is None else grad
        for grad, part in zip(grads, leaves(output), strict=True)
    ]
