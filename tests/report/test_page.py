"""The page, read as a browser reads it."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ccloss.errors import InputError
from ccloss.report import figures, page, tables


class Reader(HTMLParser):
    """Cells, texts and the files that a page points to; every tag must be closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self.targets += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_page_shows_the_table_and_every_figure(run, tmp_path):
    runs = [run("ce", 1), run("cc", 1)]
    records = [each.read_record() for each in runs]
    drawn = figures.draw_all(runs, tmp_path / "out")
    path = page.write(records, drawn, tmp_path / "out")
    read = Reader(path)
    headers, rows = tables.cells(tables.comparison(records))
    shown = len(headers) * (1 + len(rows))
    assert read.cells[:shown] == [*headers, *rows[0], *rows[1]]
    assert tables.describe(records) in read.text
    assert len(read.targets) == 2 * len(drawn) == 8
    assert all((path.parent / target).exists() for target in read.targets)


def test_every_figure_has_a_heading(run, tmp_path):
    drawn = figures.draw_all([run("cc", 1)], tmp_path)
    assert {path.stem for path in drawn} == set(page.FIGURES)


def test_names_are_not_read_as_markup(record, tmp_path):
    records = [record("cc", 1, data="folder:<b>mine</b>")]
    records = [replace(each, warnings=["inter < eps & falling"]) for each in records]
    read = Reader(page.write(records, [], tmp_path))
    assert "folder:<b>mine</b>" in read.text
    assert "cc, seed 1: inter < eps & falling" in read.text


def test_protocol_is_told_without_what_methods_differ_in(record, tmp_path):
    read = Reader(page.write([record("cc", 1, epochs=7)], [], tmp_path))
    pairs = dict(zip(read.cells[-18::2], read.cells[-17::2], strict=True))
    assert pairs["epochs"] == "7"
    assert not {"loss", "attention", "seed"} & set(pairs)


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        page.write([], [], tmp_path)
    assert not list(tmp_path.iterdir())
