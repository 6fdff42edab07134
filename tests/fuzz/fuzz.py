"""Fuzz tests of the command, the library, run folders and image folders.

    python tests/fuzz/fuzz.py --seed 0 --commands 2000 --calls 3000 --folders 500 --images 300

The last line counts the cases, and the tracebacks, hangs and silent differences among them. The
exit code is 1 if there are any.
"""

import argparse
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import command_lines
import image_folders
import library_calls
import run_folders
import torch
from fuzz_report import Report


def main(command_line: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("commands", "calls", "folders", "images"):
        parser.add_argument(f"--{name}", type=int, default=0)
    arguments = parser.parse_args(command_line)
    torch.set_num_threads(1)
    os.environ["COLUMNS"] = "1000"  # tables do not fold long names
    warnings.simplefilter("ignore")
    report, chance = Report(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        workplace = Path(folder)
        os.chdir(workplace)
        command_lines.run(report, chance, arguments.commands, workplace / "commands")
        library_calls.run(report, chance, arguments.calls)
        if arguments.folders:
            run_folders.run(report, chance, arguments.folders, workplace / "folders")
        image_folders.run(report, chance, arguments.images, workplace / "images")
    print(report.summary())
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
