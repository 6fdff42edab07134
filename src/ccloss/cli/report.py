"""``ccloss report``: page and tables of existing runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from ccloss.cli.console import print_line
from ccloss.errors import InputError

if TYPE_CHECKING:
    from ccloss.bench.results import Results


def report(runs: Path = Path("runs"), /, *, out: Path | None = None, figures: bool = False) -> None:
    """Write the page of some runs, and their tables as Markdown, LaTeX and CSV.

    Args:
        runs: Folder that contains runs or campaign files (.jsonl) at any depth, or one such file.
        out: Folder of the report. By default the folder of the runs.
        figures: Draw figures (PNG and SVG) of the runs that have stored their test images.
    """
    from ccloss.bench.results import read_runs

    results = read_runs(runs)
    if not results.runs and not results.problems:
        raise InputError(f"{runs} contains no runs; create some with `ccloss compare`")
    write_report(results, out or (runs if runs.is_dir() else runs.parent), figures)


def write_report(results: "Results", out: Path, figures: bool) -> None:
    """Writes the report; prints what was left out, and the path of every file."""
    from ccloss.bench.report import files

    paths = files.write(results, out, draw=figures)
    for problem in results.problems:
        print_line(f"left out ({problem.state}): {problem.source}: {problem.reason}")
    for line in files.problems_of_figures(results) if figures else ():
        print_line(f"not in the figures: {line}")
    for path in paths:
        print_line(str(path))
