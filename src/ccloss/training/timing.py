"""Timing of a training step on random images, to estimate how long runs take."""

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
    """Wall time of a training step on this device: the shortest of several, in seconds.

    Large images are timed on a part of the batch, and the time is scaled to the whole batch. The
    first step, which initialises the device, is left out.

    Args:
        config: the run.
        classes: number of classes.
    """
    size, batch = config.image_size, config.batch_size
    part = max(2, min(batch, TIMED_PIXELS // size**2))  # batch statistics need two
    device = make_accelerator(config.precision).device
    model = build_network(config, classes).train().to(device)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    images = torch.rand(part, model.in_channels, size, size, device=device)
    labels = torch.arange(part, device=device) % classes
    times: list[float] = []
    while len(times) < 2 or (sum(times) < MAX_SECONDS and len(times) < MAX_STEPS):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = model(images.to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        nn.functional.cross_entropy(output.logits.float(), labels).backward()
        optimizer.step()
        float(output.logits.detach().sum())  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times[1:]) * batch / part
