"""A short form of the tests with kills and full disks; ``make faults`` runs the long form."""

from pathlib import Path

import faults

from processes import run_forked


def test_faults_change_no_result(tmp_path: Path) -> None:
    code, printed = run_forked(tmp_path, faults.main, ["--only", "train", "--every", "15"])
    assert code == 0, printed
    assert "0 tracebacks, 0 hangs, 0 differences" in printed.splitlines()[-1]
