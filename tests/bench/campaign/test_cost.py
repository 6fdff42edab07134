"""Costs before a campaign begins."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from campaigns import Log, small_plan
from ccloss.bench.campaign import scheduler
from ccloss.bench.campaign.cost import count_images, estimate
from ccloss.bench.campaign.executors import SerialExecutor
from ccloss.bench.campaign.plan import plan
from ccloss.bench.experiment import Experiment
from ccloss.bench.paper.tables import TABLES
from ccloss.training.loop import train
from ccloss.training.timing import seconds_per_step
from small_runs import Interrupted, Listener, small_data


@pytest.fixture(autouse=True)
def _half_a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccloss.bench.campaign.cost.seconds_per_step", lambda config, classes: 0.5)


def test_steps_of_the_paper(tmp_path: Path) -> None:
    """Whole batches of the training images, 300 times."""
    cells = {cell.name: cell.experiment for table in TABLES.values() for cell in table.cells()}
    steps = {
        "mnist/vgg16/cc": 300 * (60_000 // 32),
        "cifar100/resnet18/ce": 300 * (50_000 // 32),
        "cars196/vgg16/ce+cam": 300 * (8_144 // 16),
        "cifar100/vgg16/batch=8": 300 * (50_000 // 8),
        "cars196/vgg16/batch=128": 300 * (8_144 // 128),
    }
    for name, expected in steps.items():
        (cost,) = estimate(plan([cells[name]], 1, tmp_path))
        assert (cost.steps, cost.steps_left) == (expected, expected), name
        # Half a second a step, and a third of the work for each test image of 300 evaluations.
        batch = cells[name].resolve().batch_size
        images = {"mnist": 10_000, "cifar100": 10_000, "cars196": 8_041}
        evaluations = 300 * images[cells[name].data] / batch / 3
        assert cost.seconds == pytest.approx(0.5 * (expected + evaluations))
        assert not cost.measured


def test_limits_shorten_a_run(tmp_path: Path) -> None:
    (cost,) = estimate(small_plan(tmp_path, rounds=1, losses="ce"))
    assert cost.steps == 3 * (130 // 32)
    (cost,) = estimate(small_plan(tmp_path, rounds=1, losses="ce", max_steps=5))
    assert cost.steps == 5


def test_counts_are_those_of_the_data() -> None:
    for fields in ({}, {"validation": 0.2}, {"train_limit": None, "test_limit": None}):
        experiment = dataclasses.replace(small_plan(Path("x"))[0].config, **fields)
        dataset = small_data(loss="ce", **fields)
        counts = count_images(experiment)
        assert counts.train == pytest.approx(len(dataset.train), abs=10)  # a share of every class
        assert counts.test == pytest.approx(len(dataset.test), abs=10)
        assert counts.classes == len(dataset.classes)
        assert counts.channels == dataset.channels


def test_what_is_done_is_not_counted_again(tmp_path: Path) -> None:
    runs = small_plan(tmp_path)
    scheduler.run_campaign(runs[:1], SerialExecutor(), observer=Log())
    with pytest.raises(Interrupted):
        train(runs[1].config, runs[1].folder, small_data(), reporter=Listener(interrupt_after=2))
    costs = estimate(runs)
    assert [cost.steps_left for cost in costs] == [0, 12 - 8, 12, 12]
    # The finished run tells the time of a step, and it is the same for another loss.
    record = runs[0].folder.read_record()
    assert all(cost.measured for cost in costs)
    assert costs[2].seconds == pytest.approx(record.seconds)
    assert costs[0].seconds_left == 0
    assert costs[1].seconds_left == pytest.approx(record.seconds * 4 / 12)


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "digits", "precision": "fp32"},
        {"data": "digits", "precision": "bf16"},
        {"data": "digits", "batch_size": 1},
        {"data": "cars196", "backbone": "resnet18", "pretrained": False},
    ],
)
def test_a_step_can_be_timed(fields: dict[str, Any]) -> None:
    assert 0 < seconds_per_step(Experiment(**fields).resolve(), 10) < 60
