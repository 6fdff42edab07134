"""Progress display of campaigns."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from campaigns import small_plan
from ccloss.bench.campaign.cost import Cost
from ccloss.bench.campaign.plan import Run
from ccloss.bench.campaign.scheduler import Outcome
from ccloss.cli import console as screen
from ccloss.cli.console import CampaignScreen


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return small_plan(tmp_path, rounds=1, losses="ce,cc,focal")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    return now


def costs(*left: int) -> list[Cost]:
    """Costs of runs of 100 steps of one second."""
    return [Cost(100, steps, 100.0, measured=False) for steps in left]


def shown(runs: list[Run], left: list[Cost], slots: int) -> tuple[CampaignScreen, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=False)
    return CampaignScreen(runs, left, slots, console), text


def write_progress(run: Run, step: int) -> None:
    run.folder.path.mkdir(parents=True, exist_ok=True)
    line = {"epoch": 1, "step": step, "terms": {"total": 0.5}, "evaluation": {"accuracy": 91.5}}
    run.folder.append_metrics(line)


def test_serial_campaign_prints_lines(runs: list[Run], clock: list[float]) -> None:
    runs[0].folder.path.mkdir(parents=True)
    runs[0].folder.record.touch()  # marks the run as finished
    campaign, text = shown(runs, costs(0, 100, 100), slots=1)
    with campaign:
        campaign.started(runs[1])
        clock[0] = 50  # half of the estimated time
        campaign.ended(Outcome(runs[1]))
        campaign.started(runs[2])
        campaign.ended(Outcome(runs[2], error="it\nbroke"))
    assert text.getvalue().splitlines() == [
        "1 of 3 runs already finished",
        "2 runs to execute: 200 steps, about 3 min 20 s left",
        f"[2/3] {runs[1].name}, about 3 min 20 s left",
        f"[3/3] {runs[2].name}, about 50 s left",
        f"failed: {runs[2].name}: it broke",
    ]


def test_run_killed_before_its_record_is_not_finished(runs: list[Run]) -> None:
    campaign, text = shown(runs, costs(0, 0, 0), slots=1)
    with campaign:
        campaign.started(runs[0])
    assert text.getvalue().splitlines()[0].startswith("3 runs to execute: 0 steps")


def test_time_left_includes_running_runs(runs: list[Run], clock: list[float]) -> None:
    campaign, _ = shown(runs, costs(100, 100, 100), slots=2)
    campaign.started(runs[0])
    campaign.started(runs[1])
    write_progress(runs[0], step=60)
    write_progress(runs[1], step=15)
    clock[0] = 150  # 75 of 300 seconds are done: twice the estimated time
    assert campaign._time_left() == "about 7 min 30 s left"


def test_table_of_running_runs(runs: list[Run], clock: list[float]) -> None:
    campaign, text = shown(runs, costs(100, 100, 100), slots=2)
    campaign.started(runs[0])
    campaign.started(runs[1])
    write_progress(runs[1], step=4)
    campaign.console.print(campaign._table())
    lines = text.getvalue().splitlines()
    first, second = ([line for line in lines if run.name in line][-1] for run in runs[:2])
    assert first.split()[-1] == "0/3"
    assert second.split()[-4:] == ["1/3", "0.5", "91.50", "%"]


def test_waiting_is_printed_once(runs: list[Run], clock: list[float]) -> None:
    campaign, text = shown(runs, costs(0, 0, 100), slots=1)
    campaign.waiting(runs[2:])
    campaign.waiting(runs[2:])
    assert text.getvalue().splitlines() == ["waiting for 1 run locked by another process"]


def test_table_is_removed_from_the_terminal(runs: list[Run]) -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with CampaignScreen(runs, costs(100, 100, 100), 2, console) as campaign:
        campaign.started(runs[0])
        campaign.live.refresh()
    assert runs[0].name in text.getvalue()
    assert text.getvalue().endswith("\x1b[2K")  # the table is erased
