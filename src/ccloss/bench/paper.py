"""The paper as data: its tables as experiments, its published numbers, its claims.

*CC-Loss: Channel Correlation Loss for Image Classification* (Song et al., 2020). A table is a grid:
a row is a loss, a batch size or a lambda, a column a data set with a backbone, and each cell an
:class:`~ccloss.bench.experiment.Experiment` of the paper's protocol, five rounds of it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from ccloss.bench.experiment import Experiment
from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import RunConfig, explain

ROUNDS = 5
"""Of every experiment (sec. 3.2)."""

THRESHOLD = 5e-3
"""All p-values of Table 3 are said to be below (sec. 3.7)."""

SCALE = (
    "epochs",
    "max_steps",
    "train_limit",
    "test_limit",
    "evaluate_every",
    "precision",
    "learning_rate",
    "final_learning_rate",
    "clip_grad_norm",
    "head_norm",
    "final_pool",
)
"""Fields in which a re-run may depart from the paper and still be a re-run of its cell."""

PRECISION = "fp32"
"""Of the paper's runs: it names none, and then there was no other that went without saying."""

_ROUND = frozenset({"seed", "channels"})
"""What differs from round to round, and what the images decide."""

Fields = Mapping[str, Any]


class Published(NamedTuple):
    """An accuracy as printed.

    Attributes:
        mean: in %.
        margin: largest deviation of one of five rounds from the mean, in percentage points;
            ``None`` where the paper quotes a single number from elsewhere.
        text: both, with the digits that were printed.
    """

    mean: float
    margin: float | None
    text: str


class Column(NamedTuple):
    """What a column of a table stands for.

    Attributes:
        data: name of the data set.
        backbone: name of the backbone.
    """

    data: str
    backbone: str

    def __str__(self) -> str:
        return f"{self.data}/{self.backbone}"


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        row: name of its row, such as ``cc`` or ``batch=8``.
        column: data set and backbone.
        experiment: its first round.
        published: what the paper has; ``None`` where it has nothing, or not for this data.
    """

    row: str
    column: Column
    experiment: Experiment
    published: Published | None

    @property
    def name(self) -> str:
        """As ``--only`` selects it: ``cifar100/vgg16/cc``."""
        return f"{self.column}/{self.row}"


class Match(NamedTuple):
    """Where a run stands in a table.

    Attributes:
        row: name of its row.
        column: data set and backbone, which need not be among the table's own.
        departures: fields of :data:`SCALE` that are not the protocol's, with the run's values.
    """

    row: str
    column: Column
    departures: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Table:
    """A table of the paper, or what takes the place of one.

    Attributes:
        name: as on the command line.
        title: what it shows.
        varies: fields of the experiment in which its rows differ.
        rows: name -> those fields.
        columns: data sets and backbones.
        published: (row, column) -> accuracy.
        fixed: fields that all its cells share, beyond the protocol.
    """

    name: str
    title: str
    varies: tuple[str, ...]
    rows: Mapping[str, Fields]
    columns: tuple[Column, ...]
    published: Mapping[tuple[str, Column], Published]
    fixed: Fields = dataclasses.field(default_factory=dict)

    def cells(
        self,
        *,
        data: str | None = None,
        backbone: str | None = None,
        **scale: Any,
    ) -> list[Cell]:
        """Every cell, column after column.

        Args:
            data: in the place of the table's data sets; of its own ones, those columns alone.
            backbone: likewise.
            scale: fields of the experiment that stand for every cell; ``None`` leaves one alone.

        Raises:
            InputError: a field is what the table varies, or has no such value.
        """
        scale = {name: value for name, value in scale.items() if value is not None}
        for name in scale:
            if name in self.varies:
                raise InputError(f"{name} is what {self.name} varies; leave it out, or use --only")
        return [
            Cell(
                row,
                column,
                self._experiment(row, column, **scale),
                self.published.get((row, column)),
            )
            for column in self._columns(data, backbone)
            for row in self.rows
        ]

    def match(self, experiment: Fields) -> Match | None:
        """Where the run of an experiment, with its fields resolved, stands in this table."""
        own = RunConfig.from_dict(experiment)
        column = Column(own.data, own.backbone)
        for row in self.rows:
            protocol = self._experiment(row, column).resolve(channels=own.channels)
            differing = {
                name
                for name, value in vars(protocol).items()
                if name not in _ROUND and getattr(own, name) != value
            }
            if differing <= set(SCALE):
                departures = ((name, getattr(own, name)) for name in SCALE if name in differing)
                return Match(row, column, tuple(departures))
        return None

    def _experiment(self, row: str, column: Column, **scale: Any) -> Experiment:
        fields = {
            "precision": PRECISION,
            **column._asdict(),
            **self.fixed,
            **self.rows[row],
            **scale,
        }
        try:
            return Experiment(**fields)
        except ValidationError as error:
            raise InputError(explain(error)) from None

    def _columns(self, data: str | None, backbone: str | None) -> list[Column]:
        """The table's own columns where they are meant, else new ones."""
        own = [
            column
            for column in self.columns
            if data in (None, column.data) and backbone in (None, column.backbone)
        ]
        if own:
            return own
        names = [data] if data else dict.fromkeys(column.data for column in self.columns)
        return [_usual_column(name, backbone) for name in names]


def _usual_column(data: str, backbone: str | None) -> Column:
    return Column(data, Experiment(data=data, backbone=backbone).resolve(channels=3).backbone)


def select(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells that are asked for.

    Args:
        cells: of one table or several.
        only: patterns with commas between, as ``cifar100/resnet18/cc``, ``mnist`` or
            ``*/vgg16/ce*``; a pattern may leave out its last parts. Empty: all of them.

    Raises:
        InputError: a pattern selects nothing.
    """
    patterns = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
    for pattern in patterns:
        if not any(_matches(cell, pattern) for cell in cells):
            names = list(dict.fromkeys(cell.name for cell in cells))
            raise InputError(
                f"only names {pattern!r}, which is none of the cells {', '.join(names)}"
                f"{did_you_mean(pattern, names)}"
            )
    return [cell for cell in cells if not patterns or any(_matches(cell, p) for p in patterns)]


def _matches(cell: Cell, pattern: str) -> bool:
    """Whether a pattern, or its beginning of a cell's name, selects the cell."""
    return fnmatchcase(cell.name, pattern) or fnmatchcase(cell.name, f"{pattern}/*")


@dataclass(frozen=True)
class Claim:
    """Something the paper says, as what can be measured.

    Attributes:
        name: short, for tables and anchors.
        statement: what is claimed.
        source: where the paper claims it.
        kind: how it is tested, column by column: ``higher accuracy`` of ``row`` than of each of
            ``others``; ``lower feature ratio`` likewise, on mean intra- over mean inter-class
            distance of the features; ``above published``, the accuracy of ``row`` by the paper's
            own test against :data:`BASELINES`; ``harder classes open more channels``, the rank
            correlation, over classes, of error with channels that the mean attention opens.
        table: whose cells it is about.
        row: the row that it is about.
        others: the rows that it is compared with.
        data: the data set that it is about; ``None``: all of them.
    """

    name: str
    statement: str
    source: str
    kind: Literal[
        "higher accuracy",
        "lower feature ratio",
        "above published",
        "harder classes open more channels",
    ]
    table: Table
    row: str
    others: tuple[str, ...] = ()
    data: str | None = None


# ---- the tables ----------------------------------------------------------------------------------


def _columns(data: str, backbones: str) -> tuple[Column, ...]:
    return tuple(Column(name, each) for name in data.split() for each in backbones.split())


def _numbers(
    columns: tuple[Column, ...], rows: Mapping[str, str]
) -> dict[tuple[str, Column], Published]:
    """Rows of numbers as the paper prints them, a dash for none."""
    return {
        (row, column): _published(text)
        for row, line in rows.items()
        for column, text in zip(columns, line.split(), strict=True)
        if text != "-"
    }


def _published(text: str) -> Published:
    mean, _, margin = text.partition("±")
    return Published(float(mean), float(margin) if margin else None, text.replace("±", " ± "))


_BOTH = _columns("mnist cifar100 cars196", "vgg16 resnet18")
_VGG16 = _columns("mnist cifar100 cars196", "vgg16")
_BATCHES = _columns("cifar100 cars196", "vgg16")

TABLE1 = Table(
    name="table1",
    title="Accuracy (%) with different losses",
    varies=("loss", "attention"),
    rows={
        name: {"loss": name} for name in ("ce", "focal", "a-softmax", "mc", "ical", "fical", "cc")
    },
    columns=_BOTH,
    # VGG16 and ResNet18 on MNIST, on CIFAR-100, on Cars-196.
    published=_numbers(
        _BOTH,
        {
            "ce": "97.43 97.52  74.49 77.38  88.02 85.77",
            "focal": "97.64 97.68  74.46 77.63  88.21 85.98",
            "a-softmax": "98.10 98.32  74.55 77.78  90.02 87.22",
            "mc": "98.20 98.45  72.51 70.18  92.80 -",
            "ical": "97.83 98.21  74.79 77.71  89.32 86.67",
            "fical": "98.22 98.40  74.98 78.18  89.70 87.38",
            "cc": "98.32±0.08 98.52±0.09  75.49±0.15 78.23±0.07  91.46±0.09 88.41±0.06",
        },
    ),
)

TABLE2 = Table(
    name="table2",
    title="Accuracy (%) of CC-Loss with the batch size",
    varies=("batch_size",),
    fixed={"loss": "cc"},
    rows={f"batch={size}": {"batch_size": size} for size in (8, 16, 32, 64, 128)},
    columns=_BATCHES,
    published=_numbers(
        _BATCHES,
        {
            "batch=8": "74.9±0.12 91.3±0.12",
            "batch=16": "75.3±0.07 91.5±0.09",
            "batch=32": "75.5±0.15 91.3±0.16",
            "batch=64": "75.1±0.14 90.6±0.18",
            "batch=128": "74.5±0.14 89.9±0.15",
        },
    ),
)

TABLE3 = Table(
    name="table3",
    title="CC-Loss against the best other published accuracy",
    varies=("loss",),
    rows={"cc": {"loss": "cc"}},
    columns=_BOTH,
    published={key: value for key, value in TABLE1.published.items() if key[0] == "cc"},
)

TABLE4 = Table(
    name="table4",
    title="Accuracy (%) without and with the channel attention module (CAM)",
    varies=("loss", "attention"),
    rows={name: {"loss": name} for name in ("ce", "ce+cam", "cc")},
    columns=_BOTH,
    published=_numbers(
        _BOTH,
        {
            "ce": "97.43 97.52  74.49 77.38  88.02 85.77",
            "ce+cam": "97.66±0.02 97.67±0.01  74.54±0.02 77.57±0.01  88.15±0.03 86.04±0.02",
            "cc": "98.32±0.08 98.52±0.09  75.49±0.15 78.23±0.07  91.46±0.09 88.41±0.06",
        },
    ),
)

TABLE5 = Table(
    name="table5",
    title="Accuracy (%) of CC-Loss with its weight lambda",
    varies=("loss_options",),
    fixed={"loss": "cc"},
    # Lambda 1 is the default: its cells are those of Tables 1 and 4, and are not run twice.
    rows={
        f"lambda={weight}": {"loss_options": {} if weight == 1 else {"weight": weight}}
        for weight in (0, 0.5, 1, 1.5, 2)
    },
    columns=_VGG16,
    published=_numbers(
        _VGG16,
        {
            "lambda=0": "97.66±0.02 74.54±0.02 88.15±0.03",
            "lambda=0.5": "98.04±0.05 75.12±0.03 89.53±0.07",
            "lambda=1": "98.32±0.08 75.49±0.15 91.46±0.09",
            "lambda=1.5": "97.95±0.06 75.04±0.09 89.42±0.05",
            "lambda=2": "97.53±0.03 74.32±0.12 87.84±0.02",
        },
    ),
)

FIGURE3 = Table(
    name="figure3",
    title="Features of width 2 with cross-entropy and with CC-Loss",
    varies=("loss", "attention"),
    fixed={"hidden_features": 2},
    rows={name: {"loss": name} for name in ("ce", "cc")},
    columns=_columns("mnist", "vgg16"),
    published={},
)

TABLES: Mapping[str, Table] = {
    table.name: table for table in (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, FIGURE3)
}
"""In the order of the paper."""

P_VALUES: Mapping[Column, float] = dict(
    zip(_BOTH, (3.9e-3, 3.3e-3, 4.7e-4, 3.8e-3, 2.1e-7, 4.3e-7), strict=True)
)
"""Table 3."""

BASELINES: Mapping[Column, Published] = {
    column: TABLE1.published[row, column]
    for column, row in zip(
        _BOTH, ("fical", "fical", "fical", "fical", "a-softmax", "fical"), strict=True
    )
}
"""What Table 3 tests against (sec. 3.7). It passes over MC on Cars-196 with VGG16, which is better
than CC-Loss there."""

# ---- the claims ----------------------------------------------------------------------------------

CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="cc-over-ce",
        statement="CC-Loss is more accurate than cross-entropy.",
        source="Table 1, sec. 3.3",
        kind="higher accuracy",
        table=TABLE1,
        row="cc",
        others=("ce",),
    ),
    Claim(
        name="cc-over-others",
        statement="CC-Loss is more accurate than every other loss (but MC on Cars-196 with VGG16).",
        source="Table 1, sec. 3.3",
        kind="higher accuracy",
        table=TABLE1,
        row="cc",
        others=("focal", "a-softmax", "mc", "ical", "fical"),
    ),
    Claim(
        name="attention-helps",
        statement="The attention module alone helps a little.",
        source="Table 4, sec. 3.4",
        kind="higher accuracy",
        table=TABLE4,
        row="ce+cam",
        others=("ce",),
    ),
    Claim(
        name="cc-over-attention",
        statement="CC-Loss helps beyond the attention module that it needs.",
        source="Table 4, sec. 3.4",
        kind="higher accuracy",
        table=TABLE4,
        row="cc",
        others=("ce+cam",),
    ),
    Claim(
        name="lambda-1",
        statement="Lambda 1 is best.",
        source="Table 5, sec. 3.5",
        kind="higher accuracy",
        table=TABLE5,
        row="lambda=1",
        others=("lambda=0", "lambda=0.5", "lambda=1.5", "lambda=2"),
    ),
    Claim(
        name="batch-32",
        statement="Batch 32 is best on CIFAR-100.",
        source="Table 2, sec. 3.6",
        kind="higher accuracy",
        table=TABLE2,
        row="batch=32",
        others=("batch=8", "batch=16", "batch=64", "batch=128"),
        data="cifar100",
    ),
    Claim(
        name="batch-16",
        statement="Batch 16 is best on Cars-196.",
        source="Table 2, sec. 3.6",
        kind="higher accuracy",
        table=TABLE2,
        row="batch=16",
        others=("batch=8", "batch=32", "batch=64", "batch=128"),
        data="cars196",
    ),
    Claim(
        name="p-values",
        statement="CC-Loss is above the best other published accuracy, p < 5e-3 everywhere.",
        source="Table 3, sec. 3.7",
        kind="above published",
        table=TABLE3,
        row="cc",
    ),
    Claim(
        name="features-of-width-2",
        statement="Features of width 2 are more compact within and further apart between classes.",
        source="Fig. 3, sec. 3.8",
        kind="lower feature ratio",
        table=FIGURE3,
        row="cc",
        others=("ce",),
    ),
    Claim(
        name="features",
        statement="So are the features of full width.",
        source="Sec. 3.8 and 4, read beyond the figure",
        kind="lower feature ratio",
        table=TABLE1,
        row="cc",
        others=("ce",),
    ),
    Claim(
        name="harder-classes",
        statement="Harder classes take more channels, easier classes fewer.",
        source="Sec. 4",
        kind="harder classes open more channels",
        table=TABLE1,
        row="cc",
    ),
)
"""In the order of the paper."""
