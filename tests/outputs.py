"""Random outputs of a network for the losses' tests, and what builds a loss for them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ccloss import Output
from ccloss.losses import LOSSES, Loss, make_loss

SAMPLES, CLASSES, WIDTH = 12, 4, 8
CHANNELS = 10  # groups of 2, 2, 3, 3 for MC

SOFT_TAKERS = [name for name, kind in LOSSES.items() if kind.takes_soft_labels]
MARGINS = [name for name, kind in LOSSES.items() if not kind.takes_soft_labels]


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

EVERY_LOSS_AND_LABELS = [
    (name, kind) for name in LOSSES for kind in LABELS if kind == "hard" or name in SOFT_TAKERS
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
