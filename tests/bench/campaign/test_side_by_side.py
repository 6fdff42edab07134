"""How many runs go side by side: what is measured decides."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ccloss.bench.campaign import side_by_side
from ccloss.bench.campaign.side_by_side import quickest, rates
from ccloss.cli import main
from ccloss.training.records import find_runs
from runs import small_config

SMALL = ["--data", "digits", "--train-limit", "130", "--test-limit", "50", "--epochs", "1"]


def machine(*known: float) -> Callable[[int], float]:
    """Steps a second of 1, 2, 4, ... runs; memory for so many and no more."""

    def measured(runs: int) -> float:
        place = runs.bit_length() - 1
        if place >= len(known):
            raise torch.OutOfMemoryError("out of memory")
        return known[place]

    return measured


@pytest.mark.parametrize(
    ("speeds", "limit", "found", "best"),
    [
        ((10, 19, 30, 31, 99), 64, {1: 10, 2: 19, 4: 30, 8: 31}, 8),  # no gain worth it at 8
        ((10, 9, 99), 64, {1: 10, 2: 9}, 1),
        ((10, 19, 30), 3, {1: 10, 2: 19}, 2),
        ((10, 19, 30), 1, {1: 10}, 1),
        ((10, 19), 64, {1: 10, 2: 19}, 2),  # 4 have no room
    ],
)
def test_doubles_while_it_pays_and_there_is_room(speeds, limit, found, best):
    assert side_by_side._doubled(machine(*speeds), limit) == found
    assert quickest(found) == best


def test_measures_processes_that_work_at_once(monkeypatch):
    """The second process waits until the first is there; both then do steps."""
    monkeypatch.setattr(side_by_side, "MEASURED_SECONDS", 0.01)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = rates(small_config(loss="ce"), most=2)
    assert list(found) == [1, 2]
    assert all(rate > 0 for rate in found.values())


def test_a_process_that_never_comes_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side, "_MEETING_SECONDS", 0.05)
    probe = side_by_side._Probe(small_config(loss="ce"), 10, tmp_path, others=2)
    with pytest.raises(TimeoutError, match="2 processes did not start"):
        side_by_side._rate(probe)


def test_auto_runs_as_many_as_were_quickest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def found(experiment: object, most: int, data_root: Path | None) -> dict[int, float]:
        asked.append(most)
        return {1: 2.0, 2: 3.0}

    monkeypatch.setattr(side_by_side, "rates", found)
    command = ["compare", *SMALL, "--losses", "ce", "--rounds-per-device", "auto"]
    assert main([*command, "--rounds", "2", "--out", str(tmp_path / "two")]) == 0
    assert "rounds a device: 2 (1: 2 steps/s, 2: 3 steps/s)" in capsys.readouterr().err
    assert len(find_runs(tmp_path / "two")) == 2
    assert main([*command, "--rounds", "1", "--out", str(tmp_path / "one")]) == 0
    assert asked == [2]  # one run alone is not worth a measurement
