"""Several runs in one process, one step of each in turn."""

from collections.abc import Generator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from campaigns import Log, results, small_plan
from ccloss.bench.campaign.executors import InterleavingExecutor, SerialExecutor
from ccloss.bench.campaign.scheduler import run_campaign
from ccloss.errors import DivergenceError
from ccloss.training import loop
from ccloss.training.static_step import StaticStep


def test_jobs_are_executed_in_turn_and_end_alone() -> None:
    events: list[Any] = []

    def job(steps: int) -> Generator[None, None, int]:
        for number in range(steps):
            events.append((steps, number))
            yield
        if steps == 2:
            raise DivergenceError("not finite")
        return steps

    with InterleavingExecutor(2) as executor:
        futures = [executor.submit(job, steps) for steps in (2, 4)]
        wait(futures, timeout=60)
    assert isinstance(futures[0].exception(), DivergenceError)
    assert futures[1].result() == 4
    assert [event for event in events if event[0] == 4] == [(4, number) for number in range(4)]


def test_leaving_the_executor_closes_unfinished_jobs() -> None:
    closed = []

    def job(_: Any) -> Generator[None, None, None]:
        try:
            while True:
                yield
        finally:
            closed.append(True)

    with InterleavingExecutor(1) as executor:
        executor.submit(job, None)
    assert closed == [True]


def test_runs_in_turn_have_the_results_of_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, in_turn = small_plan(tmp_path / "alone"), small_plan(tmp_path / "in-turn")
    with SerialExecutor() as serial:
        run_campaign(alone, serial, observer=Log())
    monkeypatch.setattr(
        loop,
        "make_static_step",
        lambda config, run, warn: StaticStep(run.state, run.train_loader, None),
    )
    with InterleavingExecutor(3) as interleaving:
        assert run_campaign(in_turn, interleaving, observer=Log()) == []
    assert results(in_turn) == results(alone)
