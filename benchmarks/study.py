"""Writes docs/study.md and its figures from the records of the study.

    python -m benchmarks.study

The plan is in study.md.jinja. A question whose runs are not finished yet reads "not run".
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from benchmarks.study_conditions import RETRIEVAL_IMAGES
from benchmarks.study_figures import SEPARATOR, comparison_name, draw_differences, draw_trend
from benchmarks.write_results import RESULTS, read
from ccloss.bench.comparisons import LEVEL, Comparison, Pair, compare
from ccloss.bench.groups import Setting, settings
from ccloss.bench.report.text import NONE, interval_text, markdown_table, p_text
from ccloss.bench.statistics import power

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "benchmarks" / "study.md.jinja"
PAGE = ROOT / "docs" / "study.md"
FIGURES = ROOT / "docs" / "figures"


@dataclass(frozen=True)
class Metric:
    """A metric of the study.

    Attributes:
        label: its name with the unit.
        digits: decimals.
    """

    label: str
    digits: int


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy (%)", 2),
    "nll": Metric("negative log-likelihood", 4),
    "calibration_error": Metric("calibration error (%)", 2),
    "feature_ratio": Metric("feature ratio", 4),
    "attention_ratio": Metric("attention ratio", 4),
    "attention_merged_pairs": Metric("merged pairs of classes in attention (%)", 1),
    "attention_nearest_mean_accuracy": Metric("nearest-mean accuracy on attention (%)", 1),
    "feature_nearest_mean_accuracy": Metric("nearest-mean accuracy on features (%)", 2),
    "recall_features": Metric("retrieval from features (%)", 2),
    "recall_attention": Metric("retrieval from attention (%)", 1),
    "detection": Metric("detection of other images (%)", 1),
}
"""Metrics by name in the records; accuracy is the primary one."""

MAIN_METRICS = tuple(METRICS)[:8]
"""Metrics of questions 1 and 2."""

TREND_METRICS = (
    "accuracy",
    "attention_ratio",
    "attention_merged_pairs",
    "attention_nearest_mean_accuracy",
)
"""Metrics of questions 3 and 5."""

CONDITION_METRICS = (
    "accuracy",
    "nll",
    "attention_merged_pairs",
    "recall_features",
    "recall_attention",
    "detection",
)
"""Metrics of question 4."""

Rows = dict[str, dict[int, float]]
"""Row -> seed -> value."""

Values = dict[str, Rows]
"""Metric -> rows in which it is defined."""


def main_pairs(rows: Sequence[str]) -> list[Pair]:
    """Comparisons of questions 1, 2 and 4, within each condition."""
    planned = (
        ("ce+cam", "ce"),
        ("cc", "ce+cam"),
        ("cc reduction=mean", "ce+cam"),
        ("class-overlap", "ce+cam"),
        ("class-overlap", "cc"),
    )
    conditions = dict.fromkeys(row.partition(SEPARATOR)[1:] for row in rows)
    named = [
        (row + "".join(condition), other + "".join(condition))
        for condition in conditions
        for row, other in planned
    ]
    return [pair for pair in named if set(pair) <= set(rows)]


def weight_pairs(rows: Sequence[str]) -> list[Pair]:
    """Comparisons of question 3: every weight minus weight 0."""
    return [(row, "ce+cam") for row in rows if row != "ce+cam"]


def from_campaign(name: str, metrics: Sequence[str]) -> Values:
    """Values of the records of a campaign. Batch sizes, if there are several, are conditions."""
    found = sorted(settings(read(name)), key=_batch_size)
    values: Values = {metric: {} for metric in metrics}
    for setting in found:
        condition = f"{SEPARATOR}batch size {_batch_size(setting)}" if len(found) > 1 else ""
        for method, rounds in setting.methods.items():
            for metric in metrics:
                recorded = [record.evaluation.get(metric) for record in rounds.values()]
                own = [float(value) for value in recorded if value is not None]
                if len(own) == len(rounds):
                    values[metric][method + condition] = dict(zip(rounds, own, strict=True))
    return values


def _batch_size(setting: Setting) -> int:
    return int(setting.first.experiment["batch_size"])


def from_weights(name: str, metrics: Sequence[str]) -> Values:
    """Values of the records of question 3, with the weights as conditions in rising order."""
    values = from_campaign(name, metrics)
    return {
        metric: dict(sorted(((_weight_row(row), own[row]) for row in own), key=_weight_order))
        for metric, own in values.items()
    }


def _weight_row(row: str) -> str:
    """``cc reduction=mean, weight 2`` for the method ``cc reduction=mean weight=2``."""
    method, *options = row.split()
    if method != "cc":
        return row
    others = [option for option in options if not option.startswith("weight=")]
    weight = next((option[7:] for option in options if option not in others), "1")
    return f"{' '.join([method, *others])}{SEPARATOR}weight {weight}"


def _weight_order(row: tuple[str, object]) -> tuple[bool, str, float]:
    method, _, weight = row[0].partition(f"{SEPARATOR}weight ")
    return method.startswith("cc"), method, float(weight or 0)


def from_conditions(name: str, metrics: Sequence[str]) -> Values:
    """Values that ``benchmarks.study_conditions`` has stored."""
    conditions = json.loads((RESULTS / f"{name}.json").read_text())["conditions"]
    return {
        metric: {
            f"{method}{SEPARATOR}{condition}": {int(s): v[metric] for s, v in seeds.items()}
            for condition, methods in conditions.items()
            for method, seeds in methods.items()
        }
        for metric in metrics
    }


@dataclass(frozen=True)
class Question:
    """A question of the study.

    Attributes:
        metrics: that were planned.
        images: number of test images.
        pairs: planned comparisons of rows; for each metric they are one family.
        load: reads the values.
        suffix: of the file of results.
        trend: whether conditions are ordered numbers, which the figure shows as an axis.
    """

    metrics: tuple[str, ...]
    images: int
    pairs: Callable[[Sequence[str]], list[Pair]] = main_pairs
    load: Callable[[str, Sequence[str]], Values] = from_campaign
    suffix: str = ".jsonl"
    trend: bool = False


QUESTIONS: Mapping[str, Question] = {
    "study-digits": Question(MAIN_METRICS, 500),
    "study-mnist": Question(MAIN_METRICS, 10_000),
    "study-weights": Question(TREND_METRICS, 500, weight_pairs, from_weights, trend=True),
    "study-conditions": Question(CONDITION_METRICS, 10_000, load=from_conditions, suffix=".json"),
    "study-batches": Question(TREND_METRICS, 500, trend=True),
}
"""Questions by the name of their results."""


class Answer(NamedTuple):
    """What the results say about one question.

    Attributes:
        means: table of rows and metrics.
        differences: table of the planned comparisons and metrics.
        sentences: one for each comparison of accuracy.
        rounds: rounds of each row.
        file: name of the file of results.
    """

    means: str
    differences: str
    sentences: list[str]
    rounds: int
    file: str


def results(name: str) -> Path:
    """The file of results of a question."""
    return RESULTS / f"{name}{QUESTIONS[name].suffix}"


@cache
def values(name: str) -> Values:
    """The values of a question that was run."""
    question = QUESTIONS[name]
    return question.load(name, question.metrics)


@cache
def comparisons(name: str) -> dict[str, list[Comparison]]:
    """The planned comparisons of each metric."""
    question = QUESTIONS[name]
    return {
        metric: compare(rows, question.pairs(list(rows)), resolution=resolution(question, metric))
        for metric, rows in values(name).items()
    }


def resolution(question: Question, metric: str) -> float:
    """Difference that one image makes, in points; 0 for metrics that do not count images."""
    if metric.startswith("recall"):
        return 100 / RETRIEVAL_IMAGES
    return 100 / question.images if "accuracy" in metric else 0.0


def answer(name: str) -> Answer | None:
    """Tables and sentences of a question; ``None`` before it was run."""
    if not results(name).exists():
        return None
    found, compared = values(name), comparisons(name)
    return Answer(
        _means(found),
        _differences(compared),
        [_sentence(each) for each in compared["accuracy"]],
        _rounds(found),
        results(name).name,
    )


def text() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    spread = _known_spread()
    return environment.from_string(TEMPLATE.read_text()).render(
        answer=answer,
        spread=f"{spread:.2f}",
        power={gain: f"{power(gain, spread, 10, LEVEL):.2f}" for gain in (0.1, 0.15, 0.3)},
    )


def _rounds(found: Values) -> int:
    return min(len(seeds) for seeds in found["accuracy"].values())


def _known_spread() -> float:
    """Standard deviation of CC-Loss minus CE + CAM over seeds, in points, in older MNIST runs."""
    (setting,) = settings(read("mnist-fp32"))
    found = setting.comparison("cc", "ce+cam")
    assert found is not None
    return statistics.stdev(found.differences)


def _means(found: Values) -> str:
    lines = [["method", *(METRICS[metric].label for metric in found)]]
    for row in found["accuracy"]:
        cells = [
            f"{statistics.mean(rows[row].values()):.{METRICS[metric].digits}f}"
            if row in rows
            else NONE
            for metric, rows in found.items()
        ]
        lines.append([row, *cells])
    return markdown_table(lines).strip()


def _differences(compared: Mapping[str, list[Comparison]]) -> str:
    """A row for each comparison, with estimate, 95 % interval and adjusted p of each metric."""
    lines = [["comparison", *(METRICS[metric].label for metric in compared)]]
    cells = {
        metric: {comparison_name(each): _cell(each, METRICS[metric].digits) for each in family}
        for metric, family in compared.items()
    }
    lines += [[row, *(own.get(row, NONE) for own in cells.values())] for row in cells["accuracy"]]
    return markdown_table(lines).strip()


def _cell(each: Comparison, digits: int) -> str:
    """``+0.10 (+0.05 to +0.15), p 0.002``; bold if significant."""
    if each.estimate is None or each.interval is None:
        return NONE
    form = f"+.{digits}f"
    estimate = format(each.estimate, form)
    estimate = f"**{estimate}**" if each.sign else estimate
    return f"{estimate} ({interval_text(each.interval, form)}), p {p_text(each.p_adjusted)}"


def _sentence(each: Comparison) -> str:
    """The outcome of one comparison of accuracy."""
    name = comparison_name(each).replace(" − ", " minus ")
    if each.interval is None or each.estimate is None:
        return f"{name}: not enough data ({each.missing})."
    words = f"{name}: {each.estimate:+.2f} points (95 % interval "
    words += f"{interval_text(each.interval, '+.2f')}, adjusted p {p_text(each.p_adjusted)}"
    if each.sign:
        return f"{words}): a significant difference."
    if each.is_equivalent():
        return f"{words}): no significant difference, and none larger than {each.bound:.2f} points."
    return f"{words}): inconclusive."


def draw(name: str) -> Path:
    """Draws the figure of a question and returns its path."""
    path = FIGURES / f"{name}.png"
    panels = {METRICS[metric].label: family for metric, family in comparisons(name).items()}
    (draw_trend if QUESTIONS[name].trend else draw_differences)(panels, path)
    return path


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
    for question in QUESTIONS:
        if results(question).exists():
            print(draw(question))
