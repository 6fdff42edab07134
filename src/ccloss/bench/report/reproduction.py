"""The paper's tables beside what was measured.

Runs of one table that depart from the paper's protocol in the same way make one grid. A cell of it
has the published number and the measured rounds; it is compared with the row of its column that the
paper argues for, round by round over the seeds that both have. Those p-values are adjusted over the
grid (Holm), so that a mark in it is as rare by chance as a single test's would be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from statistics import median, median_low, stdev
from typing import Any, NamedTuple

from ccloss.bench.paper import (
    BASELINES,
    FIGURE3,
    P_VALUES,
    TABLE3,
    TABLES,
    Column,
    Published,
    Table,
)
from ccloss.bench.report.folder import write_texts
from ccloss.bench.report.tables import mean_of, ratio_text
from ccloss.bench.report.text import csv_text, escape_latex, escape_markdown, markdown_table
from ccloss.bench.statistics import (
    AccuracyMargin,
    Alternative,
    Interval,
    accuracy_margin,
    bootstrap_interval,
    holm,
    margin_p_range,
    one_sample_test,
    paired_test,
    smallest_difference,
)
from ccloss.errors import InputError
from ccloss.training.records import Record

LEVEL = 0.05
"""Below which an adjusted p-value is called significant."""

MARK = "*"
"""Stands after a cell that differs significantly from the reference row of its column."""

REFERENCES: Mapping[str, str] = {
    "table1": "cc",
    "table2": "batch=32",
    "table3": "cc",
    "table4": "cc",
    "table5": "lambda=1",
    "figure3": "cc",
}
"""Table -> the row that the paper argues for."""

CARS_BATCH = "batch=16"
"""That row of Table 2 on Cars-196 (sec. 3.6)."""

NONE = "–"
"""Stands where nothing was published, run or defined."""

Departures = tuple[tuple[str, Any], ...]
Place = tuple[str, Column]
Rounds = Mapping[int, Record]


@dataclass(frozen=True)
class Paired:
    """A cell against the reference row of its column, over the seeds that both have.

    Attributes:
        reference: name of the reference row.
        seeds: (rounds,) seeds of both, two or more.
        difference: mean of cell minus reference, in percentage points.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        sd: standard deviation of the differences, in percentage points; 0 where they are all equal.
        p: two-sided, of the paired t-test.
        p_holm: the same, adjusted over the grid.
    """

    reference: str
    seeds: tuple[int, ...]
    difference: float
    low: float
    high: float
    sd: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Baseline:
    """A cell of Table 3: the paper's own test of CC-Loss against the best other published one.

    Attributes:
        published: what is tested against.
        one_sided: measured p of "above"; ``None`` below two rounds.
        two_sided: measured p of "other than"; likewise.
        printed: p as the paper prints it.
        possible_one_sided: the p-values that the published mean ± margin allows, one-sided.
        possible_two_sided: likewise, two-sided.
    """

    published: Published
    one_sided: float | None
    two_sided: float | None
    printed: float
    possible_one_sided: Interval
    possible_two_sided: Interval


@dataclass(frozen=True)
class GridCell:
    """What was published and measured of one cell.

    Attributes:
        published: ``None`` where the paper has nothing.
        rounds: seed -> accuracy, in %; empty where nothing was measured.
        accuracy: mean ± margin of the rounds; ``None`` without any.
        interval: 95 % bootstrap interval of the mean; ``None`` below two rounds.
        p_published: two-sided, of the paper's one-sample t-test against the published mean;
            ``None`` without one or below two rounds.
        paired: against the reference row; ``None`` below two shared seeds and for that row.
        best: significantly above every other row of its column, all of which were run.
        feature_ratio: mean over the rounds; ``None`` if it is undefined in one of them.
        baseline: of Table 3 alone, in the paper's columns.
    """

    published: Published | None
    rounds: Mapping[int, float]
    accuracy: AccuracyMargin | None
    interval: Interval | None
    p_published: float | None
    paired: Paired | None
    best: bool
    feature_ratio: float | None
    baseline: Baseline | None

    @property
    def differs(self) -> bool:
        """Whether it differs significantly from the reference row."""
        return self.paired is not None and self.paired.p_holm < LEVEL


@dataclass(frozen=True)
class Grid:
    """One table of the paper as it was run at one scale.

    Attributes:
        table: of the paper.
        departures: fields in which these runs are not the paper's protocol, with their values.
        columns: those with a measured cell; the paper's first, in its order.
        rows: all of the table's, in its order.
        cells: (row, column) -> cell, measured or not.
    """

    table: Table
    departures: Departures
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: Mapping[Place, GridCell]

    @property
    def name(self) -> str:
        """Of its files and anchors: ``table1``, or ``table1-epochs-5`` where runs depart."""
        parts = (f"-{name}-{value}" for name, value in self.departures)
        return self.table.name + "".join(parts)

    @property
    def compares(self) -> bool:
        """Whether a measured cell has a published number, or another one in its column."""
        measured = [place for place, cell in self.cells.items() if cell.rounds]
        columns = {column for _, column in measured}
        published = any(self.cells[place].published for place in measured)
        return published or len(columns) < len(measured)

    @property
    def smallest_difference(self) -> float | None:
        """Percentage points that a paired comparison here would have shown four times in five.

        Of the median spread and number of rounds, in one test at 0.05: Holm's adjustment asks for
        more. ``None`` without two paired rounds, or where their differences do not spread.
        """
        pairs = [cell.paired for cell in self.cells.values() if cell.paired]
        spread = median([pair.sd for pair in pairs]) if pairs else 0.0
        if spread == 0:
            return None
        return smallest_difference(spread, median_low(len(pair.seeds) for pair in pairs))


class Text(NamedTuple):
    """A cell of a printed grid.

    Attributes:
        text: without any markup.
        bold: significantly the best of its column.
        mark: :data:`MARK` or empty.
    """

    text: str
    bold: bool = False
    mark: str = ""


# ---- measuring -----------------------------------------------------------------------------------


def grids(records: Sequence[Record]) -> list[Grid]:
    """One grid a table and scale with at least one measured cell, in the order of the paper.

    Args:
        records: finished runs, of any experiments; those of no table are passed over.

    Raises:
        InputError: a cell has two runs of one seed.
    """
    return [
        _grid(table, departures, cells)
        for table in TABLES.values()
        for departures, cells in place(records, table).items()
    ]


def place(records: Sequence[Record], table: Table) -> dict[Departures, dict[Place, Rounds]]:
    """Departures -> (row, column) -> seed -> run, for the runs of a table; seeds in order.

    Raises:
        InputError: a cell has two runs of one seed.
    """
    placed: dict[Departures, dict[Place, dict[int, Record]]] = {}
    for record in records:
        match = table.match(record.experiment)
        if match is None:
            continue
        cell = placed.setdefault(match.departures, {})
        rounds = cell.setdefault((match.row, match.column), {})
        if record.seed in rounds:
            name = " ".join(f"{match.column}/{match.row}".split())  # a message is one line
            raise InputError(
                f"cell {name} of {table.name} has two runs with seed {record.seed}; leave one out"
            )
        rounds[record.seed] = record
    return {
        departures: {key: dict(sorted(rounds.items())) for key, rounds in cells.items()}
        for departures, cells in placed.items()
    }


def reference_row(table: Table, column: Column) -> str:
    """The row of a column that the paper argues for, and others are compared with."""
    if table.name == "table2" and column.data == "cars196":
        return CARS_BATCH
    return REFERENCES[table.name]


def _grid(table: Table, departures: Departures, measured: Mapping[Place, Rounds]) -> Grid:
    columns = _columns(table, measured)
    places = [(row, column) for row in table.rows for column in columns]
    accuracies = {
        place: {seed: run.accuracy for seed, run in measured.get(place, {}).items()}
        for place in places
    }
    pairs = _paired(table, accuracies)
    best = {(row, column) for column in columns if (row := _best(table, column, accuracies))}
    cells = {
        place: GridCell(
            published=table.published.get(place),
            rounds=accuracies[place],
            **_summary(list(accuracies[place].values()), table.published.get(place)),
            paired=pairs.get(place),
            best=place in best,
            feature_ratio=mean_of(measured.get(place, {}).values(), "feature_ratio"),
            baseline=_baseline(table, place, list(accuracies[place].values())),
        )
        for place in places
    }
    return Grid(table, departures, columns, tuple(table.rows), cells)


def _columns(table: Table, measured: Mapping[Place, Rounds]) -> tuple[Column, ...]:
    """Columns with a measured cell, the paper's first."""
    met = dict.fromkeys(column for _, column in measured)
    own = [column for column in table.columns if column in met]
    return (*own, *(column for column in met if column not in own))


def _summary(values: Sequence[float], published: Published | None) -> dict[str, Any]:
    """What can be said of the rounds of one cell alone."""
    several = len(values) > 1  # one round says nothing about its spread
    return {
        "accuracy": accuracy_margin(values) if values else None,
        "interval": bootstrap_interval(values) if several else None,
        "p_published": _p(values, published.mean) if published else None,
    }


def _p(
    values: Sequence[float], constant: float, alternative: Alternative = "two-sided"
) -> float | None:
    """Of the paper's one-sample test, where there are rounds for one."""
    if len(values) < 2:
        return None
    return one_sample_test(values, constant, alternative=alternative).p_value


def _paired(table: Table, accuracies: Mapping[Place, Mapping[int, float]]) -> dict[Place, Paired]:
    """Every comparison with a reference row that has two rounds, adjusted over all of them."""
    pairs = {}
    for (row, column), rounds in accuracies.items():
        reference = reference_row(table, column)
        others = accuracies[reference, column]
        seeds = [seed for seed in rounds if seed in others]
        if row != reference and len(seeds) > 1:
            pairs[row, column] = _pair(reference, seeds, rounds, others)
    adjusted = holm([pair["p"] for pair in pairs.values()])
    return {
        place: Paired(**pair, p_holm=p)
        for (place, pair), p in zip(pairs.items(), adjusted, strict=True)
    }


def _pair(
    reference: str, seeds: Sequence[int], rounds: Mapping[int, float], others: Mapping[int, float]
) -> dict[str, Any]:
    test = paired_test([rounds[seed] for seed in seeds], [others[seed] for seed in seeds])
    return {
        "reference": reference,
        "seeds": tuple(seeds),
        "difference": test.difference,
        "low": test.interval.low,
        "high": test.interval.high,
        # The test has no effect size where nothing but rounding spreads.
        "sd": 0.0 if test.effect is None else stdev(rounds[s] - others[s] for s in seeds),
        "p": test.p_value,
    }


def _best(
    table: Table, column: Column, accuracies: Mapping[Place, Mapping[int, float]]
) -> str | None:
    """The row that is significantly above every other, or ``None``.

    It is chosen after a look at all rows, so that all pairs of the column are tested and adjusted,
    not only its own.
    """
    rows = list(table.rows)
    pairs = list(combinations(rows, 2))
    tests = []
    for first, second in pairs:
        a, b = accuracies[first, column], accuracies[second, column]
        seeds = [seed for seed in a if seed in b]
        if len(seeds) < 2:
            return None
        tests.append(paired_test([a[seed] for seed in seeds], [b[seed] for seed in seeds]))
    wins = dict.fromkeys(rows, 0)
    for (first, second), test, p in zip(
        pairs, tests, holm([test.p_value for test in tests]), strict=True
    ):
        if p < LEVEL:
            wins[first if test.difference > 0 else second] += 1
    # A single row has no one to be better than.
    return next((row for row, won in wins.items() if won == len(rows) - 1 > 0), None)


def _baseline(table: Table, place: Place, values: Sequence[float]) -> Baseline | None:
    column = place[1]
    if table is not TABLE3 or column not in BASELINES:
        return None
    baseline, printed = BASELINES[column], table.published[place]
    return Baseline(
        published=baseline,
        one_sided=_p(values, baseline.mean, "greater"),
        two_sided=_p(values, baseline.mean),
        printed=P_VALUES[column],
        possible_one_sided=possible_p(printed, baseline, "greater"),
        possible_two_sided=possible_p(printed, baseline, "two-sided"),
    )


def possible_p(printed: Published, baseline: Published, alternative: Alternative) -> Interval:
    """P-values that a published mean ± margin allows against a baseline, all rounded as printed."""
    return margin_p_range(
        printed.mean, printed.margin or 0.0, baseline.mean, alternative=alternative
    )


# ---- words ---------------------------------------------------------------------------------------

_WORDS: Mapping[str, str] = {
    "epochs": "at {value} epoch{s} instead of {usual}",
    "max_steps": "ended after {value} step{s} instead of the last epoch",
    "train_limit": "{value} training image{s} instead of all",
    "test_limit": "{value} test image{s} instead of all",
    "evaluate_every": "{value} epoch{s} between evaluations instead of {usual}",
    "precision": "in {value} instead of {usual}",
    "learning_rate": "at learning rate {value} instead of {usual}",
    "final_learning_rate": "at final learning rate {value} instead of {usual}",
    "clip_grad_norm": "with gradients clipped at norm {value} instead of {usual}",
    "head_norm": "with head normalisation {value} instead of {usual}",
    "final_pool": "with {value} instead of {usual} as fifth pooling",
}
"""Field of ``paper.SCALE`` -> what a departure in it is."""


def scale(table: Table, departures: Departures, columns: Sequence[Column]) -> str:
    """Departures in words; empty where there are none.

    Args:
        table: whose protocol is departed from.
        departures: fields with the runs' values.
        columns: whose runs they are; the protocol goes by the data set.
    """
    protocols = [
        table.cells(data=column.data, backbone=column.backbone)[0]
        .experiment.resolve(channels=3)
        .to_dict()
        for column in columns
    ]
    return "; ".join(
        _WORDS[name].format(
            value=_quantity(value),
            s="" if value == 1 else "s",
            usual=" or ".join(dict.fromkeys(_quantity(usual[name]) for usual in protocols)),
        )
        for name, value in departures
    )


def _quantity(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def caption(grid: Grid) -> str:
    """What was run at what scale, and what ±, intervals and marks mean; plain text."""
    counts = sorted({len(cell.rounds) for cell in grid.cells.values() if cell.rounds})
    words = scale(grid.table, grid.departures, grid.columns)
    sentences = [
        f"{grid.table.title}: the paper's numbers and what was measured",
        f"Measured {words or protocol_words(grid)}",
        f"{_span(counts)} a measured cell; {NONE} where there is no number",
        "Measured accuracy is that of the last epoch as mean ± margin, the largest absolute "
        "deviation of a round from the mean, as in the paper; in brackets the 95 % bootstrap "
        "interval of the mean",
        *(_baseline_words() if grid.table is TABLE3 else _comparison_words(grid)),
    ]
    if grid.table is FIGURE3:
        sentences.append(
            "The feature ratio is mean intra- over mean inter-class squared distance of the "
            "features, a mean over rounds: lower is tighter"
        )
    return ". ".join(sentences) + "."


def protocol_words(grid: Grid) -> str:
    """Of a grid that departs in nothing: whose protocol that is."""
    strange = [str(column) for column in grid.columns if column not in grid.table.columns]
    if not strange:
        return "at the full protocol"
    return f"at this library's own protocol for {', '.join(strange)}, which the paper does not have"


def _span(counts: Sequence[int]) -> str:
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} rounds"
    return f"{counts[0]} round" + ("" if counts[0] == 1 else "s")


def _baseline_words() -> list[str]:
    return [
        "The baseline is the published accuracy that the paper tests against, in its one-sample "
        "t-test: one-sided for above, two-sided for other than",
        "Possible p-values are those that the published mean ± margin of five rounds allows; a "
        "printed one outside them did not come from those numbers by that test",
    ]


def _comparison_words(grid: Grid) -> list[str]:
    by_row: dict[str, list[str]] = {}
    for column in grid.columns:
        by_row.setdefault(reference_row(grid.table, column), []).append(str(column))
    named = (
        next(iter(by_row))
        if len(by_row) == 1
        else " and ".join(f"{row} (in {', '.join(names)})" for row, names in by_row.items())
    )
    sentences = [
        f"{MARK} marks a row that differs from {named} in a paired t-test of accuracy over the "
        f"seeds that both have, p < {LEVEL} after Holm's adjustment over the table",
        "Bold is a row above every other of its column in that test, adjusted over all pairs of "
        "the column, which must all have been run",
    ]
    smallest = grid.smallest_difference
    if smallest is not None:
        sentences.append(
            f"With these rounds and their median spread, one paired test shows a difference of "
            f"{smallest:.2f} percentage points four times in five"
        )
    return sentences


def texts(grid: Grid) -> tuple[list[tuple[str, str]], list[list[Text]]]:
    """A printed grid.

    Returns:
        Headers, each the group it belongs to (such as ``mnist/vgg16``, or empty) and its name; and
        the lines, as many texts each as there are headers.
    """
    if grid.table is TABLE3:
        return _baseline_texts(grid)
    shown = ["published"] if grid.table.published else []
    shown += ["measured"] + (["feature ratio"] if grid.table is FIGURE3 else [])
    headers = [("", grid.table.varies[0].replace("_", " "))]
    headers += [(str(column), name) for column in grid.columns for name in shown]
    lines = [
        [Text(row)]
        + [_text(grid.cells[row, column], name) for column in grid.columns for name in shown]
        for row in grid.rows
    ]
    return headers, lines


def _text(cell: GridCell, shown: str) -> Text:
    if shown == "published":
        return Text(cell.published.text if cell.published else NONE)
    if shown == "feature ratio":
        return Text(ratio_text(cell.feature_ratio))
    return Text(_measured(cell), cell.best, MARK if cell.differs else "")


def _measured(cell: GridCell) -> str:
    if cell.accuracy is None:
        return NONE
    if cell.interval is None:
        return str(cell.accuracy)
    return f"{cell.accuracy} ({cell.interval.low:.2f} to {cell.interval.high:.2f})"


def _baseline_texts(grid: Grid) -> tuple[list[tuple[str, str]], list[list[Text]]]:
    """Table 3, a line a column."""
    headers = [
        ("", "data/backbone"),
        ("CC-Loss", "published"),
        ("CC-Loss", "measured"),
        ("", "baseline"),
        ("p measured", "one-sided"),
        ("p measured", "two-sided"),
        ("p published", "printed"),
        ("p published", "possible one-sided"),
        ("p published", "possible two-sided"),
    ]
    lines = []
    for column in grid.columns:
        cell = grid.cells["cc", column]
        texts = [str(column), cell.published.text if cell.published else NONE, _measured(cell)]
        texts += _baseline_numbers(cell.baseline)
        lines.append([Text(text) for text in texts])
    return headers, lines


def _baseline_numbers(baseline: Baseline | None) -> list[str]:
    if baseline is None:
        return [NONE] * 6
    return [
        baseline.published.text,
        p_text(baseline.one_sided),
        p_text(baseline.two_sided),
        p_text(baseline.printed),
        *(
            f"{p_text(possible.low)} to {p_text(possible.high)}"
            for possible in (baseline.possible_one_sided, baseline.possible_two_sided)
        ),
    ]


def p_text(value: float | None) -> str:
    """A p-value to two significant digits."""
    return NONE if value is None else f"{value:.2g}"


# ---- files ---------------------------------------------------------------------------------------


def to_markdown(grid: Grid) -> str:
    """Caption and a Markdown table."""
    headers, lines = texts(grid)
    body = [[escape_markdown(f"{group} {name}") for group, name in headers]]
    body += [[_markdown(text) for text in line] for line in lines]
    return f"{escape_markdown(caption(grid))}\n\n{markdown_table(body, numbers=True)}"


def _markdown(text: Text) -> str:
    escaped = escape_markdown(text.text)
    return (f"**{escaped}**" if text.bold else escaped) + escape_markdown(text.mark)


def to_latex(grid: Grid) -> str:
    r"""A table of the booktabs package with its caption; for ``\input``."""
    headers, lines = texts(grid)
    body = [" & ".join(_latex(text) for text in line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption(grid))}}}",
            rf"\label{{tab:{grid.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
            r"\toprule",
            *_latex_headers(headers),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_headers(headers: Sequence[tuple[str, str]]) -> list[str]:
    """Groups over their names, with a rule below each group."""
    groups, rules, first = [], [], 1
    for group, members in groupby(headers, key=lambda header: header[0]):
        count = len(list(members))
        groups.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(group)}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + count - 1}}}"] if group else []
        first += count
    names = " & ".join(escape_latex(name) for _, name in headers)
    return [" & ".join(groups) + r" \\", " ".join(rules), names + r" \\"]


def _latex(text: Text) -> str:
    escaped = escape_latex(text.text)
    marked = f"$^{{{text.mark}}}$" if text.mark else ""
    return (rf"\textbf{{{escaped}}}" if text.bold else escaped) + marked


def to_csv(grid: Grid) -> str:
    """One line a cell, numbers in full precision; what is undefined is empty."""
    return csv_text(
        [
            _plain(grid, row, column, grid.cells[row, column])
            for row in grid.rows
            for column in grid.columns
        ]
    )


def departures_text(departures: Departures) -> str:
    """Departures for a machine to read: ``epochs=5;train_limit=1000``."""
    return ";".join(f"{name}={value}" for name, value in departures)


def _plain(grid: Grid, row: str, column: Column, cell: GridCell) -> dict[str, Any]:
    published, accuracy, paired = cell.published, cell.accuracy, cell.paired
    interval, baseline = cell.interval, cell.baseline
    return {
        "table": grid.table.name,
        "row": row,
        "column": str(column),
        "departures": departures_text(grid.departures),
        "published_mean": published and published.mean,
        "published_margin": published and published.margin,
        "rounds": len(cell.rounds),
        "mean": accuracy and accuracy.mean,
        "margin": accuracy and accuracy.margin,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "p_published": cell.p_published,
        "difference": paired and paired.difference,
        "p_paired": paired and paired.p,
        "p_holm": paired and paired.p_holm,
        "feature_ratio": cell.feature_ratio,
        "baseline_mean": baseline and baseline.published.mean,
        "p_baseline_one_sided": baseline and baseline.one_sided,
        "p_baseline_two_sided": baseline and baseline.two_sided,
    }


def write(found: Sequence[Grid], folder: Path) -> list[Path]:
    """Writes ``tables/<name>.md``, ``.tex`` and ``.csv`` of each grid and returns their paths.

    Raises:
        InputError: a file stands where the folder should be.
        OSError: a file could not be written.
    """
    forms = {"md": to_markdown, "tex": to_latex, "csv": to_csv}
    texts = {
        f"{grid.name}.{ending}": form(grid) for grid in found for ending, form in forms.items()
    }
    return write_texts(folder / "tables", texts)
