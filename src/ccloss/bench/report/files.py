"""A whole report on disk: the page, the tables, and optionally figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ccloss.bench.groups import Setting, method_order, settings
from ccloss.bench.report import figures, method_table, page, paper_tables, samples, verdicts
from ccloss.bench.results import Results
from ccloss.training.records import folder_name


def write(results: Results, out: Path, *, draw: bool) -> list[Path]:
    """Writes a report and returns the paths of its files, the page last.

    ``tables/`` holds the comparison of methods of each setting, the paper's tables with published
    and measured numbers, and the verdicts; ``figures/`` the figures; ``index.html`` shows all of
    it. If there are several settings, each has a folder of its own.

    Args:
        results: any runs.
        out: folder of the report.
        draw: also draw figures of the runs that have stored their test images.

    Raises:
        InputError: there is no run, or there is a file where a folder should be.
    """
    found = settings(results.records)
    methods = method_order(results.records)
    runs = {id(run.record): run for run in results.runs}
    written = []
    for setting, name in zip(found, _folders(found), strict=True):
        written += method_table.write(setting, out / "tables" / name)
        if draw:
            own = {
                method: [runs[id(record)] for record in rounds.values()]
                for method, rounds in setting.methods.items()
            }
            written += figures.draw_all(own, out / "figures" / name, methods)
    if results.runs:
        grids = [grid for grid in paper_tables.grids(results.records) if grid.is_informative]
        written += paper_tables.write(grids, out)
        written += verdicts.write(verdicts.judge(results.records), out)
    return [*written, page.write(results, out)]


def problems_of_figures(results: Results) -> Iterator[str]:
    """Why the figures do not show stored images, one line for each missing or damaged file."""
    runs = {id(run.record): run for run in results.runs}
    for setting in settings(results.records):
        for rounds in setting.methods.values():
            run = runs[id(next(iter(rounds.values())))]
            if run.folder is not None:
                yield from samples.problems(run.folder, run.record)


def _folders(found: Sequence[Setting]) -> list[str]:
    """Name of the folder of each setting, all different; a single setting needs none."""
    if len(found) == 1:
        return [""]
    names: list[str] = []
    for setting in found:
        name = folder_name(setting.title).strip("-")
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names
