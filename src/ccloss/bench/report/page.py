"""The report as one HTML page, for any set of runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from ccloss.bench.groups import METHOD_FIELDS, Setting, method_order, settings
from ccloss.bench.report import (
    canvas,
    charts,
    method_table,
    paper_tables,
    pictures,
    provenance,
    samples,
    verdicts,
)
from ccloss.bench.report.folder import make_folder, write_file
from ccloss.bench.report.text import NONE, listed, span
from ccloss.bench.results import Results, Run
from ccloss.data.names import counted
from ccloss.errors import InputError
from ccloss.training.records import ImageSample, Record

TSNE_PANELS = 6
"""Panels of features placed by t-SNE, which takes time; later ones use principal components."""

OPEN_SETTINGS = 2
"""Settings that are unfolded when the page opens."""

TITLE_DATA_SETS = 3
"""Data sets that are named in the title."""

_SIGNS = {"supported": "✓", "contradicted": "✗", "not enough data": "?", "not run": "–"}


def write(results: Results, folder: Path) -> Path:
    """Writes ``index.html``, which needs no other file and no network.

    Args:
        results: runs of any data sets, backbones, methods and seeds.
        folder: where the page goes.

    Raises:
        InputError: there is no run, or there is a file where the folder should be.
    """
    if not results.runs and not results.problems:
        raise InputError("there is no run to report; train one with `ccloss train`")
    text = render(results)
    make_folder(folder)
    page = folder / "index.html"
    write_file(page, text.encode(errors="backslashreplace"))
    return page


def render(results: Results) -> str:
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
        **content(results),
        style=Markup(parts["css"].read_text("utf-8")),
        script=Markup(parts["js"].read_text("utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def content(results: Results) -> dict[str, Any]:
    """Everything the page shows: texts for the template and, as ``data``, its charts."""
    # Settings that compare methods come first.
    found = sorted(settings(results.records), key=lambda setting: len(setting.methods) < 2)
    grids = [grid for grid in paper_tables.grids(results.records) if grid.is_informative]
    judged = verdicts.judge(results.records)
    runs = {id(run.record): run for run in results.runs}
    panels = _Panels(runs, pictures.Sheets(), TSNE_PANELS)
    methods = method_order(results.records)
    shown = [_setting(index, setting, panels, methods) for index, setting in enumerate(found)]
    absent = verdicts.not_run(judged)
    return {
        "title": _title(results.records),
        "summary": _summary(results, found),
        "verdicts": [_verdict(verdict) for verdict in judged if verdict not in absent],
        "not_run": [verdict.claim.statement.rstrip(".") for verdict in absent],
        "reading_methods": method_table.reading_note(),
        "reading_tables": paper_tables.reading_note(),
        "grids": [_grid(grid) for grid in grids],
        "settings": [texts for texts, _ in shown],
        "open_settings": OPEN_SETTINGS,
        "environments": provenance.environments(results.records),
        "sources": provenance.sources(found),
        "warnings": provenance.warnings(found),
        "problems": [problem for problem in results.problems if problem.state != "duplicate"],
        "duplicates": [problem for problem in results.problems if problem.state == "duplicate"],
        "data": {
            "palette": canvas.palette(),
            "sheets": panels.sheets.to_json(),
            "grids": [_grid_chart(grid) for grid in grids],
            "settings": [data for _, data in shown],
        },
    }


# ---- what was run --------------------------------------------------------------------------------


def _title(records: Sequence[Record]) -> str:
    if not records:
        return "Runs without a result"
    names = list(dict.fromkeys(str(record.experiment["data"]) for record in records))
    more = len(names) - TITLE_DATA_SETS
    shown = names if more <= 0 else [*names[:TITLE_DATA_SETS], f"{more} more"]
    return f"Losses compared on {listed(shown)}"


def _summary(results: Results, found: Sequence[Setting]) -> str:
    """What was run, on what data, at what scale, and how many runs failed."""
    records = results.records
    sentences = [counted(len(records), "finished run")]
    if records:
        methods = dict.fromkeys(record.method for record in records)
        backbones = dict.fromkeys(str(record.experiment["backbone"]) for record in records)
        rounds = [len(each) for setting in found for each in setting.methods.values()]
        scales = list(dict.fromkeys(method_table.scale(setting) for setting in found))
        sentences[0] += (
            f" of {counted(len(methods), 'method')} on {listed(_data_sets(records))} with "
            f"{listed(backbones)}, {span(rounds, 'round')} per method"
        )
        if len(scales) == 1:
            sentences.append(f"Scale: {scales[0]}")
        else:
            sentences.append(
                f"{counted(len(found), 'setting')} at {counted(len(scales), 'scale')}; "
                "each section states its own"
            )
    for state in ("failed", "unfinished", "damaged", "duplicate"):
        number = sum(problem.state == state for problem in results.problems)
        if number:
            sentences.append(
                f"{counted(number, f'{state} entry', f'{state} entries')}, listed below"
            )
    return ". ".join(sentences) + "."


def _data_sets(records: Sequence[Record]) -> list[str]:
    classes = {str(record.experiment["data"]): len(record.classes) for record in records}
    return [f"{name} ({counted(number, 'class', 'classes')})" for name, number in classes.items()]


# ---- the paper -----------------------------------------------------------------------------------


def _verdict(verdict: verdicts.Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "remark": claim.remark,
        "headline": verdict.headline,
        "kind": verdict.headline.replace(" ", "-"),
        "sign": _SIGNS[verdict.headline],
        "summary": verdict.summary,
        "infeasible": verdicts.infeasible_text(verdict) if verdict.infeasible else "",
        "judgements": [
            {
                "where": f"{judgement.column}, {judgement.scale}",
                "label": label,
                "notes": judgement.notes,
            }
            for judgement, label in verdicts.labelled(verdict)
        ],
    }


def _grid(grid: paper_tables.Grid) -> dict[str, Any]:
    return {
        "name": grid.name,
        "title": grid.table.title,
        "heading": grid.table.heading,
        "caption": paper_tables.description(grid),
        "table": paper_tables.printed(grid),
        "columns": [str(column) for column in grid.columns],
        "rows": len(grid.rows),
    }


def _grid_chart(grid: paper_tables.Grid) -> list[dict[str, Any]]:
    """One panel a column: measured and published accuracies of the rows that have one."""
    panels = []
    for column in grid.columns:
        cells = {row: grid.cells[row, column] for row in grid.rows}
        shown = {row: cell for row, cell in cells.items() if cell.accuracy or cell.published}
        panels.append(
            {
                "rows": list(shown),
                "mean": [
                    charts.rounded(cell.accuracy.mean, 5) if cell.accuracy else None
                    for cell in shown.values()
                ],
                "interval": [_rounded(cell.interval) for cell in shown.values()],
                "published": [
                    cell.published.mean if cell.published else None for cell in shown.values()
                ],
            }
        )
    return panels


def _rounded(interval: Iterable[float] | None) -> list[float | None] | None:
    return [charts.rounded(end, 5) for end in interval] if interval else None


# ---- a setting -----------------------------------------------------------------------------------


@dataclass
class _Panels:
    """What the pictures of test images share over the page.

    Attributes:
        runs: id of a record -> its run.
        sheets: the thumbnails so far.
        tsne: number of further panels that may use t-SNE.
    """

    runs: Mapping[int, Run]
    sheets: pictures.Sheets
    tsne: int

    def sample(self, record: Record) -> ImageSample | str:
        """The test images of a run, or why there are none."""
        folder = self.runs[id(record)].folder
        if folder is None or not folder.test_sample.exists():
            return "test images were not stored"
        try:
            return samples.read(folder, record, folder.test_sample)
        except InputError as error:
            return str(error)

    def features(self, sample: ImageSample) -> dict[str, Any]:
        """A panel of features; the first few use t-SNE."""
        panel = pictures.features(sample, self.sheets, tsne=self.tsne > 0)
        self.tsne -= sample.features.shape[1] > 2
        return panel


def _setting(
    index: int, setting: Setting, panels: _Panels, methods: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The texts of a setting, and the data of its charts."""
    rounds = setting.methods
    firsts = [next(iter(each.values())) for each in rounds.values()]
    taken = [panels.sample(record) for record in firsts]
    data = _chart_data(setting, taken, panels, methods)
    texts = {
        "index": index,
        "title": setting.title,
        "caption": method_table.description(setting),
        "tables": method_table.tables(setting),
        "protocol": _protocol(firsts[0]),
        "methods": list(rounds),
        "without_attention": [
            each.method for each in firsts if not each.experiment.get("attention")
        ],
        "seeds": [record.seed for record in firsts],
        "missing": _missing(rounds, taken),
        "pictured": [isinstance(each, ImageSample) for each in taken],
        "curves": bool(data["curves"]),
        "attention": [
            any(part[at] for part in (data["channels"], data["distances"], data["class_attention"]))
            for at in range(len(rounds))
        ],
        "calibrated": [bool(each) for each in data["calibration"]],
        "classes": _class_table(firsts[0].classes, data["by_class"]),
    }
    return texts, data


def _missing(methods: Iterable[str], taken: Sequence[ImageSample | str]) -> list[str]:
    """Why methods have no pictures, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for method, reason in zip(methods, taken, strict=True):
        if isinstance(reason, str):
            reasons.setdefault(reason, []).append(method)
    return [f"{reason} ({', '.join(names)})" for reason, names in reasons.items()]


def _chart_data(
    setting: Setting,
    taken: Sequence[ImageSample | str],
    panels: _Panels,
    methods: Sequence[str],
) -> dict[str, Any]:
    """What the charts of a setting show; each list has an entry per method."""
    rounds = [list(each.values()) for each in setting.methods.values()]
    first = setting.first
    classes = len(first.classes)
    images = [each if isinstance(each, ImageSample) else None for each in taken]
    metrics = [[panels.runs[id(record)].metrics for record in each] for each in rounds]
    return {
        "methods": list(setting.methods),
        "colours": [methods.index(name) for name in setting.methods],
        "classes": first.classes,
        "class_colours": canvas.class_palette(classes),
        "accuracies": charts.accuracies(rounds),
        "curves": charts.curves(metrics, str(first.evaluation.get("split", "test"))),
        "features": [image and panels.features(image) for image in images],
        "channels": [image and pictures.channel_map(image, classes) for image in images],
        "distances": [image and pictures.distance_map(image) for image in images],
        "class_attention": [charts.class_attention(each) for each in rounds],
        "calibration": [charts.calibration(each) for each in rounds],
        "by_class": [charts.class_accuracies(each) for each in rounds],
    }


def _protocol(record: Record) -> list[tuple[str, Any]]:
    """The fields that all runs of a setting share and that are set."""
    free = (*METHOD_FIELDS, "seed", "evaluate_every")
    return [
        (name.replace("_", " "), value)
        for name, value in record.experiment.items()
        if name not in free and value is not None
    ]


def _class_table(classes: Sequence[str], methods: Sequence[Any]) -> list[list[str]]:
    """Every class with its accuracy by each method, the hardest first; empty if not recorded."""
    if not any(methods):
        return []
    columns = [each["mean"] if each else [None] * len(classes) for each in methods]
    lines = [
        (fmean([value for value in values if value is not None] or [101.0]), name, values)
        for name, values in zip(classes, zip(*columns, strict=True), strict=True)
    ]
    return [
        [name, *(NONE if value is None else f"{value:.1f}" for value in values)]
        for _, name, values in sorted(lines, key=lambda line: line[0])
    ]
