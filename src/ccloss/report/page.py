"""The comparison as one page to open: its table, figures, and how it was run."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ccloss.records import Record, write_atomically
from ccloss.report.folder import make_folder
from ccloss.report.protocol import METHOD_FIELDS
from ccloss.report.tables import cells, comparison, describe

FIGURES = {
    "features": (
        "Features of test images",
        "What the classification layer sees. Tight, well-parted classes are what CC-Loss is for.",
    ),
    "attention_distances": (
        "Distances between attention vectors",
        "Test images in the order of their classes. The loss is to make the diagonal's blocks dark "
        "(one class, one attention) and the rest bright.",
    ),
    "attention_channels": (
        "Attention by class and channel",
        "Which channels each class makes use of, on average over its test images.",
    ),
    "curves": (
        "Training",
        "Loss terms and accuracy by epoch.",
    ),
}
"""Stem of a figure's file -> its heading and what to look for."""


def write(records: Sequence[Record], figures: Sequence[Path], folder: Path) -> Path:
    """Writes ``index.html``, which shows the figures that lie beside it.

    Args:
        records: the finished runs of one comparison.
        figures: PNG files in ``folder``, as :func:`ccloss.report.figures.draw_all` returns them.
        folder: where the page goes.

    Raises:
        InputError: the records cannot be compared, or a file stands where the folder should be.
    """
    from jinja2 import Environment, StrictUndefined

    headers, rows = cells(comparison(records))
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(files("ccloss.report").joinpath("page.html").read_text())
    first = records[0]
    text = template.render(
        title=f"Losses compared on {first.experiment['data']}, {first.experiment['backbone']}",
        headers=headers,
        rows=rows,
        caption=describe(records),
        warnings=[
            f"{each.method}, seed {each.seed}: {w}" for each in records for w in each.warnings
        ],
        figures=[_figure(path) for path in figures],
        protocol=_protocol(first),
        versions=_versions(first),
    )
    make_folder(folder)
    page = folder / "index.html"
    write_atomically(page, text.encode())
    return page


def _figure(path: Path) -> dict[str, str]:
    title, text = FIGURES[path.stem]
    return {
        "title": title,
        "text": text,
        "picture": path.name,
        "vector": path.with_suffix(".svg").name,
    }


def _protocol(record: Record) -> list[tuple[str, Any]]:
    """What all the runs share; what is not set is left out."""
    free = (*METHOD_FIELDS, "seed")
    return [
        (name.replace("_", " "), value)
        for name, value in record.experiment.items()
        if name not in free and value is not None
    ]


def _versions(record: Record) -> str:
    versions = {"python": record.provenance.get("python"), **record.provenance.get("versions", {})}
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"{known}; commit {record.provenance.get('commit') or 'unknown'}"
