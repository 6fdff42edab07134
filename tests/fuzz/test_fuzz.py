"""A short form of the fuzz tests; ``make fuzz`` runs the long form."""

from pathlib import Path

import fuzz
from processes import run_forked


def test_no_faults(tmp_path: Path) -> None:
    counts = ["--commands", "15", "--calls", "200", "--folders", "10", "--images", "10"]
    code, printed = run_forked(tmp_path, fuzz.main, ["--seed", "1", *counts])
    assert code == 0, printed
    assert printed.splitlines()[-1] == (
        "15 command lines, 200 library calls, 10 run folders, 10 image folders: "
        "0 tracebacks, 0 hangs, 0 silent differences"
    )
