"""A whole report: the page, the tables and, if wanted, figures."""

from collections.abc import Sequence
from pathlib import Path

from ccloss.records import RunFolder
from ccloss.report import claims, reproduction


def write(runs: Sequence[RunFolder], folder: Path, figures: bool) -> list[Path]:
    """Writes everything that runs have to show, and returns what was written, the page last."""
    records = [run.read_record() for run in runs if run.finished]
    return [
        *reproduction.write(reproduction.grids(records), folder),
        *claims.write(claims.judge(records), folder),
    ]
