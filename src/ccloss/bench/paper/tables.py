"""The paper's tables: their cells as experiments, and their published numbers.

*CC-Loss: Channel Correlation Loss for Image Classification* (Song et al., 2020). A row of a table
is a loss, a batch size or a lambda; a column is a data set with a backbone. Every cell is an
:class:`~ccloss.bench.experiment.Experiment` that follows the paper's protocol.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from ccloss.bench.experiment import Experiment
from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import RunConfig, explain
from ccloss.training.options import OPTIONS

ROUNDS = 5
"""Rounds of every experiment (sec. 3.2)."""

SCALE = (
    "epochs",
    "max_steps",
    "train_limit",
    "test_limit",
    "precision",
    "learning_rate",
    "final_learning_rate",
    "head_norm",
    "activation",
    "final_pool",
    "clip_grad_norm",
    *OPTIONS,
)
"""Fields in which a run may deviate from the protocol and still belong to a cell of the table."""

PRECISION = "fp32"
"""Precision of the paper's runs. It names none, and no other was usual."""

_FREE = frozenset({"seed", "channels", "evaluate_every"})
"""Fields that differ between rounds, follow from the images, or do not affect the result."""

Fields = Mapping[str, Any]

Deviations = tuple[tuple[str, Any], ...]
"""Fields in which runs deviate from the protocol, with the values of the runs."""


class Published(NamedTuple):
    """An accuracy as printed.

    Attributes:
        mean: in %.
        margin: largest deviation of one of five rounds from the mean, in percentage points;
            ``None`` where the paper quotes a single number from elsewhere.
        text: both, with the printed digits.
    """

    mean: float
    margin: float | None
    text: str


class Column(NamedTuple):
    """A column of a table.

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
        published: the published accuracy; ``None`` if the paper has none for this cell.
    """

    row: str
    column: Column
    experiment: Experiment
    published: Published | None

    @property
    def name(self) -> str:
        """The name that ``--only`` selects: ``cifar100/vgg16/cc``."""
        return f"{self.column}/{self.row}"


class Match(NamedTuple):
    """The cell of a table that a run belongs to.

    Attributes:
        row: name of its row.
        column: data set and backbone; need not be one of the table's columns.
        deviations: fields of :data:`SCALE` that differ from the protocol.
    """

    row: str
    column: Column
    deviations: Deviations


@dataclass(frozen=True)
class Table:
    """A table of the paper, or the runs behind its figure.

    Attributes:
        name: name on the command line.
        title: what it shows.
        varies: fields of the experiment in which its rows differ.
        rows: name -> those fields.
        columns: data sets and backbones.
        published: (row, column) -> accuracy.
        reference: the row that the paper recommends, by data set where it differs.
        fixed: fields that all its cells share, beyond the protocol.
    """

    name: str
    title: str
    varies: tuple[str, ...]
    rows: Mapping[str, Fields]
    columns: tuple[Column, ...]
    published: Mapping[tuple[str, Column], Published]
    reference: Mapping[str, str]
    fixed: Fields = dataclasses.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def heading(self) -> str:
        """``Table 1`` or ``Figure 3``."""
        return self.name.replace("table", "Table ").replace("figure", "Figure ")

    def reference_row(self, column: Column) -> str:
        """The row of a column that the paper recommends."""
        return self.reference.get(column.data, self.reference[""])

    def cells(
        self,
        *,
        data: str | None = None,
        backbone: str | None = None,
        **scale: Any,
    ) -> list[Cell]:
        """Every cell, column by column.

        Args:
            data: select the columns of a data set, or run another data set instead of the table's.
            backbone: the same for the backbone.
            scale: fields of the experiment that every cell gets; ``None`` changes nothing.

        Raises:
            InputError: the table varies a field, or a field has no such value.
        """
        scale = {name: value for name, value in scale.items() if value is not None}
        for name in scale:
            if name in self.varies:
                raise InputError(f"{name} must not be set for {self.name}, which varies it")
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
        """The cell that a run belongs to; ``None`` if it belongs to none.

        Args:
            experiment: every field of the run, from its record.
        """
        own = vars(RunConfig.from_dict(experiment))
        column = Column(own["data"], own["backbone"])
        for row in self.rows:
            protocol = _protocol(self, row, column, own["channels"])
            differing = {
                name
                for name, value in vars(protocol).items()
                if name not in _FREE and own[name] != value
            }
            if differing <= set(SCALE) - set(self.varies):
                deviations = ((name, own[name]) for name in SCALE if name in differing)
                return Match(row, column, tuple(deviations))
        return None

    def protocol(self, column: Column) -> Fields:
        """The fields of the protocol in a column, with those of the first row."""
        return vars(_protocol(self, next(iter(self.rows)), column, 3))

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
        """The table's own columns if they are selected, else new ones."""
        own = [
            column
            for column in self.columns
            if data in (None, column.data) and backbone in (None, column.backbone)
        ]
        if own:
            return own
        names = [data] if data else dict.fromkeys(column.data for column in self.columns)
        return [_default_column(name, backbone) for name in names]


@cache
def _protocol(table: Table, row: str, column: Column, channels: int) -> RunConfig:
    """The resolved fields of a cell."""
    return table._experiment(row, column).resolve(channels=channels)


def _default_column(data: str, backbone: str | None) -> Column:
    return Column(data, Experiment(data=data, backbone=backbone).resolve(channels=3).backbone)


def select(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells that patterns select.

    Args:
        cells: of one table or several.
        only: patterns separated by commas, such as ``cifar100/resnet18/cc``, ``mnist`` or
            ``*/vgg16/ce*``; the last parts may be left out. Empty: all cells.

    Raises:
        InputError: a pattern selects nothing.
    """
    patterns = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
    for pattern in patterns:
        if not any(_matches(cell, pattern) for cell in cells):
            names = list(dict.fromkeys(cell.name for cell in cells))
            raise InputError(
                f"only must name one of the cells {', '.join(names)}, got {pattern!r}"
                f"{did_you_mean(pattern, names)}"
            )
    return [cell for cell in cells if not patterns or any(_matches(cell, p) for p in patterns)]


def _matches(cell: Cell, pattern: str) -> bool:
    """Whether a pattern selects a cell by its name or by the first parts of its name."""
    return fnmatchcase(cell.name, pattern) or fnmatchcase(cell.name, f"{pattern}/*")


# ---- the tables ----------------------------------------------------------------------------------


def _columns(data: str, backbones: str) -> tuple[Column, ...]:
    return tuple(Column(name, each) for name in data.split() for each in backbones.split())


def _numbers(
    columns: tuple[Column, ...], rows: Mapping[str, str]
) -> dict[tuple[str, Column], Published]:
    """Rows of numbers as the paper prints them; a dash means no number."""
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
    reference={"": "cc"},
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
    reference={"": "batch=32", "cars196": "batch=16"},
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
    reference={"": "cc"},
    columns=_BOTH,
    published={key: value for key, value in TABLE1.published.items() if key[0] == "cc"},
)

TABLE4 = Table(
    name="table4",
    title="Accuracy (%) without and with the channel attention module (CAM)",
    varies=("loss", "attention"),
    rows={name: {"loss": name} for name in ("ce", "ce+cam", "cc")},
    reference={"": "cc"},
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
    # Lambda 1 is the default, so its cells are those of Tables 1 and 4.
    rows={
        f"lambda={weight}": {"loss_options": {} if weight == 1 else {"weight": weight}}
        for weight in (0, 0.5, 1, 1.5, 2)
    },
    reference={"": "lambda=1"},
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
    fixed={"hidden_features": 2, "activation": "identity"},
    rows={name: {"loss": name} for name in ("ce", "cc")},
    reference={"": "cc"},
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
"""The published accuracies that Table 3 tests against (sec. 3.7). MC on Cars-196 with VGG16, which
is better than CC-Loss, is not among them."""
