"""The figures of a comparison of methods, as PNG and SVG."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ccloss.bench.report import canvas, samples
from ccloss.bench.report.charts import Epochs, by_epoch, evaluated_accuracy, term
from ccloss.bench.report.folder import make_folder
from ccloss.bench.report.geometry import (
    RAW,
    balanced,
    channel_order,
    class_means,
    mean_distances,
    plane,
    relative_distances,
)
from ccloss.bench.report.text import ratio_text
from ccloss.bench.results import Run
from ccloss.errors import InputError
from ccloss.training.records import ImageSample, Record, RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MATRIX_IMAGES = 300
"""Images along each side of a matrix of distances."""


@dataclass(frozen=True)
class _Method:
    """A method as the figures need it; pictures show its round with the lowest seed."""

    name: str
    line: dict[str, Any]  # colour and line style
    record: Record
    sample: ImageSample | None
    train_sample: ImageSample | None
    rounds: Sequence[Epochs]

    @property
    def classes(self) -> list[str]:
        return self.record.classes

    @property
    def shown(self) -> ImageSample:
        """The stored test images; only of methods that have them."""
        assert self.sample is not None
        return self.sample


class _Curve(NamedTuple):
    """A quantity by epoch over rounds; the fields have equal length."""

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def draw_all(
    methods: Mapping[str, Sequence[Run]], folder: Path, order: Sequence[str] = ()
) -> list[Path]:
    """Draws the figures of a comparison and returns the PNG files; each has an SVG beside it.

    ``features``, ``attention_distances`` and ``attention_channels`` show test images of each
    method's round with the lowest seed, ``curves`` all rounds. For features of width 2,
    ``features`` also shows training images. A figure without content is not drawn, and an older
    file of its name is deleted.

    Args:
        methods: method -> its runs by seed.
        folder: where the figures go.
        order: all methods of the report, which decides their colours; default: these methods.
    """
    order = order or list(methods)
    loaded = [_load(name, runs, order.index(name)) for name, runs in methods.items()]
    make_folder(folder)
    paths = []
    with canvas.style():
        for name, draw in _FIGURES.items():
            figure = draw(loaded)
            if figure is None:
                canvas.remove(folder, name)
            else:
                paths.append(canvas.save(figure, folder, name))
    return paths


def _load(name: str, runs: Sequence[Run], position: int) -> _Method:
    first = runs[0]
    test = train = None
    if first.folder is not None:
        test = _sample(first.folder, first.record, first.folder.test_sample)
        train = _sample(first.folder, first.record, first.folder.train_sample)
    if test is not None and train is not None and train.features.shape[1] != test.features.shape[1]:
        train = None  # of another network
    line = canvas.method_line(position)
    return _Method(name, line, first.record, test, train, [run.metrics for run in runs])


def _sample(folder: RunFolder, record: Record, path: Path) -> ImageSample | None:
    """Stored images; ``None`` if there are none or they are damaged.

    The page reports this for test images, the figure's title for training images.
    """
    if path.exists():
        with contextlib.suppress(InputError):
            return samples.read(folder, record, path)
    return None


def _features(methods: Sequence[_Method]) -> "Figure | None":
    methods = [method for method in methods if method.sample is not None]
    if not methods:
        return None
    if all(method.shown.features.shape[1] == 2 for method in methods):
        return _features_of_width_2(methods)
    figure, axes = canvas.panels(len(methods), columns=3, width=3.4, height=3.5)
    projections = []
    for ax, method in zip(axes, methods, strict=True):
        points, projection = plane(method.shown.features)
        projections.append(projection)
        _scatter(ax, points, method.shown.labels, method.classes)
        if projection != RAW:
            ax.set(xticks=[], yticks=[])  # the axes of a projection have no unit
        ratio = ratio_text(method.record.evaluation.get("feature_ratio"))
        _title(ax, method, f"accuracy {method.record.accuracy:.2f} %, feature ratio {ratio}")
    _class_legend(figure, methods[0].classes)
    canvas.title(
        figure,
        f"Features of {_images(methods)}, {' or '.join(dict.fromkeys(projections))}",
        f"feature ratio: {_RATIO}",
    )
    return figure


def _features_of_width_2(methods: Sequence[_Method]) -> "Figure":
    """Figure 3 of the paper: the training images of each method, if stored, and its test images."""
    without = [method.name for method in methods if method.train_sample is None]
    panels = [
        (method, split, sample)
        for method in methods
        for split, sample in (("training", method.train_sample), ("test", method.shown))
        if sample is not None and (split == "test" or not without)
    ]
    columns = 3 if without else 2
    figure, axes = canvas.panels(len(panels), columns, width=3.4, height=3.5)
    for ax, (method, split, sample) in zip(axes, panels, strict=True):
        _scatter(ax, sample.features, sample.labels, method.classes)
        if method.train_sample is not None:  # the panels of a method have the same limits
            ax.update_datalim([*method.train_sample.features, *method.shown.features])
            ax.autoscale_view()
        ax.set(xlabel="feature 1", ylabel="feature 2")
        accuracy = 100 * float(np.mean(sample.predictions == sample.labels))
        intra, inter = map(ratio_text, mean_distances(sample.features, sample.labels))
        words = f"{len(sample.labels)} {split} images: accuracy {accuracy:.2f} %"
        _title(ax, method, f"{words}\nintra {intra}, inter {inter}")
    _class_legend(figure, methods[0].classes)
    seeds = sorted({method.record.seed for method in methods})
    sentences = [
        f"Features of width 2 (seed {' or '.join(map(str, seeds))})",
        "intra, inter: mean squared distance of images of one class and of different classes, "
        "over the images shown",
    ]
    if without:
        names = ", ".join(canvas.label(name) for name in without)
        sentences.append(
            f"training images are not shown: those of {names} are not stored or are damaged"
        )
    canvas.title(figure, *sentences)
    return figure


def _scatter(
    ax: "Axes", points: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str]
) -> None:
    colours = np.array(canvas.class_colours(len(classes)))[labels]
    order = np.random.default_rng(0).permutation(len(labels))  # no class covers another
    x, y = points[order].T
    ax.scatter(x, y, c=colours[order], s=10, linewidths=0, alpha=0.8)
    ax.set_aspect("equal", adjustable="datalim")
    _name_clusters(ax, points, labels, classes)


def _name_clusters(
    ax: "Axes", points: NDArray[np.floating], labels: NDArray[np.integer], names: Sequence[str]
) -> None:
    """Writes short class names at their points, which are quicker to read than a legend."""
    from matplotlib.patheffects import withStroke

    if len(names) > canvas.NAMED_CLASSES or max(map(len, names)) > 4:
        return
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        text = canvas.label(names[label])
        ax.text(x, y, text, ha="center", va="center", weight="bold", path_effects=halo)


def _class_legend(figure: "Figure", classes: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    colours = canvas.class_colours(len(classes))
    if len(classes) > canvas.NAMED_CLASSES:
        figure.supxlabel(f"{len(classes)} classes; the hue cycles once in label order")
        return
    dots = [Line2D([], [], linestyle="", marker="o", color=colour) for colour in colours]
    names = [canvas.label(name) for name in classes]
    figure.legend(dots, names, title="class", loc="outside right center")


def _attention_distances(methods: Sequence[_Method]) -> "Figure | None":
    shown = [method for method in methods if _has_attention(method)]
    if not shown:
        return None
    figure, axes = canvas.panels(len(shown), columns=3, width=3.6, height=3.6)
    images = [_draw_distances(ax, method) for ax, method in zip(axes, shown, strict=True)]
    figure.colorbar(
        images[0],
        ax=axes,
        extend="max",
        aspect=30,
        label="distance / mean inter-class distance",
    )
    canvas.title(
        figure,
        f"Squared distances between attention vectors of {_images(shown, _MATRIX_IMAGES)}",
        f"attention ratio: {_RATIO}",
        *_left_out(methods, shown),
    )
    return figure


def _has_attention(method: _Method) -> bool:
    return method.sample is not None and method.sample.attention is not None


def _attention(method: _Method) -> NDArray[np.floating]:
    assert method.shown.attention is not None
    return method.shown.attention


def _draw_distances(ax: "Axes", method: _Method) -> Any:
    attention, labels = _attention(method), method.shown.labels
    chosen = balanced(labels, _MATRIX_IMAGES)
    distances = relative_distances(attention[chosen], labels[chosen])
    if distances is None:
        ax.text(0.5, 0.5, "no distance\nbetween classes", ha="center", transform=ax.transAxes)
    matrix = np.full((len(chosen), len(chosen)), np.nan) if distances is None else distances
    image = ax.imshow(matrix, vmin=0, vmax=2, cmap="viridis", interpolation="nearest")
    _mark_classes(ax, labels[chosen], method.classes)
    _title(
        ax, method, f"attention ratio {ratio_text(method.record.evaluation.get('attention_ratio'))}"
    )
    return image


def _mark_classes(ax: "Axes", labels: NDArray[np.integer], classes: Sequence[str]) -> None:
    """Lines between the classes of ordered images, and their names where there are few."""
    present, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    if len(present) > canvas.NAMED_CLASSES:  # so many lines would hide the matrix
        ax.set(xticks=[], yticks=[], xlabel=f"{len(present)} classes in label order")
        return
    for start in starts[1:]:
        ax.axhline(start - 0.5, color="white", linewidth=0.6)
        ax.axvline(start - 0.5, color="white", linewidth=0.6)
    names = [canvas.label(classes[label], 12) for label in present]
    middles, size = starts + (counts - 1) / 2, _tick_size(names)
    ax.set_xticks(middles, names, rotation=_rotation(names), fontsize=size)
    ax.set_yticks(middles, names, fontsize=size)


def _attention_channels(methods: Sequence[_Method]) -> "Figure | None":
    shown = {
        method.name: class_means(_attention(method), method.shown.labels, len(method.classes))
        for method in methods
        if _has_attention(method)
    }
    if not shown:
        return None
    low = min(float(np.nanmin(means)) for means in shown.values())
    high = max(float(np.nanmax(means)) for means in shown.values())
    figure, axes = canvas.panels(len(shown), columns=3, width=4.2, height=3.4)
    present = [method for method in methods if method.name in shown]
    for ax, method in zip(axes, present, strict=True):
        image = _draw_channels(ax, method, shown[method.name], (low, high))
    figure.colorbar(image, ax=axes, aspect=30, label="mean attention")
    canvas.title(
        figure,
        f"Mean attention by class and channel, {_images(present)}",
        "each panel's channels are ordered by the class in which they are highest",
        *_left_out(methods, present),
    )
    return figure


def _draw_channels(
    ax: "Axes", method: _Method, means: NDArray[np.floating], limits: tuple[float, float]
) -> Any:
    ax.set_facecolor("lightgrey")  # visible where a class has no image
    low, high = limits
    image = ax.imshow(
        means[:, channel_order(means)],
        vmin=low,
        vmax=high,
        cmap="magma",
        aspect="auto",
        interpolation="nearest",
    )
    classes = method.classes
    if len(classes) <= canvas.NAMED_CLASSES:
        names = [canvas.label(name, 12) for name in classes]
        ax.set_yticks(range(len(classes)), names, fontsize=_tick_size(names))
    else:
        ax.set_ylabel(f"{len(classes)} classes in label order")
    ax.set(xticks=[], xlabel=f"{means.shape[1]} channels")
    _title(ax, method)
    return image


def _curves(methods: Sequence[_Method]) -> "Figure | None":
    drawn = {
        name: {method.name: _curve(method.rounds, value) for method in methods}
        for name, value in _SERIES.items()
    }
    drawn = {name: lines for name, lines in drawn.items() if any(c.epochs for c in lines.values())}
    if not drawn:
        return None
    figure, axes = canvas.panels(len(drawn), columns=2, width=4.6, height=2.7)
    for ax, (name, lines) in zip(axes, drawn.items(), strict=True):
        for method in methods:
            _draw_curve(ax, lines[method.name], method.line)
        _finish_curves(ax, name.format(split=methods[0].record.evaluation.get("split", "test")))
    _method_legend(figure, methods)
    several = any(len(method.rounds) > 1 for method in methods)
    canvas.title(figure, f"Training{': mean of the rounds, band from lowest to highest' * several}")
    return figure


def _curve(rounds: Sequence[Epochs], value: Callable[[Mapping[str, Any]], Any]) -> _Curve:
    found = by_epoch(rounds, value)
    mean = [fmean(values) for values in found.values()]
    low, high = ([pick(values) for values in found.values()] for pick in (min, max))
    return _Curve(list(found), mean, low, high)


def _draw_curve(ax: "Axes", curve: _Curve, line: Mapping[str, Any]) -> None:
    marker = "o" if len(curve.epochs) <= 20 else ""  # a single epoch is a point
    ax.plot(curve.epochs, curve.mean, marker=marker, markersize=3, linewidth=1.4, **line)
    ax.fill_between(
        curve.epochs, curve.low, curve.high, color=line["color"], alpha=0.2, linewidth=0
    )


def _finish_curves(ax: "Axes", name: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    ax.set(xlabel="epoch", title=name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(color="0.9", linewidth=0.6)
    low, high = ax.dataLim.intervaly
    if low > 0 and high / low > 10:  # a linear axis would hide the last epochs
        ax.set_yscale("log", subs=[])
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")


def _method_legend(figure: "Figure", methods: Sequence[_Method]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], **method.line) for method in methods]
    names = []
    for method in methods:
        rounds = len(method.rounds)
        names.append(f"{canvas.label(method.name)} ({rounds} round{'s' * (rounds > 1)})")
    figure.legend(lines, names, loc="outside right center")


def _title(ax: "Axes", method: _Method, detail: str = "") -> None:
    lines = [canvas.label(method.name), *([detail] if detail else [])]
    ax.set_title("\n".join(lines), color=method.line["color"])


def _images(methods: Sequence[_Method], limit: int | None = None) -> str:
    """Number of test images that the panels show, and their round."""
    counts = set()
    for method in methods:
        labels = method.shown.labels
        counts.add(len(labels) if limit is None else len(balanced(labels, limit)))
    seeds = sorted({method.record.seed for method in methods})
    images = " or ".join(str(count) for count in sorted(counts))
    return f"{images} test images (seed {' or '.join(map(str, seeds))})"


def _left_out(methods: Sequence[_Method], shown: Sequence[_Method]) -> list[str]:
    """A sentence that names the methods without attention, if any."""
    absent = {method.name for method in methods} - {method.name for method in shown}
    names = [canvas.label(method.name) for method in methods if method.name in absent]
    return [f"not shown, no attention stored: {', '.join(names)}"] if names else []


def _tick_size(names: Sequence[str]) -> float:
    return 8 if len(names) <= 12 else 6


def _rotation(names: Sequence[str]) -> float:
    return 90 if max(map(len, names)) > 2 else 0


_RATIO = "mean intra- / inter-class squared distance of all images, lower is more compact"

_SERIES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "total loss": term("total"),
    "cross-entropy (nats)": term("ce"),
    "ratio of intra- to inter-class distance": term("ratio"),
    "accuracy, {split} (%)": evaluated_accuracy,
}

_FIGURES: dict[str, Callable[[Sequence[_Method]], "Figure | None"]] = {
    "features": _features,
    "attention_distances": _attention_distances,
    "attention_channels": _attention_channels,
    "curves": _curves,
}
