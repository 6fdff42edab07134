"""The paper checked against itself: statements that its own numbers do not support."""

from ccloss.bench.paper.tables import BASELINES, P_VALUES, TABLE1, TABLE4, Column, Published
from ccloss.bench.statistics import Alternative, Interval, margin_p_range

TEST_IMAGES = {"mnist": 10_000, "cifar100": 10_000, "cars196": 8_041}
"""Sec. 3.1."""

STATED_GAINS: tuple[tuple[Column, str, str], ...] = (
    (Column("mnist", "vgg16"), "ce", "0.89"),
    (Column("cifar100", "vgg16"), "ce", "1"),
    (Column("cars196", "vgg16"), "ce", "3.33"),
    (Column("cars196", "resnet18"), "fical", "1.03"),
    (Column("mnist", "vgg16"), "fical", "0.1"),
    (Column("cifar100", "vgg16"), "fical", "0.51"),
    (Column("cars196", "vgg16"), "a-softmax", "1.44"),
)
"""Column, row, and gain of CC-Loss over it in percentage points, as the text of sec. 3.3 has it."""

COMPLEXITY = (
    "Sec. 2.3 reduces the distance matrix to O(N), but its steps form the N x N matrices E and "
    "G = C C^T: O(N^2) memory and O(N^2 D) operations."
)


def inconsistencies() -> list[str]:
    """Statements of the paper that do not fit its own numbers, one sentence each."""
    return [
        *_impossible_p_values(),
        *_wrong_gains(),
        *_better_than_baseline(),
        *_backbone_gains(),
        _small_margins(),
        COMPLEXITY,
    ]


def possible_p(printed: Published, baseline: Published, alternative: Alternative) -> Interval:
    """P-values that a published mean ± margin allows against a baseline, all rounded as printed."""
    return margin_p_range(
        printed.mean, printed.margin or 0.0, baseline.mean, alternative=alternative
    )


def _impossible_p_values() -> list[str]:
    """P-values of Table 3 that five rounds with Table 1's mean ± margin cannot give."""
    sentences, one_sided_only = [], []
    for column, baseline in BASELINES.items():
        printed, p = TABLE1.published["cc", column], P_VALUES[column]
        one_sided, two_sided = (
            possible_p(printed, baseline, side) for side in ("greater", "two-sided")
        )
        if _contains(one_sided, p):
            one_sided_only += [] if _contains(two_sided, p) else [str(column)]
            continue
        sentences.append(
            f"Table 3 prints p = {p:.2g} on {column}. Table 1's {printed.text} against "
            f"{baseline.text} allows {_range(one_sided)} one-sided and {_range(two_sided)} "
            "two-sided."
        )
    if one_sided_only:
        sentences.append(
            f"The p-values of Table 3 on {', '.join(one_sided_only)} fit Table 1 only if the test "
            "is one-sided, which the paper does not state."
        )
    return sentences


def _range(interval: Interval) -> str:
    return f"{interval.low:.2g} to {interval.high:.2g}"


def _contains(interval: Interval, p: float) -> bool:
    """Whether a p-value printed to two digits may be in a range."""
    half = 0.5 * 10.0 ** (int(f"{p:e}".partition("e")[2]) - 1)
    return interval.low - half <= p <= interval.high + half


def _wrong_gains() -> list[str]:
    """Gains in the text that are not the difference of Table 1's means."""
    sentences = []
    for column, row, text in STATED_GAINS:
        gain = _gain(column, row)
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        if abs(gain - float(text)) > half + 1e-9:
            sentences.append(
                f"Sec. 3.3 states a gain of {text} points over {row} on {column}; Table 1 gives "
                f"{gain:.2f}."
            )
    return sentences


def _gain(column: Column, row: str) -> float:
    return TABLE1.published["cc", column].mean - TABLE1.published[row, column].mean


def _better_than_baseline() -> list[str]:
    """Losses of Table 1 above the baseline that Table 3 tests against."""
    sentences = []
    for (row, column), published in TABLE1.published.items():
        ours, baseline = TABLE1.published["cc", column], BASELINES[column]
        if row == "cc" or published.mean <= baseline.mean:
            continue
        if published.mean > ours.mean:
            sentences.append(
                f"Table 1 has {row} at {published.text} on {column}, above CC-Loss at {ours.text}; "
                f"Table 3 tests against {baseline.text}."
            )
        else:
            least = possible_p(ours, published, "greater").low
            sentences.append(
                f"Table 3 tests against {baseline.text} on {column}, but Table 1 has {row} at "
                f"{published.text}. Against that the smallest possible one-sided p-value is "
                f"{least:.2g}, above the claimed 5e-3."
            )
    return sentences


def _backbone_gains() -> list[str]:
    """Data sets on which VGG16 does not gain more than ResNet18, as sec. 3.3 states."""
    sentences = []
    for data in dict.fromkeys(column.data for column in TABLE1.columns):
        vgg16, resnet18 = (_gain(Column(data, name), "ce") for name in ("vgg16", "resnet18"))
        if vgg16 <= resnet18:
            sentences.append(
                f"Sec. 3.3 states that VGG16 gains more than ResNet18. On {data} Table 1 gives "
                f"{vgg16:+.2f} for VGG16 and {resnet18:+.2f} for ResNet18."
            )
    return sentences


def _small_margins() -> str:
    """The smallest printed margin in test images."""
    (row, column), published = min(
        (item for item in TABLE4.published.items() if item[1].margin),
        key=lambda item: item[1].margin or 0.0,
    )
    images = (published.margin or 0.0) / 100 * TEST_IMAGES[column.data]
    return (
        f"Table 4 prints {published.text} for {row} on {column}: five rounds within "
        f"{images:.0f} test image{'' if round(images) == 1 else 's'} of their mean."
    )
