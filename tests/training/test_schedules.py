"""Schedules of the learning rate, compared with those of PyTorch."""

import pytest
import torch
from torch.optim import lr_scheduler

from ccloss.errors import InputError
from ccloss.training.schedules import make_schedule
from small_runs import small_config

STEPS = 50


def rates_of_torch(scheduler: str, warmup: int) -> list[float]:
    """50 learning rates at 5 steps per epoch, the first steps of which are a warm-up."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    main: lr_scheduler.LRScheduler = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, STEPS - warmup, eta_min=1e-3),
        "step": lambda: lr_scheduler.StepLR(optimizer, step_size=3 * 5, gamma=0.5),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    }[scheduler]()
    if warmup:
        rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        main = lr_scheduler.SequentialLR(optimizer, [rise, main], milestones=[warmup])
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        main.step()
    return rates


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # of PyTorch's own SequentialLR
@pytest.mark.parametrize("warmup", [{}, {"warmup_epochs": 1.4}, {"warmup_steps": 7}])
@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cosine", "final_learning_rate": 1e-3},
        {"schedule": "step", "decay_epochs": 3, "decay_factor": 0.5},
        {"schedule": "constant"},
    ],
    ids=["cosine", "step", "constant"],
)
def test_learning_rates_are_those_of_torch(options: dict, warmup: dict) -> None:
    config = small_config(learning_rate=0.2, **options, **warmup)
    schedule = make_schedule(config, STEPS, steps_per_epoch=5)
    expected = rates_of_torch(options["schedule"], 7 if warmup else 0)
    assert [schedule(step) for step in range(STEPS)] == pytest.approx(expected, rel=1e-6)


def test_warm_up_must_end_before_the_run() -> None:
    with pytest.raises(InputError, match=r"warm-up of 50 steps .* lower warmup_steps"):
        make_schedule(small_config(warmup_epochs=10), STEPS, steps_per_epoch=5)
