"""The report: one page that holds all it needs, for any set of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from ccloss.bench.report import (
    canvas,
    charts,
    claims,
    pictures,
    provenance,
    reproduction,
    runs,
    samples,
)
from ccloss.bench.report.folder import make_folder
from ccloss.bench.report.protocol import METHOD_FIELDS, Setting, settings
from ccloss.bench.report.tables import cells, comparison, describe, differences
from ccloss.bench.statistics import bootstrap_interval
from ccloss.errors import InputError
from ccloss.training.files import write_atomically
from ccloss.training.records import Record, RunFolder, TestSample

TSNE_PANELS = 6
"""Panels of features placed by t-SNE, which takes its time; those after them by principal
components."""

OPEN_SETTINGS = 2
"""Settings that are unfolded when the page opens."""

_SIGNS = {"supported": "✓", "contradicted": "✗", "not enough data": "?", "not run": "–"}

_UNITS = {
    "higher accuracy": "percentage points",
    "above published": "percentage points",
    "lower feature ratio": "difference of ratios",
    "harder classes open more channels": "rank correlation",
}


def write(folders: Sequence[RunFolder], folder: Path) -> Path:
    """Writes ``index.html``, which needs no other file and no network.

    Args:
        folders: runs of any data sets, backbones, methods and seeds, finished or not.
        folder: where the page goes.

    Raises:
        InputError: there is no run, or a file stands where the folder should be.
    """
    if not folders:
        raise InputError("there is no run to report; train one with `ccloss train`")
    text = render(runs.read(folders))
    make_folder(folder)
    page = folder / "index.html"
    write_atomically(page, text.encode())
    return page


def render(found: runs.Runs) -> str:
    """The page of some runs."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    parts = {
        name: files("ccloss.bench.report").joinpath(f"page.{name}")
        for name in ("html", "css", "js")
    }
    template = environment.from_string(parts["html"].read_text("utf-8"))
    return template.render(
        **content(found),
        style=Markup(parts["css"].read_text("utf-8")),
        script=Markup(parts["js"].read_text("utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def content(found: runs.Runs) -> dict[str, Any]:
    """Everything that the page says: words for the template and, as ``data``, its charts."""
    parted = settings(found.records)
    records = [record for setting in parted for record in setting.records]
    grids = [grid for grid in reproduction.grids(records) if grid.compares]
    folders = {id(run.record): run.folder for run in found.finished}
    drawer = _Drawer(folders, pictures.Sheets(), TSNE_PANELS)
    shown = [_setting(place, setting, drawer) for place, setting in enumerate(parted)]
    return {
        "title": _title(records),
        "summary": _summary(found, parted),
        "verdicts": [_verdict(verdict) for verdict in claims.judge(records)],
        "grids": [_grid(grid) for grid in grids],
        "settings": [words for words, _ in shown],
        "open_settings": OPEN_SETTINGS,
        "environments": provenance.environments(records),
        "sources": provenance.sources(parted),
        "warnings": provenance.warnings(parted),
        "problems": found.problems,
        "data": {
            "palette": canvas.palette(),
            "sheets": drawer.sheets.to_json(),
            "grids": [_grid_chart(grid) for grid in grids],
            "settings": [data for _, data in shown],
        },
    }


# ---- what was run --------------------------------------------------------------------------------


def _title(records: Sequence[Record]) -> str:
    names = dict.fromkeys(str(record.experiment["data"]) for record in records)
    return f"Losses compared on {_listed(names)}" if names else "Runs without a result yet"


def _summary(found: runs.Runs, parted: Sequence[Setting]) -> str:
    """What was run, on what, how often, and how much of it failed."""
    records = found.records
    count = len(records)
    sentences = [f"This page reports {_count(count, 'finished run')}"]
    if records:
        backbones = dict.fromkeys(str(record.experiment["backbone"]) for record in records)
        methods = dict.fromkeys(record.method for record in records)
        rounds = sorted({len(each) for setting in parted for each in setting.rounds.values()})
        several = f"{rounds[0]} to {rounds[-1]} rounds" if len(rounds) > 1 else ""
        sentences[0] += (
            f" of {_count(len(methods), 'method')} on {_listed(_data_sets(records))}, with "
            f"{_listed(backbones)}, {several or _count(rounds[0], 'round')} a method"
        )
        sentences.append(
            "Within a setting the methods differ in the loss and its attention alone, the rounds "
            "of a method in the seed alone"
            if len(parted) == 1
            else f"They fall into {len(parted)} settings; within one, methods differ in the loss "
            "and its attention alone, and the rounds of a method in the seed alone"
        )
    for state in ("failed", "unfinished", "damaged"):
        number = sum(problem.state == state for problem in found.problems)
        if number:
            verb = "" if state == "failed" else "is " if number == 1 else "are "
            sentences.append(f"{_count(number, 'run')} {verb}{state}, as listed at the end")
    return ". ".join(sentences) + "."


def _data_sets(records: Sequence[Record]) -> list[str]:
    classes = {str(record.experiment["data"]): len(record.classes) for record in records}
    return [f"{name} ({_count(number, 'class', 'classes')})" for name, number in classes.items()]


# ---- the paper -----------------------------------------------------------------------------------


def _verdict(verdict: claims.Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "verdict": verdict.verdict,
        "kind": verdict.verdict.replace(" ", "-"),
        "sign": _SIGNS[verdict.verdict],
        "note": verdict.note,
        "unit": _UNITS[claim.kind],
        "rows": [_compared(each) for each in verdict.comparisons],
    }


def _compared(each: claims.Comparison) -> list[str]:
    return [
        str(each.column),
        ", ".join(f"{name} {value}" for name, value in each.departures) or "–",
        f"{each.row} against {each.other}" if each.other else each.row,
        str(len(each.seeds)),
        _signed(each.mean),
        *(reproduction.p_text(p) for p in (each.p, each.p_holm, each.p_against)),
        each.lacks or "tested",
    ]


def _grid(grid: reproduction.Grid) -> dict[str, Any]:
    headers, lines = reproduction.texts(grid)
    groups: list[tuple[str, int]] = []
    for group, _ in headers:
        if groups and groups[-1][0] == group:
            groups[-1] = group, groups[-1][1] + 1
        else:
            groups.append((group, 1))
    return {
        "name": grid.name,
        "title": grid.table.title,
        "place": grid.table.name.replace("table", "Table ").replace("figure", "Figure "),
        "scale": reproduction.scale(grid.table, grid.departures, grid.columns),
        "protocol": reproduction.protocol_words(grid),
        "caption": reproduction.caption(grid),
        "groups": groups,
        "headers": [name for _, name in headers],
        "lines": lines,
        "columns": [str(column) for column in grid.columns],
        "rows": len(grid.rows),
    }


def _grid_chart(grid: reproduction.Grid) -> list[dict[str, Any]]:
    """One panel a column: what was measured, and what was published."""
    return [
        {
            "rows": list(grid.rows),
            **_beside([grid.cells[row, column] for row in grid.rows]),
        }
        for column in grid.columns
    ]


def _beside(column: Sequence[reproduction.GridCell]) -> dict[str, list[Any]]:
    return {
        "mean": [charts.rounded(c.accuracy.mean, 5) if c.accuracy else None for c in column],
        "interval": [
            [charts.rounded(end, 5) for end in c.interval] if c.interval else None for c in column
        ],
        "published": [c.published.mean if c.published else None for c in column],
    }


# ---- a setting -----------------------------------------------------------------------------------


@dataclass
class _Drawer:
    """What pictures of test images share over the page.

    Attributes:
        folders: id of a record -> its run's folder.
        sheets: the thumbnails so far.
        tsne: panels that t-SNE may still place.
    """

    folders: Mapping[int, RunFolder]
    sheets: pictures.Sheets
    tsne: int

    def sample(self, record: Record) -> TestSample | str:
        """A run's test images, or why there are none."""
        folder = self.folders[id(record)]
        if not folder.test_sample.exists():
            return "test images were not kept"
        try:
            return samples.read(folder, record)
        except InputError as error:
            return str(error)

    def metrics(self, record: Record) -> charts.Epochs:
        """A run's epochs; none where they are not there, or damaged."""
        try:
            return self.folders[id(record)].read_metrics()
        except InputError:
            return []

    def features(self, sample: TestSample) -> dict[str, Any]:
        """A panel of features; the first few by t-SNE."""
        placed = sample.features.shape[1] > 2
        panel = pictures.features(sample, self.sheets, tsne=self.tsne > 0)
        self.tsne -= placed
        return panel


def _setting(
    place: int, setting: Setting, drawer: _Drawer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The words of a setting, and the data of its charts."""
    rounds = setting.rounds
    firsts = [each[0] for each in rounds.values()]
    taken = [drawer.sample(record) for record in firsts]
    data = _chart_data(rounds, taken, drawer)
    words = {
        "place": place,
        "title": setting.title,
        "caption": describe(setting.records),
        "table": _methods(setting),
        "protocol": _protocol(firsts[0]),
        "methods": list(rounds),
        "plain": [each.method for each in firsts if not each.experiment.get("attention")],
        "seeds": [record.seed for record in firsts],
        "lacking": _lacking(rounds, taken),
        "pictured": any(isinstance(each, TestSample) for each in taken),
        "hardest": _class_table(firsts[0].classes, data["by_class"]),
    }
    return words, data


def _lacking(methods: Iterable[str], taken: Sequence[TestSample | str]) -> list[str]:
    """Why methods have no pictures, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for method, why in zip(methods, taken, strict=True):
        if isinstance(why, str):
            reasons.setdefault(why, []).append(method)
    return [f"{why} ({', '.join(names)})" for why, names in reasons.items()]


def _chart_data(
    rounds: Mapping[str, Sequence[Record]], taken: Sequence[TestSample | str], drawer: _Drawer
) -> dict[str, Any]:
    """What the charts of a setting show; each list has an entry a method."""
    first = next(iter(rounds.values()))[0]
    classes = len(first.classes)
    images = [each if isinstance(each, TestSample) else None for each in taken]
    metrics = [[drawer.metrics(record) for record in each] for each in rounds.values()]
    return {
        "methods": list(rounds),
        "classes": first.classes,
        "colours": canvas.class_palette(classes),
        "accuracies": charts.accuracies(rounds),
        "curves": charts.curves(metrics, str(first.evaluation.get("split", "test"))),
        "features": [image and drawer.features(image) for image in images],
        "channels": [image and pictures.channel_map(image, classes) for image in images],
        "distances": [image and pictures.distance_map(image) for image in images],
        "opened": [charts.opened_channels(each) for each in rounds.values()],
        "calibration": [charts.calibration(each) for each in rounds.values()],
        "by_class": [charts.class_accuracies(each) for each in rounds.values()],
    }


def _methods(setting: Setting) -> dict[str, Any]:
    """The comparison of methods, each with its interval and its difference to the first."""
    headers, body = cells(comparison(setting.records))
    against = differences(setting.records)
    first, *_ = rounds = setting.rounds
    lines = []
    for method, line in zip(rounds, body, strict=True):
        values = [record.accuracy for record in rounds[method]]
        interval = bootstrap_interval(values) if len(values) > 1 else None
        found = against.get(method)
        lines.append(
            [
                *line[:2],
                f"{interval.low:.2f} to {interval.high:.2f}" if interval else "–",
                f"{found.mean:+.2f} ({found.interval.low:+.2f} to {found.interval.high:+.2f})"
                if found
                else "–",
                reproduction.p_text(found.p) if found else "–",
                *line[2:],
            ]
        )
    return {
        "headers": [*headers[:2], "95 % interval", f"minus {first} (pp)", "p (Holm)", *headers[2:]],
        "lines": lines,
        "first": first,
    }


def _protocol(record: Record) -> list[tuple[str, Any]]:
    """What all the runs of a setting share; what is not set is left out."""
    free = (*METHOD_FIELDS, "seed")
    return [
        (name.replace("_", " "), value)
        for name, value in record.experiment.items()
        if name not in free and value is not None
    ]


def _class_table(classes: Sequence[str], methods: Sequence[Any]) -> list[list[str]]:
    """Every class with its accuracy by each method, the hardest first."""
    columns = [each["mean"] if each else [None] * len(classes) for each in methods]
    lines = [
        (fmean([v for v in values if v is not None] or [101.0]), name, values)
        for name, values in zip(classes, zip(*columns, strict=True), strict=True)
    ]
    return [
        [name, *("–" if value is None else f"{value:.1f}" for value in values)]
        for _, name, values in sorted(lines, key=lambda line: line[0])
    ]


# ---- words ---------------------------------------------------------------------------------------


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3g}"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
