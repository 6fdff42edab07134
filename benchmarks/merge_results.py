"""Adds results to ``benchmarks/results``.

python -m benchmarks.merge_results runs/mnist benchmarks/results/mnist.jsonl
    writes the finished runs below a folder to one JSON Lines file; with --without-epochs, their
    records alone, which are a fifth of the size
python -m benchmarks.merge_results OUT
    adds the files that benchmarks.device has written to OUT
"""

import argparse
import json
from pathlib import Path

from benchmarks.measurement import RESULTS
from ccloss.bench.results import write_campaign


def merge_device(out: Path, results: Path = RESULTS) -> list[str]:
    """Appends each file to the file of the same name. A file that was added before is completed.

    Returns:
        A line for each file.

    Raises:
        ValueError: the files are those of a dry run.
    """
    files = sorted(out.glob("*.jsonl"))
    for file in files:
        lines = file.read_text().splitlines()
        if lines and json.loads(lines[0]).get("dry_run"):
            raise ValueError(f"{file} is of a dry run, whose numbers mean nothing")
    added = []
    for file in files:
        target = results / file.name
        new = file.read_text().splitlines()
        known = target.read_text().splitlines() if target.exists() else []
        if new and new[0] in known:
            new = [line for line in new if line not in known]
        target.write_text("".join(f"{line}\n" for line in [*known, *new]))
        added.append(f"{target}: {len(new)} lines added")
    return added


def main() -> None:
    """Reads the command line and adds the results."""
    parser = argparse.ArgumentParser(description="Adds results to benchmarks/results.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--without-epochs", action="store_true")
    arguments = parser.parse_args()
    if arguments.file is None:
        print("\n".join(merge_device(arguments.folder)))
    else:
        runs = write_campaign(arguments.folder, arguments.file, epochs=not arguments.without_epochs)
        print(f"{arguments.file}: {runs} runs")


if __name__ == "__main__":
    main()
