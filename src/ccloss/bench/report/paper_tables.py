"""The paper's tables with published and measured accuracies side by side.

One grid holds the runs of one table that deviate from the paper's protocol in the same way. A cell
has the published number and the measured rounds, and is compared with the row that the paper
recommends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccloss.bench.comparisons import Comparison
from ccloss.bench.groups import TableColumn, table_columns, values
from ccloss.bench.paper.claims import ACCURACY, FEATURE_RATIO
from ccloss.bench.paper.consistency import possible_p
from ccloss.bench.paper.gaps import gaps
from ccloss.bench.paper.tables import (
    BASELINES,
    FIGURE3,
    P_VALUES,
    TABLE3,
    TABLES,
    Column,
    Deviations,
    Published,
    Table,
)
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.printed import MARK, Cell, PrintedTable, to_latex, to_markdown
from ccloss.bench.report.text import NONE, csv_text, interval_text, listed, p_text, ratio_text, span
from ccloss.bench.scale import scale_text
from ccloss.bench.statistics import (
    AccuracyMargin,
    Interval,
    accuracy_margin,
    mean_interval,
    one_sample_p,
)
from ccloss.training.records import Record, folder_name


@dataclass(frozen=True)
class GridCell:
    """What was published and measured in one cell.

    Attributes:
        published: ``None`` if the paper has no number.
        rounds: seed -> accuracy, in %; empty if nothing was measured.
        comparison: the reference row minus this row; ``None`` for the reference row itself.
        best: whether the reference row is significantly above every other row of its column.
        feature_ratio: mean over the rounds; ``None`` if it is undefined in one of them.
    """

    published: Published | None
    rounds: Mapping[int, float]
    comparison: Comparison | None = None
    best: bool = False
    feature_ratio: float | None = None

    @property
    def accuracy(self) -> AccuracyMargin | None:
        """Mean ± margin of the rounds."""
        return accuracy_margin(list(self.rounds.values())) if self.rounds else None

    @property
    def interval(self) -> Interval | None:
        """95 % t interval of the mean; ``None`` below three rounds and without spread."""
        return mean_interval(list(self.rounds.values()))

    @property
    def differs(self) -> bool:
        """Whether it differs significantly from the reference row."""
        return self.comparison is not None and self.comparison.sign != 0


@dataclass(frozen=True)
class Grid:
    """One table of the paper as it was run at one scale.

    Attributes:
        table: of the paper.
        deviations: fields in which these runs deviate from the protocol.
        columns: the columns with a measured cell.
        rows: the table's rows with a measured or published cell, in its order.
        cells: (row, column) -> cell, measured or not.
        scale: the deviations in words.
        runs: the measured columns.
    """

    table: Table
    deviations: Deviations
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, Column], GridCell]
    scale: str
    runs: tuple[TableColumn, ...]

    @property
    def name(self) -> str:
        """Name of its files and anchors: ``table1``, or ``table1-epochs-5`` with deviations."""
        return self.table.name + "".join(f"-{name}-{value}" for name, value in self.deviations)

    @property
    def shows_published(self) -> bool:
        """Whether the paper has a number for one of its columns."""
        return any(
            self.cells[row, column].published for row in self.rows for column in self.columns
        )

    @property
    def is_informative(self) -> bool:
        """Whether a measured cell can be compared with another one, or with a published number."""
        measured = [key for key, cell in self.cells.items() if cell.rounds]
        columns = {column for _, column in measured}
        return self.shows_published or len(columns) < len(measured)


def grids(records: Sequence[Record]) -> list[Grid]:
    """One grid for each table and scale with a measured cell, in the order of the paper."""
    found = []
    for table in TABLES.values():
        by_scale: dict[Deviations, list[TableColumn]] = {}
        for column in sorted(table_columns(records, table), key=lambda each: len(each.deviations)):
            by_scale.setdefault(column.deviations, []).append(column)
        found += [_grid(table, columns) for columns in by_scale.values()]
    return found


def _grid(table: Table, columns: Sequence[TableColumn]) -> Grid:
    cells = {
        (row, each.column): _cell(row, each, _is_best(each))
        for each in columns
        for row in table.rows
    }
    return Grid(
        table=table,
        deviations=columns[0].deviations,
        columns=tuple(each.column for each in columns),
        rows=tuple(
            row
            for row in table.rows
            if any(cell.rounds or cell.published for (own, _), cell in cells.items() if own == row)
        ),
        cells=cells,
        scale=scale_text(columns[0], [each.column for each in columns]),
        runs=tuple(columns),
    )


def _cell(row: str, column: TableColumn, best: bool) -> GridCell:
    rounds = column.rows.get(row, {})
    reference = column.table.reference_row(column.column)
    ratios = list(values(rounds, FEATURE_RATIO).values())
    compared = row != reference and bool(rounds)
    return GridCell(
        published=column.table.published.get((row, column.column)),
        rounds={seed: record.accuracy for seed, record in rounds.items()},
        comparison=column.comparison(reference, row, ACCURACY) if compared else None,
        best=best and row == reference,
        feature_ratio=sum(ratios) / len(ratios) if ratios and len(ratios) == len(rounds) else None,
    )


def _is_best(column: TableColumn) -> bool:
    reference = column.table.reference_row(column.column)
    others = [row for row in column.table.rows if row != reference]
    if not others or any(row not in column.rows for row in column.table.rows):
        return False
    return all(column.comparison(reference, row, ACCURACY).sign == 1 for row in others)


# ---- texts ---------------------------------------------------------------------------------------


def caption(grid: Grid) -> str:
    """What was run and at what scale, and what signs mean; plain text."""
    return f"{description(grid)} {reading_note()}"


def description(grid: Grid) -> str:
    """What was run: scale, rounds, reference rows, and at full protocol the gaps of the paper."""
    counts = [len(cell.rounds) for cell in grid.cells.values() if cell.rounds]
    sentences = [f"{grid.table.title}, measured {grid.scale}", f"{span(counts, 'round')} per cell"]
    if not grid.deviations:
        sentences.append(
            "Choices of this library where the paper is silent: " + "; ".join(gaps(grid.columns))
        )
    if grid.table is TABLE3:
        sentences += [
            "The baseline is the published accuracy that the paper tests against. Its one-sample "
            "test treats that number as exact. CE + CAM, which does not use the loss, is tested in "
            "the same way",
            "Possible p-values are those that the published mean ± margin of five rounds allows",
        ]
    else:
        references = dict.fromkeys(grid.table.reference_row(column) for column in grid.columns)
        sentences.append(
            f"Rows are compared with the one that the paper recommends: {listed(references)}"
        )
    if grid.table is FIGURE3:
        sentences.append(
            "The feature ratio is mean intra-class over mean inter-class squared distance of the "
            "features: lower is more compact"
        )
    return ". ".join(sentences) + "."


def reading_note() -> str:
    """What the numbers and signs of every grid mean."""
    return (
        "Measured accuracy is that of the last epoch as mean ± margin, the largest absolute "
        "deviation of a round from the mean; in brackets the 95 % t interval of the mean. "
        f"{MARK} marks a row that differs significantly from the reference row of its column. "
        "A reference row that is significantly above every other row is bold."
    )


def printed(grid: Grid) -> PrintedTable:
    """The printed table of a grid, its columns grouped by data set and backbone."""
    if grid.table is TABLE3:
        return _printed_baselines(grid)
    shown = ["published"] if grid.shows_published else []
    shown += ["measured"] + (["feature ratio"] if grid.table is FIGURE3 else [])
    cells = [(column, name) for column in grid.columns for name in shown]
    headers = [("", grid.table.varies[0].replace("_", " "))]
    headers += [(str(column), name) for column, name in cells]
    lines = [
        [Cell(row), *(_printed_cell(grid.cells[row, column], name) for column, name in cells)]
        for row in grid.rows
    ]
    return PrintedTable(headers, lines)


def _printed_cell(cell: GridCell, shown: str) -> Cell:
    if shown == "published":
        return Cell(cell.published.text if cell.published else NONE)
    if shown == "feature ratio":
        return Cell(ratio_text(cell.feature_ratio))
    return Cell(_measured(cell.accuracy, cell.interval), cell.best, MARK if cell.differs else "")


def _measured(accuracy: AccuracyMargin | None, interval: Interval | None) -> str:
    if accuracy is None:
        return NONE
    return str(accuracy) if interval is None else f"{accuracy} ({interval_text(interval)})"


def _printed_baselines(grid: Grid) -> PrintedTable:
    """Table 3: one line for each column and method, CE + CAM as a control."""
    headers = [
        ("", "column"),
        ("", "method"),
        ("accuracy", "published"),
        ("accuracy", "measured"),
        ("accuracy", "baseline"),
        ("p measured", "one-sided"),
        ("p measured", "two-sided"),
        ("p published", "printed"),
        ("p published", "possible one-sided"),
        ("p published", "possible two-sided"),
    ]
    lines = []
    for run in grid.runs:
        for method in ("cc", "ce+cam"):
            rounds = [record.accuracy for record in run.setting.get(method, {}).values()]
            if rounds:
                lines.append([Cell(text) for text in _baseline_line(run.column, method, rounds)])
    return PrintedTable(headers, lines)


def _baseline_line(column: Column, method: str, rounds: Sequence[float]) -> list[str]:
    measured = _measured(accuracy_margin(rounds), mean_interval(rounds))
    baseline = BASELINES.get(column)
    if baseline is None:
        return [str(column), method, NONE, measured, *[NONE] * 6]
    p_values = [
        p_text(one_sample_p(rounds, baseline.mean, side)) for side in ("greater", "two-sided")
    ]
    if method != "cc":
        return [str(column), method, NONE, measured, baseline.text, *p_values, *[NONE] * 3]
    printed = TABLE3.published["cc", column]
    possible = [possible_p(printed, baseline, side) for side in ("greater", "two-sided")]
    ranges = [f"{p_text(each.low)} to {p_text(each.high)}" for each in possible]
    published = [p_text(P_VALUES[column]), *ranges]
    return [str(column), method, printed.text, measured, baseline.text, *p_values, *published]


# ---- files ---------------------------------------------------------------------------------------


def to_csv(grid: Grid) -> str:
    """One line per cell, numbers in full precision; undefined numbers are empty."""
    return csv_text(
        [
            _plain(grid, row, column, grid.cells[row, column])
            for row in grid.rows
            for column in grid.columns
        ]
    )


def _plain(grid: Grid, row: str, column: Column, cell: GridCell) -> dict[str, Any]:
    published, accuracy, interval = cell.published, cell.accuracy, cell.interval
    comparison = cell.comparison
    return {
        "table": grid.table.name,
        "row": row,
        "column": str(column),
        "deviations": ";".join(f"{name}={value}" for name, value in grid.deviations),
        "published_mean": published and published.mean,
        "published_margin": published and published.margin,
        "rounds": len(cell.rounds),
        "mean": accuracy and accuracy.mean,
        "margin": accuracy and accuracy.margin,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "reference_minus_row": comparison and comparison.estimate,
        "p": comparison and comparison.p,
        "p_adjusted": comparison and comparison.p_adjusted,
        "method": comparison and comparison.method,
        "feature_ratio": cell.feature_ratio,
    }


def write(found: Sequence[Grid], folder: Path) -> list[Path]:
    """Writes ``tables/<name>.md``, ``.tex`` and ``.csv`` of each grid and returns their paths.

    Raises:
        InputError: there is a file where the folder should be.
        OSError: a file could not be written.
    """
    texts = {}
    for grid in found:
        name, table, text = folder_name(grid.name), printed(grid), caption(grid)
        texts[f"{name}.md"] = to_markdown(text, [table])
        texts[f"{name}.tex"] = to_latex(text, [table], name)
        texts[f"{name}.csv"] = to_csv(grid)
    return write_texts(folder / "tables", texts)
