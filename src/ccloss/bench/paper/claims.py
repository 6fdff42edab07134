"""What the paper claims, in a form that can be measured."""

from dataclasses import dataclass
from typing import NamedTuple

from ccloss.bench.comparisons import LEVEL, Pair
from ccloss.bench.paper.tables import (
    BASELINES,
    FIGURE3,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    Column,
    Table,
)
from ccloss.bench.statistics import POWER, power

MOST_ROUNDS = 30
"""The largest number of rounds that is considered feasible."""


class Metric(NamedTuple):
    """A number of an evaluation.

    Attributes:
        name: in ``Record.evaluation``.
        label: in texts.
        unit: of a difference.
        sign: 1 if a larger value is what the claim expects, -1 for a smaller one.
    """

    name: str
    label: str
    unit: str
    sign: int


ACCURACY = Metric("accuracy", "accuracy", "points", 1)
FEATURE_RATIO = Metric("feature_ratio", "feature ratio", "", -1)
ATTENTION_RATIO = Metric("attention_ratio", "attention ratio", "", -1)
MERGED_PAIRS = Metric("attention_merged_pairs", "share of merged class pairs", "%", -1)
ATTENTION_ACCURACY = Metric(
    "attention_nearest_mean_accuracy", "nearest-class-mean accuracy on attention", "points", 1
)
HARDNESS = Metric("hardness_correlation", "rank correlation of error and attention", "", 1)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: short, for tables and anchors.
        statement: what is claimed.
        source: where the paper claims it.
        table: the table whose cells it is about.
        pairs: rows of the table; the claim says that the first is better than the second. If the
            second row is empty, the claim is that the metric of the first row is positive.
        columns: the paper's columns that it is about.
        metric: what is measured.
        contrasts: pairs of columns; the claim says that the gain of the pair of rows is larger in
            the first column. Empty if the claim is about single columns.
        published: the test is the paper's own, of the row against :data:`BASELINES`.
        required_accuracy: accuracy in % that both rows must reach in every round, or the claim is
            not judged; ``None`` if there is no such condition.
        remark: what a reader must know to judge the claim fairly; may be empty.
    """

    name: str
    statement: str
    source: str
    table: Table
    pairs: tuple[Pair, ...]
    columns: tuple[Column, ...]
    metric: Metric = ACCURACY
    contrasts: tuple[tuple[Column, Column], ...] = ()
    published: bool = False
    required_accuracy: float | None = None
    remark: str = ""

    def pairs_in(self, column: Column) -> list[Pair]:
        """The pairs in a column, without those that the paper itself excepts."""
        return [pair for pair in self.pairs if (self.name, pair[1], column) not in EXCEPTED]

    def covers(self, column: Column) -> bool:
        """Whether the claim can be measured in a column, the paper's own or another.

        A claim about one of the paper's data sets is not measured on another one.
        """
        if column in self.columns:
            return True
        data = {each.data for each in self.columns}
        everywhere = data == {each.data for each in self.table.columns}
        return column.data in data if not everywhere else not self.published

    def published_gain(self, pair: Pair, column: Column) -> float | None:
        """The published difference of a pair in percentage points, if the paper prints both."""
        numbers = [self.table.published.get((row, column)) for row in pair]
        if self.metric is not ACCURACY or None in numbers:
            return None
        first, second = (number.mean for number in numbers if number is not None)
        return round(first - second, 4)


_PAPER = TABLE1.columns
_VGG16 = TABLE5.columns
_BACKBONES = ("vgg16", "resnet18")
_CARS_VGG16 = Column("cars196", "vgg16")

EXCEPTED = frozenset({("cc-over-others", "mc", _CARS_VGG16)})
"""(claim, other row, column) that a claim leaves out: Table 1 and sec. 3.3 state that MC is better
than CC-Loss on Cars-196 with VGG16."""

FIGURE3_ACCURACY = 95.0
"""Both networks of Fig. 3 must reach this accuracy (%) in every round for the figure to be judged.
The paper's full networks reach more than 97 % on MNIST."""


def _columns(*data: str) -> tuple[Column, ...]:
    return tuple(column for column in _PAPER if column.data in data)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="cc-over-ce",
        statement="CC-Loss (with attention) is more accurate than cross-entropy (without).",
        source="Table 1, sec. 3.3",
        table=TABLE1,
        pairs=(("cc", "ce"),),
        columns=_PAPER,
        remark="The networks differ in attention as well; the claim about CE + CAM compares equal "
        "networks",
    ),
    Claim(
        name="cc-over-others",
        statement="CC-Loss is more accurate than every other loss (except MC on Cars-196, VGG16).",
        source="Table 1, sec. 3.3",
        table=TABLE1,
        pairs=tuple(("cc", other) for other in ("focal", "a-softmax", "mc", "ical", "fical")),
        columns=_PAPER,
        remark="The other losses have no attention module",
    ),
    Claim(
        name="attention-helps",
        statement="The attention module alone improves accuracy slightly.",
        source="Table 4, sec. 3.4",
        table=TABLE4,
        pairs=(("ce+cam", "ce"),),
        columns=_PAPER,
    ),
    Claim(
        name="cc-over-attention",
        statement="CC-Loss improves accuracy beyond its attention module (CE + CAM).",
        source="Table 4, sec. 3.4",
        table=TABLE4,
        pairs=(("cc", "ce+cam"),),
        columns=_PAPER,
    ),
    Claim(
        name="vgg16-gains-more",
        statement="VGG16 gains more from CC-Loss than ResNet18.",
        source="Sec. 3.3",
        table=TABLE1,
        pairs=(("cc", "ce"),),
        columns=_PAPER,
        contrasts=tuple(
            (Column(data, "vgg16"), Column(data, "resnet18"))
            for data in ("mnist", "cifar100", "cars196")
        ),
    ),
    Claim(
        name="cars-gains-most",
        statement="Cars-196 gains most from CC-Loss.",
        source="Sec. 3.3",
        table=TABLE1,
        pairs=(("cc", "ce"),),
        columns=_PAPER,
        contrasts=tuple(
            (Column("cars196", backbone), Column(data, backbone))
            for backbone in _BACKBONES
            for data in ("mnist", "cifar100")
        ),
    ),
    Claim(
        name="mc-worse",
        statement="MC is less accurate than CC-Loss on MNIST and CIFAR-100.",
        source="Table 1, sec. 3.3",
        table=TABLE1,
        pairs=(("cc", "mc"),),
        columns=_columns("mnist", "cifar100"),
    ),
    Claim(
        name="mc-better",
        statement="MC is more accurate than CC-Loss on Cars-196.",
        source="Table 1, sec. 3.3",
        table=TABLE1,
        pairs=(("mc", "cc"),),
        columns=(_CARS_VGG16,),
    ),
    Claim(
        name="lambda-1",
        statement="Lambda 1 is the best weight.",
        source="Table 5, sec. 3.5",
        table=TABLE5,
        pairs=tuple(("lambda=1", f"lambda={other}") for other in ("0", "0.5", "1.5", "2")),
        columns=_VGG16,
    ),
    Claim(
        name="lambda-above-1",
        statement="Accuracy decreases for lambda above 1.",
        source="Table 5, sec. 3.5",
        table=TABLE5,
        pairs=(("lambda=1", "lambda=1.5"), ("lambda=1.5", "lambda=2")),
        columns=_VGG16,
    ),
    Claim(
        name="batch-trend-cifar100",
        statement="On CIFAR-100 batch 32 is best; accuracy falls with larger and smaller batches.",
        source="Table 2, sec. 3.6",
        table=TABLE2,
        pairs=(
            ("batch=16", "batch=8"),
            ("batch=32", "batch=16"),
            ("batch=32", "batch=64"),
            ("batch=64", "batch=128"),
        ),
        columns=(Column("cifar100", "vgg16"),),
    ),
    Claim(
        name="batch-trend-cars196",
        statement="On Cars-196 batch 16 is best; accuracy falls with larger and smaller batches.",
        source="Table 2, sec. 3.6",
        table=TABLE2,
        pairs=(
            ("batch=16", "batch=8"),
            ("batch=16", "batch=32"),
            ("batch=32", "batch=64"),
            ("batch=64", "batch=128"),
        ),
        columns=(_CARS_VGG16,),
    ),
    Claim(
        name="p-values",
        statement="CC-Loss is above the best other published accuracy, p < 5e-3 everywhere.",
        source="Table 3, sec. 3.7",
        table=TABLE3,
        pairs=(("cc", ""),),
        columns=tuple(BASELINES),
        published=True,
        remark="This is the paper's own one-sample test against published means",
    ),
    Claim(
        name="features-of-width-2",
        statement="Features of width 2 are more compact within and further apart between classes.",
        source="Fig. 3, sec. 3.8",
        table=FIGURE3,
        pairs=(("cc", "ce"),),
        columns=FIGURE3.columns,
        metric=FEATURE_RATIO,
        required_accuracy=FIGURE3_ACCURACY,
    ),
    Claim(
        name="features",
        statement="Features of full width are more compact within and further apart between "
        "classes than with CE + CAM.",
        source="Sec. 3.8 and 4",
        table=TABLE4,
        pairs=(("cc", "ce+cam"),),
        columns=_PAPER,
        metric=FEATURE_RATIO,
    ),
    Claim(
        name="attention-closer",
        statement="Attention vectors of one class are closer, relative to those of different "
        "classes, than with CE + CAM.",
        source="Sec. 2.2",
        table=TABLE4,
        pairs=(("cc", "ce+cam"),),
        columns=_PAPER,
        metric=ATTENTION_RATIO,
        remark="A mean over all pairs of images; it can improve while many pairs of classes merge",
    ),
    Claim(
        name="attention-pairs",
        statement="Attention of different classes is further apart, pair by pair: fewer pairs of "
        "classes merge than with CE + CAM.",
        source="Sec. 2.2",
        table=TABLE4,
        pairs=(("cc", "ce+cam"),),
        columns=_PAPER,
        metric=MERGED_PAIRS,
    ),
    Claim(
        name="attention-classes",
        statement="Attention separates the classes better than with CE + CAM (nearest class mean).",
        source="Sec. 2.2",
        table=TABLE4,
        pairs=(("cc", "ce+cam"),),
        columns=_PAPER,
        metric=ATTENTION_ACCURACY,
    ),
    Claim(
        name="harder-classes",
        statement="Harder classes receive more channels, easier classes fewer.",
        source="Sec. 4",
        table=TABLE4,
        pairs=(("cc", ""),),
        columns=_PAPER,
        metric=HARDNESS,
    ),
)
"""In the order of the paper."""


def infeasible(claim: Claim, family: int) -> list[str]:
    """Comparisons that no feasible number of rounds is expected to decide, in advance.

    The published difference is taken as the true one, and the published margin of the first row as
    its standard deviation over rounds. The level is LEVEL divided by the number of comparisons
    (Bonferroni), the strictest step of Holm's adjustment.

    Args:
        claim: the claim.
        family: number of comparisons that are adjusted together in a column.

    Returns:
        One text a comparison whose power is below 0.8 at 30 rounds, or whose published difference
        has the opposite sign.
    """
    found = []
    for column in claim.columns if not claim.contrasts else ():
        for pair in claim.pairs_in(column):
            gain = claim.published_gain(pair, column)
            printed = claim.table.published.get((pair[0], column))
            if gain is None or printed is None or printed.margin is None:
                continue
            if gain <= 0 or power(gain, printed.margin, MOST_ROUNDS, LEVEL / family) < POWER:
                found.append(f"{pair[0]} against {pair[1]} on {column} ({gain:+.2f} published)")
    return found
