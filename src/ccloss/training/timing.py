"""Timing of training steps on random images, to estimate how long runs take."""

import time

import torch
from torch import nn

from ccloss.training.components import build_network
from ccloss.training.config import RunConfig
from ccloss.training.devices import make_accelerator

TIMED_PIXELS = 32 * 32 * 32
"""A step is timed on as many images as have this many pixels: a batch of 32 at 32 px."""

MAX_STEPS = 20

MAX_SECONDS = 1.0


def seconds_per_step(config: RunConfig, classes: int) -> float:
    """Wall time of a training step on this device: the shortest of :func:`step_times`."""
    return min(step_times(config, classes))


def step_times(
    config: RunConfig, classes: int, seconds: float = MAX_SECONDS, steps: float = MAX_STEPS
) -> list[float]:
    """Wall times of training steps on this device, on random images, in seconds.

    Large images are timed on a part of the batch, and the times are scaled to the whole batch. The
    first step, which initialises the device, is left out.

    Args:
        config: the run.
        classes: number of classes.
        seconds: duration of the measurement; at least two steps are timed.
        steps: largest number of steps.
    """
    size, batch = config.image_size, config.batch_size
    part = min(batch, max(2, TIMED_PIXELS // size**2))
    device = make_accelerator(config.precision).device
    model = build_network(config, classes).train().to(device)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    images = torch.rand(part, model.in_channels, size, size, device=device)
    labels = torch.arange(part, device=device) % classes
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < steps):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = model(images.to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        nn.functional.cross_entropy(output.logits.float(), labels).backward()
        optimizer.step()
        float(output.logits.detach().sum())  # waits for the device
        times.append(time.perf_counter() - started)
    return [time_taken * batch / part for time_taken in times[1:]]
