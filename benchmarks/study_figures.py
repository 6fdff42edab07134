"""Figures of the study: differences of methods with their 95 % intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from ccloss.bench.comparisons import Comparison

SEPARATOR = ", "
"""Between the method and the condition in the name of a row."""

Panels = Mapping[str, Sequence[Comparison]]
"""Label of a metric -> its planned comparisons."""


def comparison_name(each: Comparison) -> str:
    """``cc − ce+cam``, with the condition once at the end."""
    row, separator, condition = each.row.partition(SEPARATOR)
    return f"{row} − {each.other.partition(SEPARATOR)[0]}{separator}{condition}"


def draw_differences(panels: Panels, path: Path) -> None:
    """One panel a metric and one line a comparison, for conditions without an order."""
    names = [comparison_name(each) for each in next(iter(panels.values()))]
    columns = 4 if len(panels) in (4, 8) else 3
    lines = len(panels) // columns
    height = lines * (0.9 + 0.34 * len(names)) + 0.4
    figure, axes = plt.subplots(
        lines, columns, figsize=(13, height), layout="constrained", sharey=True, squeeze=False
    )
    for (label, family), axis in zip(panels.items(), axes.flat, strict=True):
        axis.axvline(0, color="0.6", linewidth=1)
        for each in _measured(family):
            assert each.estimate is not None and each.interval is not None
            colour = "C0" if each.sign else "0.45"
            y = names.index(comparison_name(each))
            axis.plot(each.interval, [y, y], color=colour, linewidth=2)
            axis.plot(each.estimate, y, "o", color=colour)
        axis.set_title(label, fontsize=9)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
    title = "Difference of means with 95 % interval, n = {} seeds; blue: significant"
    _save(figure, title, panels, path)


def draw_trend(panels: Panels, path: Path) -> None:
    """One panel a metric, with the number in the condition as the logarithmic x-axis."""
    columns = 2
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(10, 3.2 * lines), layout="constrained")
    for (label, family), axis in zip(panels.items(), axes.flat, strict=True):
        axis.axhline(0, color="0.6", linewidth=1)
        axis.set_xscale("log")
        series: dict[str, list[Comparison]] = {}
        for each in _measured(family):
            series.setdefault(comparison_name(each).partition(SEPARATOR)[0], []).append(each)
        for index, (name, own) in enumerate(series.items()):
            _draw_series(axis, name, own, f"C{index}", shift=1 + 0.06 * index)
        axis.set_title(label, fontsize=10)
        axis.set_xlabel(_condition(family[0])[0])
        numbers = sorted({_condition(each)[1] for each in family})
        axis.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axis.minorticks_off()
    axes.flat[0].legend(fontsize=9)
    title = "Difference of means with 95 % interval, n = {} seeds; filled: significant"
    _save(figure, title, panels, path)


def _draw_series(
    axis: Axes, name: str, family: Sequence[Comparison], colour: str, shift: float
) -> None:
    """One line; ``shift`` moves it so that intervals of several lines do not overlap."""
    x = [shift * _condition(each)[1] for each in family]
    axis.plot(x, [each.estimate or 0.0 for each in family], color=colour, label=name)
    for position, each in zip(x, family, strict=True):
        assert each.estimate is not None and each.interval is not None
        axis.plot([position, position], each.interval, color=colour, linewidth=1.5)
        face = colour if each.sign else "white"
        axis.plot(position, each.estimate, "o", color=colour, markerfacecolor=face)


def _condition(each: Comparison) -> tuple[str, float]:
    """``("batch size", 8)`` of the row ``cc, batch size 8``."""
    name, _, number = each.row.partition(SEPARATOR)[2].rpartition(" ")
    return name, float(number)


def _measured(family: Sequence[Comparison]) -> list[Comparison]:
    return [each for each in family if each.estimate is not None and each.interval is not None]


def _save(figure: Any, title: str, panels: Panels, path: Path) -> None:
    rounds = len(next(iter(panels.values()))[0].seeds)
    figure.suptitle(title.format(rounds), fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)
