"""Writes docs/study.md and its figure from the records of the study.

    python -m benchmarks.study

The plan is in study.md.jinja. A question whose campaign has no records yet reads "not run".
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from jinja2 import Environment, StrictUndefined

from benchmarks.write_results import RESULTS, numbers, read, resolution
from ccloss.bench.comparisons import Comparison, compare
from ccloss.bench.groups import Setting, settings
from ccloss.bench.report.text import NONE, interval_text, markdown_table, p_text
from ccloss.bench.statistics import power

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "benchmarks" / "study.md.jinja"
PAGE = ROOT / "docs" / "study.md"
FIGURES = ROOT / "docs" / "figures"

QUESTIONS = ("study-digits", "study-mnist")
"""Campaigns of the questions."""

PAIRS = (
    ("ce+cam", "ce"),
    ("cc", "ce+cam"),
    ("cc reduction=mean", "ce+cam"),
    ("class-overlap", "ce+cam"),
    ("class-overlap", "cc"),
)
"""Planned comparisons; for each metric they are one family."""


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
}
"""Metrics by name in the records; accuracy is the primary one."""

Rows = dict[str, dict[int, float]]


class Answer(NamedTuple):
    """What the records say about one question.

    Attributes:
        means: table of methods and metrics.
        differences: table of the planned comparisons.
        sentences: one for each comparison of accuracy.
        rounds: rounds of each method.
    """

    means: str
    differences: str
    sentences: list[str]
    rounds: int


def answer(campaign: str) -> Answer | None:
    """Tables and sentences of a question; ``None`` before it was run."""
    if not (RESULTS / f"{campaign}.jsonl").exists():
        return None
    (setting,) = settings(read(campaign))
    compared = comparisons(setting)
    return Answer(
        _means(setting),
        _differences(compared),
        [_sentence(each) for each in compared["accuracy"]],
        len(next(iter(setting.methods.values()))),
    )


def comparisons(setting: Setting) -> dict[str, list[Comparison]]:
    """The planned comparisons of each metric."""
    return {name: _compare(setting, name) for name in METRICS}


def text() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    spread = _known_spread()
    return environment.from_string(TEMPLATE.read_text()).render(
        answer=answer,
        spread=f"{spread:.2f}",
        power={gain: f"{power(gain, spread, 10):.2f}" for gain in (0.1, 0.15, 0.3)},
    )


def _known_spread() -> float:
    """Standard deviation of CC-Loss minus CE + CAM over seeds, in points, in older MNIST runs."""
    (setting,) = settings(read("mnist"))
    found = setting.comparison("cc", "ce+cam")
    assert found is not None
    return statistics.stdev(found.differences)


def _values(setting: Setting, metric: str) -> Rows:
    rows: Rows = {}
    for method, rounds in setting.methods.items():
        found = {seed: record.evaluation.get(metric) for seed, record in rounds.items()}
        values = {seed: float(value) for seed, value in found.items() if value is not None}
        if len(values) == len(rounds):
            rows[method] = values
    return rows


def _compare(setting: Setting, metric: str) -> list[Comparison]:
    rows = _values(setting, metric)
    pairs = [pair for pair in PAIRS if all(name in rows for name in pair)]
    counted = metric == "accuracy" or metric.endswith("nearest_mean_accuracy")
    return compare(rows, pairs, resolution=resolution(setting) if counted else 0.0)


def _means(setting: Setting) -> str:
    values = {name: _values(setting, name) for name in METRICS}
    lines = [["method", *(METRICS[name].label for name in values)]]
    for method in setting.methods:
        cells = [
            f"{statistics.mean(rows[method].values()):.{METRICS[name].digits}f}"
            if method in rows
            else NONE
            for name, rows in values.items()
        ]
        lines.append([method, *cells])
    return markdown_table(lines, numbers=True).strip()


def _differences(compared: Mapping[str, list[Comparison]]) -> str:
    lines = [["metric", "comparison", "difference", "95 % interval", "p", "adjusted p"]]
    for name, family in compared.items():
        form = f"+.{METRICS[name].digits}f"
        lines += [[METRICS[name].label, _name(each), *numbers(each, form)] for each in family]
    return markdown_table(lines, numbers=True).strip()


def _sentence(each: Comparison) -> str:
    """The outcome of one comparison of accuracy."""
    if each.interval is None or each.estimate is None:
        return f"{each.row} minus {each.other}: not enough data ({each.missing})."
    words = f"{each.row} minus {each.other}: {each.estimate:+.2f} points (95 % interval "
    words += f"{interval_text(each.interval, '+.2f')}, adjusted p {p_text(each.p_adjusted)}"
    if each.sign:
        return f"{words}): a significant difference."
    if each.is_equivalent():
        return f"{words}): no significant difference, and none larger than {each.bound:.2f} points."
    return f"{words}): inconclusive."


def draw(campaign: str) -> None:
    """Draws the figure of a question: one panel a metric, estimates with their 95 % intervals."""
    (setting,) = settings(read(campaign))
    compared = comparisons(setting)
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.2), layout="constrained", sharey=True)
    names = [_name(each) for each in compared["accuracy"]]
    for (metric, family), axis in zip(compared.items(), axes.flat, strict=True):
        axis.axvline(0, color="0.6", linewidth=1)
        for each in family:
            if each.estimate is None or each.interval is None:
                continue
            low, high = each.interval.low, each.interval.high
            colour = "C0" if each.sign else "0.45"
            y = names.index(_name(each))
            axis.plot([low, high], [y, y], color=colour, linewidth=2)
            axis.plot(each.estimate, y, "o", color=colour)
        axis.set_title(METRICS[metric].label, fontsize=9)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
    rounds = len(compared["accuracy"][0].seeds)
    figure.suptitle(
        f"Difference of means with 95 % interval, n = {rounds} seeds; blue: significant",
        fontsize=11,
    )
    figure.savefig(FIGURES / f"{campaign}.png", dpi=110)
    plt.close(figure)


def _name(each: Comparison) -> str:
    return f"{each.row} − {each.other}"


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
    for question in QUESTIONS:
        if (RESULTS / f"{question}.jsonl").exists():
            draw(question)
            print(FIGURES / f"{question}.png")
