"""A short form of the fuzz tests; ``make fuzz`` runs the long form."""

import subprocess
import sys
from pathlib import Path


def test_no_faults() -> None:
    script = Path(__file__).with_name("fuzz.py")
    counts = ["--commands", "15", "--calls", "200", "--folders", "10", "--images", "10"]
    done = subprocess.run(
        [sys.executable, str(script), "--seed", "1", *counts], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        "15 command lines, 200 library calls, 10 run folders, 10 image folders: "
        "0 tracebacks, 0 hangs, 0 silent differences"
    )
