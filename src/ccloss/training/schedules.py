"""The learning rate as a function of the step."""

import math
from dataclasses import dataclass

from ccloss.errors import InputError
from ccloss.training.config import RunConfig
from ccloss.training.options import LearningRateSchedule


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, and a schedule over the steps that follow it.

    Called with a step, from 0, it gives the learning rate of that step. There is no state: a
    resumed run has the learning rates of one that was not interrupted.

    Attributes:
        kind: ``cosine`` falls from ``first`` to ``last`` along half a cosine, ``step`` multiplies
            by ``decay_factor`` every ``decay_steps``, ``constant`` stays at ``first``.
        first: learning rate after the warm-up.
        last: learning rate of ``cosine`` at ``total_steps``.
        total_steps: of the run.
        warmup_steps: of them; the rate of the first step is ``first / (warmup_steps + 1)``.
        decay_steps: steps between two decays of ``step``.
        decay_factor: of ``step``.
    """

    kind: LearningRateSchedule
    first: float
    last: float
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 1
    decay_factor: float = 1.0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.first * (step + 1) / (self.warmup_steps + 1)
        step, total = step - self.warmup_steps, self.total_steps - self.warmup_steps
        if self.kind == "cosine":
            return cosine_learning_rate(step, total, self.first, self.last)
        if self.kind == "step":
            return self.first * self.decay_factor ** (step // self.decay_steps)
        return self.first


def make_schedule(config: RunConfig, total_steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule of a run.

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
    return Schedule(
        kind=config.schedule,
        first=config.learning_rate,
        last=config.final_learning_rate,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        decay_steps=config.decay_epochs * steps_per_epoch,
        decay_factor=config.decay_factor,
    )


def cosine_learning_rate(step: int, total: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` at step 0 to ``last`` at step ``total``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / total)) / 2
