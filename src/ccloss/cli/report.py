"""``ccloss report``: page and tables of existing runs."""

from collections.abc import Sequence
from pathlib import Path

from ccloss.errors import InputError
from ccloss.training.records import RunFolder, find_runs


def report(
    folder: Path = Path("runs"), /, *, out: Path | None = None, figures: bool = False
) -> None:
    """Write the page of the runs in a folder, and their tables as Markdown, LaTeX and CSV.

    Args:
        folder: Folder that contains the runs, at any depth.
        out: Folder of the report. By default the folder of the runs.
        figures: Draw figures (PNG and SVG) of the runs that have stored their test images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder that contains runs")
    runs = find_runs(folder)
    if not runs:
        raise InputError(f"{folder} contains no runs; create some with `ccloss compare`")
    write_report(runs, out or folder, figures)


def write_report(runs: Sequence[RunFolder], out: Path, figures: bool) -> None:
    """Writes the report and prints the path of every file."""
    from ccloss.bench.report import files

    for path in files.write(runs, out, draw=figures):
        print(path)
