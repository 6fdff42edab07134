"""The page, read as a browser reads it."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs
from report_names import HOSTILE

from ccloss.bench.groups import settings
from ccloss.bench.report import method_table, page
from ccloss.bench.report.folder import write_file
from ccloss.bench.results import Results, Run, read_folders, read_runs
from ccloss.errors import InputError
from ccloss.training.records import RunFolder

FEW = {"images": 9, "classes": ["a", "b", "c"]}  # too few for t-SNE, which takes time
LARGEST = 15e6  # bytes of a page


class Reader(HTMLParser):
    """Cells, texts, scripts and addresses of a page; every tag must be closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.scripts: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.policy = self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        self.ids += [given["id"]] if "id" in given else []
        self.targets += [value for name, value in attrs if name in ("src", "href", "srcset")]
        assert not [name for name in given if name.startswith("on")], "a handler in the markup"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture
def read(tmp_path):
    """Writes the page of some runs and reads it."""
    return lambda *made: Reader(page.write(read_folders(made), tmp_path / "out").read_text("utf-8"))


def test_page_shows_the_table_of_a_setting(run, read):
    made = [run("ce", 1, **FEW), run("cc", 1, accuracy=92.5, **FEW), run("cc", 2, **FEW)]
    (setting,) = settings(read_folders(made).records)
    shown = read(*made)
    for table in method_table.tables(setting):
        for text in chain(table.names, *table.texts):
            assert text in shown.cells
    assert method_table.description(setting) in shown.text
    assert shown.text.count(method_table.reading_note()) == 1
    assert "3 finished runs of 2 methods on digits (3 classes) with convnet" in shown.text
    assert "Scale: 3 epochs." in shown.text


def test_every_setting_has_a_section_of_its_own(run, read, tmp_path):
    shown = read(
        run("cc", 1, data="digits", batch_size=8, **FEW),
        run("cc", 2, data="digits", batch_size=16, **FEW),
        run("ce", 1, data="mnist", backbone="vgg16", **FEW),
    )
    assert [name for name in shown.ids if re.fullmatch(r"setting-\d", name)] == [
        "setting-0",
        "setting-1",
        "setting-2",
    ]
    titles = [
        "digits · convnet · batch size 8",
        "digits · convnet · batch size 16",
        "mnist · vgg16",
    ]
    assert all(title in shown.text for title in titles)
    assert len(shown.data["settings"]) == 3
    assert len(shown.ids) == len(set(shown.ids))
    inner = {target[1:] for target in shown.targets if target.startswith("#")}
    assert inner <= set(shown.ids)


def test_claims_that_were_not_run_are_one_line(run, read):
    shown = read(run("cc", 1, weight_decay=0.1, **FEW))
    assert "19 of the paper’s claims were not run" in shown.text
    assert "tables" not in shown.ids


def test_methods_have_one_colour_on_the_page(run, read):
    shown = read(run("cc", 1, **FEW), run("ce", 1, **FEW), run("cc", 2, batch_size=8, **FEW))
    colours = [
        dict(zip(each["methods"], each["colours"], strict=True)) for each in shown.data["settings"]
    ]
    assert colours == [{"ce": 0, "cc": 1}, {"cc": 1}]


def test_published_and_measured_are_shown_together(run, read):
    from ccloss.bench.experiment import Experiment

    made = []
    for seed in (0, 1, 2):
        fields = Experiment(data="mnist", loss="cc", epochs=2, seed=seed).resolve().to_dict()
        del fields["seed"]
        made.append(run("cc", seed, accuracy=99.0 + seed / 10, **fields, **FEW))
    shown = read(*made)
    assert "98.32 ± 0.08" in shown.cells
    assert any(cell.startswith("99.10 ± 0.10") for cell in shown.cells)
    assert "measured at 3 epochs instead of 300" in shown.text
    (panel,) = shown.data["grids"][0]
    index = panel["rows"].index("cc")
    assert (panel["published"][index], panel["mean"][index]) == (98.32, 99.1)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_not_read_as_markup(run, read, name):
    classes = [name, "b", "c"]
    made = run("cc", 1, data=f"folder:{name}", images=9, classes=classes)
    record = replace(made.read_record(), method=name, warnings=[f"{name} is falling"])
    made.write_record(record)
    shown = read(made)
    assert name in shown.cells
    assert f"{name}, seed 1: {name} is falling" in shown.text
    assert shown.data["settings"][0]["classes"] == classes
    assert shown.data["settings"][0]["methods"] == [name]
    assert len(shown.scripts) == 3


def test_an_error_is_shown_and_not_read_as_markup(run, read, tmp_path):
    failed = RunFolder(tmp_path / "runs" / "<b>failed")
    failed.path.mkdir(parents=True)
    failed.experiment.write_text(json.dumps({"data": "digits", "loss": "<i>cc", "seed": 0}))
    failed.write_failure(ValueError("</script><script>alert(1)</script>"))
    unfinished = RunFolder(tmp_path / "runs" / "unfinished")
    unfinished.path.mkdir()
    unfinished.experiment.write_text(json.dumps({"data": "digits", "loss": "ce", "seed": 1}))
    shown = read(run("cc", 1, **FEW), failed, unfinished)
    assert "1 failed entry, listed below. 1 unfinished entry, listed below." in shown.text
    assert "</script><script>alert(1)</script>" in shown.text
    assert "Traceback" in shown.text
    assert "data digits, loss <i>cc, seed 0" in shown.text
    assert len(shown.scripts) == 3


def test_failures_alone_make_a_page(read, tmp_path):
    failed = RunFolder(tmp_path / "failed")
    failed.write_failure(ValueError("no luck"))
    shown = read(failed)
    assert "Runs without a result" in shown.text
    assert "no luck" in shown.text


def test_a_damaged_record_is_listed(run, read):
    damaged = run("ce", 1, **FEW)
    damaged.record.write_text("{")
    shown = read(run("cc", 1, **FEW), damaged)
    assert "1 damaged entry, listed below" in shown.text
    assert str(damaged.record) in shown.text


def test_the_page_loads_nothing(run, read, tmp_path):
    shown = read(run("cc", 1, **FEW))
    assert all(target.startswith(("#", "data:")) for target in shown.targets)
    assert "default-src 'none'" in shown.policy
    assert "http" not in shown.policy
    assert shown.scripts[1] == get_plotlyjs()
    own = [
        files("ccloss.bench.report").joinpath(f"page.{kind}").read_text() for kind in ("css", "js")
    ]
    for text in own:
        assert not re.search(r"https?:|@import|fetch\(|XMLHttpRequest|import\(|sendBeacon", text)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]


def test_plotly_does_not_end_its_script_element():
    assert not re.search("</script|<!--", get_plotlyjs(), re.IGNORECASE)


def test_runs_without_samples_say_so(run, read):
    made = run("cc", 1, **FEW)
    made.test_sample.unlink()
    shown = read(made)
    assert "Pictures of test images not shown: test images were not stored (cc)." in shown.text
    assert shown.data["settings"][0]["features"] == [None]
    assert shown.data["settings"][0]["class_attention"][0]["classes"] == [0, 1, 2]


def test_a_damaged_sample_says_so(run, read):
    made = run("cc", 1, **FEW)
    made.test_sample.write_bytes(b"no tensors")
    assert "cannot be read" in read(made).text


@pytest.mark.parametrize("content", [None, b"", b"damaged\n"])
def test_runs_without_metrics_have_no_curves(run, read, content):
    made = run("cc", 1, **FEW)
    made.metrics.unlink()
    if content is not None:
        made.metrics.write_bytes(content)
    assert read(made).data["settings"][0]["curves"] == []


def test_old_records_without_the_newer_metrics(run, read):
    made = run("cc", 1, **FEW)
    record = made.read_record()
    for name in ("calibration_bins", "class_attention_mass", "class_accuracy", "top5"):
        del record.evaluation[name]
    made.write_record(record)
    setting = read(made).data["settings"][0]
    assert (setting["calibration"], setting["by_class"], setting["class_attention"]) == (
        [None],
    ) * 3


def test_one_class_alone(run, read):
    setting = read(run("cc", 1, images=9, classes=["only"])).data["settings"][0]
    assert setting["distances"] == [None]
    assert set(setting["features"][0]["label"]) == {0}


def test_pictures_are_of_the_lowest_seed(run, read):
    setting = read(run("cc", 7, **FEW), run("cc", 2, **FEW))
    assert "seed 2" in setting.text
    assert setting.data["settings"][0]["accuracies"][0]["seeds"] == [2, 7]


def test_only_the_first_panels_use_t_sne(run, read, monkeypatch):
    monkeypatch.setattr(page, "TSNE_PANELS", 1)
    many = {"images": 30, "classes": ["a", "b", "c"]}
    panels = read(run("ce", **many), run("cc", **many)).data["settings"][0]["features"]
    assert "t-SNE" in panels[0]["projection"]
    assert "principal components" in panels[1]["projection"]


def test_a_second_run_of_a_seed_is_listed(run, read):
    first, second = run("cc", 1, **FEW), run("cc", 2, **FEW)
    again = second.read_record()
    again.experiment["seed"] = 1
    second.write_record(again)
    shown = read(first, second)
    assert "1 duplicate run left out" in shown.text
    assert f"has the experiment and seed of {first.path}, which is used" in shown.text


def test_sources_group_what_is_equal(run, read):
    made = [run("cc", seed, **FEW) for seed in (1, 2, 3)]
    other = replace(made[2].read_record(), provenance={"device": "cuda", "commit": "abc"})
    made[2].write_record(other)
    records = [each.read_record() for each in made]
    rows = page.provenance.sources(settings(records))
    assert [row[2:4] for row in rows] == [["1, 2", "1"], ["3", "2"]]
    environments = page.provenance.environments(records)
    assert [each["device"] for each in environments] == ["cpu", "cuda"]
    assert environments[0]["commit"] == "not recorded"


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(InputError, match="there is no run to report"):
        page.write(Results(()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_hundred_runs_fit(record, run, monkeypatch):
    """Twenty methods of ten rounds with a hundred classes; one sample a method."""
    monkeypatch.setattr(page, "TSNE_PANELS", 0)  # its time does not depend on the size
    classes = [f"class {label}" for label in range(100)]
    epochs = tuple(
        {"epoch": epoch, "terms": dict.fromkeys(("total", "ce", "intra", "inter", "ratio"), 1 / 3)}
        for epoch in range(1, 301)
    )
    made = []
    for index in range(20):
        method = "ce" if index == 0 else f"cc weight={index}"
        size = {"images": 1000, "width": 512} if index < 4 else {"images": 300, "width": 64}
        first = run(method, 0, epochs=0, classes=classes, **size)
        made += [
            Run(f"{seed}", record(method, seed, 80 + seed / 7, classes=classes), epochs, first)
            for seed in range(10)
        ]
    assert len(page.render(Results(tuple(made))).encode()) < LARGEST


def test_every_committed_record_is_on_one_page():
    results = read_runs(Path(__file__).parents[3] / "benchmarks" / "results")
    shown = Reader(page.render(results))
    assert f"{len(results.runs)} finished runs" in shown.text
    assert len(shown.ids) == len(set(shown.ids))


def test_temporary_files_of_killed_reports_are_removed_but_not_recent_ones(tmp_path):
    old, recent = tmp_path / ".index.html.1", tmp_path / ".index.html.2"
    for path in (old, recent):
        path.touch()
    os.utime(old, (0, 0))
    write_file(tmp_path / "index.html", b"page")
    assert sorted(path.name for path in tmp_path.iterdir()) == [recent.name, "index.html"]
