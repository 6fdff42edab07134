"""The learning rate as a function of the step."""

import math
from collections.abc import Callable

from ccloss.errors import InputError
from ccloss.training.config import RunConfig


def make_schedule(
    config: RunConfig, total_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """The learning rate of each step of a run, from step 0.

    A linear warm-up is followed by the schedule over the remaining steps: ``cosine`` falls along
    half a cosine, ``step`` decays every few epochs, ``constant`` stays. There is no state: a
    resumed run has the learning rates of one that was not interrupted.

    Args:
        config: the run.
        total_steps: of the run.
        steps_per_epoch: number of batches of an epoch.

    Raises:
        InputError: the warm-up does not end before the run.
    """
    warmup_steps = config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)
    if warmup_steps >= total_steps:
        raise InputError(
            f"the warm-up of {warmup_steps} steps does not end before the run, which has "
            f"{total_steps}; lower warmup_steps or warmup_epochs"
        )
    first, decay_steps = config.learning_rate, config.decay_epochs * steps_per_epoch

    def rate(step: int) -> float:
        if step < warmup_steps:
            return first * (step + 1) / (warmup_steps + 1)
        step -= warmup_steps
        if config.schedule == "cosine":
            total = total_steps - warmup_steps
            return cosine_learning_rate(step, total, first, config.final_learning_rate)
        if config.schedule == "step":
            return first * config.decay_factor ** (step // decay_steps)
        return first

    return rate


def cosine_learning_rate(step: int, total: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` at step 0 to ``last`` at step ``total``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / total)) / 2
