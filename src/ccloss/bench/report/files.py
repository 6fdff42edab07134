"""A whole report on disk: the page, the tables and, where wanted, figures."""

from collections.abc import Sequence
from pathlib import Path

from ccloss.bench.report import claims, figures, page, reproduction, runs, tables
from ccloss.bench.report.protocol import settings
from ccloss.training.records import RunFolder, folder_name


def write(folders: Sequence[RunFolder], out: Path, *, draw: bool) -> list[Path]:
    """Writes what runs have to show, and returns what was written, the page last.

    ``tables/`` has the comparison of methods of each setting, the paper's tables beside what was
    measured, and the verdicts; ``figures/`` the pictures for print; ``index.html`` shows it all.
    Where there are several settings, each has a folder of its own.

    Args:
        folders: any runs, finished or not.
        out: where the report goes.
        draw: draw figures as well.

    Raises:
        InputError: there is no run, a file stands where a folder should be, or figures are wanted
            and no run has kept its test images.
    """
    found = runs.read(folders)
    parted = settings(found.records)
    written = []
    for setting in parted:
        name = folder_name(setting.title).strip("-") if len(parted) > 1 else ""
        rows, caption = tables.comparison(setting.records), tables.describe(setting.records)
        written += tables.write(rows, out / "tables" / name, caption)
        if draw:
            chosen = {id(record) for record in setting.records}
            own = [run.folder for run in found.finished if id(run.record) in chosen]
            written += figures.draw_all(own, out / "figures" / name)
    if found.records:
        grids = [grid for grid in reproduction.grids(found.records) if grid.compares]
        written += reproduction.write(grids, out)
        written += claims.write(claims.judge(found.records), out)
    return [*written, page.write(folders, out)]
