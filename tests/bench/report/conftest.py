"""Runs for the tests of the report."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import make_record, write_run

from ccloss.training.records import Record, RunFolder

MakeRecord = Callable[..., Record]
MakeRun = Callable[..., RunFolder]


@pytest.fixture
def record() -> MakeRecord:
    return make_record


@pytest.fixture
def run(tmp_path: Path) -> MakeRun:
    """Writes a run to the folder of the test."""
    return lambda *args, **changes: write_run(tmp_path / "runs", *args, **changes)
