"""A short form of the tests with kills and full disks; ``make faults`` runs the long form."""

import subprocess
import sys
from pathlib import Path


def test_faults_change_no_result() -> None:
    script = Path(__file__).with_name("faults.py")
    done = subprocess.run(
        [sys.executable, str(script), "--only", "train", "--every", "15"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 tracebacks, 0 hangs, 0 differences" in done.stdout.splitlines()[-1]
