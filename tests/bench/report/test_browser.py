"""The page in a browser: what is drawn, what the controls do, and the absence of errors."""

from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import pytest
from finished_runs import write_run
from report_names import HOSTILE
from safetensors.numpy import load_file, save_file

from ccloss.bench.report import page
from ccloss.bench.results import read_folders

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="needs Chromium (apt-get install chromium)"
)

DRAWN = "[...document.querySelectorAll('.plot')].filter((each) => each.querySelector('svg'))"
PANEL = "document.querySelector('figure.features')"
POINTS = f"{PANEL}.querySelector('.js-plotly-plot').data"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    found = chromium.find()
    assert found
    with chromium.running(tmp_path_factory.mktemp("profile"), found) as running:
        yield running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on three classes with an error each, and a second setting that is folded."""
    root = tmp_path_factory.mktemp("runs")
    few = {"images": 9, "classes": ["ant", "bee", "cow"]}
    runs = [write_run(root, method, seed, **few) for method in ("ce", "cc") for seed in (1, 2)]
    runs += [write_run(root / f"{size}", "cc", 1, batch_size=size, **few) for size in (8, 16)]
    for run in runs:
        sample = load_file(run.test_sample)
        sample["predictions"][4] = 2
        save_file(sample, run.test_sample)
    return page.write(read_folders(runs), root / "page")


@pytest.fixture
def opened(browser: chromium.Browser, made: Path) -> chromium.Browser:
    """The page, so high that everything unfolded is in view and drawn."""
    browser.open(made, height=9000)
    browser.wait(f"{DRAWN}.length >= 20")
    return browser


def test_everything_is_drawn_without_errors_and_requests(opened, made):
    kinds = set(opened.run(f"{DRAWN}.map((each) => each.dataset.kind)"))
    assert kinds == {
        *("accuracies", "curve-accuracy", "curve-term", "features", "channels", "distances"),
        *("class_attention", "calibration", "classes"),
    }
    assert opened.run("document.querySelectorAll('.plot .scatterlayer .point').length") > 40
    assert opened.errors == []
    assert opened.requests == [made.as_uri()]


def test_a_folded_setting_is_drawn_when_it_is_opened(opened):
    inside = "document.querySelectorAll('#setting-2 .plot svg').length"
    assert opened.run(inside) == 0
    opened.run("location.hash = '#setting-2'")
    opened.wait(f"{inside} > 5")
    assert opened.errors == []


def test_out_of_view_nothing_is_drawn(browser, made):
    browser.open(made, height=300)
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.run(f"{DRAWN}.length") < 5


def test_arrow_keys_step_through_the_images(opened):
    opened.run(f"{PANEL}.querySelector('.stepper').focus()")
    description = f"{PANEL}.querySelector('.description').innerText"
    opened.press("ArrowRight")
    assert opened.run(description) == "class ant\npredicted ant\nimage 0"
    first = opened.run(f"{PANEL}.querySelector('.thumbnail').style.backgroundImage")
    assert first.startswith('url("data:image/png;base64,')
    position = opened.run(f"{PANEL}.querySelector('.thumbnail').style.backgroundPosition")
    assert opened.run(f"{POINTS}[2].x.length") == 1
    opened.press("ArrowRight")
    assert opened.run(description).endswith("image 1")
    assert opened.run(f"{PANEL}.querySelector('.thumbnail').style.backgroundPosition") != position
    opened.press("End")
    assert opened.run(description) == "class cow\npredicted cow\nimage 8"
    opened.press("ArrowLeft")
    assert opened.run(description).endswith("image 7")
    opened.press("Home")
    opened.press("e")
    assert opened.run(description) == "class bee\npredicted cow (error)\nimage 4"
    assert opened.run(f"{POINTS}[2].x[0] === {POINTS}[0].x[4]")
    assert opened.errors == []


def test_the_buttons_do_the_same(opened):
    opened.run(f"{PANEL}.querySelector('[data-step=error]').click()")
    assert "(error)" in opened.run(f"{PANEL}.querySelector('.description').innerText")
    opened.run(f"{PANEL}.querySelector('[data-step=\"1\"]').click()")
    assert "image 5" in opened.run(f"{PANEL}.querySelector('.description').innerText")


def test_the_pointer_shows_the_image_below_it(opened):
    point = f"{PANEL}.querySelector('.point').getBoundingClientRect()"
    x, y = (
        opened.run(f"{point}.{a} + {point}.{b} / 2") for a, b in (("x", "width"), ("y", "height"))
    )
    opened.move(x - 3, y)
    opened.move(x, y)
    opened.wait(f"{PANEL}.querySelector('.description').innerText.includes('predicted')")


def test_wrong_predictions_are_marked_by_shape(opened):
    symbols = opened.run(f"{POINTS}[0].marker.symbol")
    assert symbols == ["circle"] * 4 + ["x"] + ["circle"] * 4


def test_a_class_is_shown_alone_and_all_again(opened):
    chip = "document.querySelectorAll('[data-chips=class] button')[1]"
    opacity = f"{POINTS}[0].marker.opacity"
    opened.run(f"{chip}.click()")
    assert opened.run(f"{chip}.getAttribute('aria-pressed')") == "true"
    shown = opened.run(opacity)
    assert min(shown[3:6]) > 0.5 > max(shown[:3] + shown[6:])
    opened.run(f"{chip}.click()")
    assert opened.run(f"{chip}.getAttribute('aria-pressed')") == "false"
    assert min(opened.run(opacity)) > 0.5


def test_the_term_of_the_loss_is_chosen(opened):
    select = "document.querySelector('select[data-curve=term]')"
    chart = "document.querySelector('[data-kind=curve-term]')"
    assert opened.run(f"[...{select}.options].map((each) => each.value)") == [
        "total",
        "ce",
        "ratio",
    ]
    before = opened.run(f"{chart}.data.length")
    opened.run(f"{select}.value = 'ratio'; {select}.dispatchEvent(new Event('change'))")
    assert "distance" in opened.run(f"{chart}.layout.yaxis.title.text")
    assert opened.run(f"{chart}.data.length") == before / 2  # cross-entropy has no such term


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(browser, made, dark):
    browser.open(made, width=375, height=16000, dark=dark)
    browser.wait(f"{DRAWN}.length >= 20")
    assert browser.run("document.documentElement.scrollWidth") == 375
    wide = "[...document.querySelectorAll('main *')].filter((each) => !each.closest('.wide, .plot')"
    wide += " && each.getBoundingClientRect().right > 376).map((each) => each.outerHTML)"
    assert browser.run(wide) == []
    assert browser.run(
        "[...document.querySelectorAll('.wide')].some((e) => e.scrollWidth > e.clientWidth)"
    )


def test_a_finger_on_a_chart_scrolls_the_page(browser, made):
    browser.open(made, width=375, height=700)
    chart = "document.querySelector('[data-kind=curve-term]')"
    browser.run(f"{chart}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    browser.wait(f"{chart}.querySelector('svg')")
    assert browser.run("Boolean(document.elementFromPoint(180, 400).closest('svg'))")
    before = browser.run("scrollY")
    browser.swipe(180, 400, 200)
    browser.wait(f"scrollY > {before} + 100")


def test_charts_say_their_numbers(opened):
    label = "document.querySelector('[data-kind={}]').getAttribute('aria-label')"
    assert opened.run(label.format("calibration")).startswith(
        "Reliability diagram of ce: calibration error"
    )
    assert "Total loss at the end: ce 0." in opened.run(label.format("curve-term"))
    assert "rank correlation" in opened.run(label.format("class_attention"))


def test_colours_follow_the_scheme(opened):
    ink = "getComputedStyle(document.body).color"
    axis = f"getComputedStyle({PANEL}.querySelector('.textpoint text, .point')).fill"
    label = "getComputedStyle(document.querySelector('.xtick text')).fill"
    light = [opened.run(each) for each in (ink, axis, label)]
    opened.prefer("dark")
    opened.wait(f"{label} !== {light[2]!r}")
    dark = [opened.run(each) for each in (ink, axis, label)]
    assert all(left != right for left, right in zip(light, dark, strict=True))
    assert opened.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 29)"
    assert opened.errors == []


def test_everything_can_be_reached_and_named(opened):
    unnamed = "[...document.querySelectorAll('button, select, [tabindex=\"0\"], [role=img]')]"
    unnamed += ".filter((e) => !(e.ariaLabel || e.textContent || e.closest('label') || e.title))"
    assert opened.run(f"{unnamed}.map((e) => e.outerHTML.slice(0, 200))") == []
    opened.run("document.body.tabIndex = -1; document.body.focus()")
    opened.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9
    )
    assert opened.run("document.activeElement.className") == "skip"
    assert opened.run("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_names_are_shown_literally(browser, tmp_path):
    run = write_run(
        tmp_path, "cc", 1, images=21, classes=list(HOSTILE), data=f"folder:{HOSTILE[0]}"
    )
    browser.open(page.write(read_folders([run]), tmp_path / "page"), height=9000)
    browser.wait(f"{DRAWN}.length >= 9")
    browser.run(f"{PANEL}.querySelector('[data-step=\"1\"]').click()")
    assert HOSTILE[0] in browser.run(f"{PANEL}.querySelector('.description').innerText")
    ticks = browser.run(
        "[...document.querySelectorAll('[data-kind=classes] .xtick')].map((e) => e.textContent)"
    )
    assert "a|b" in ticks
    assert "$x$ %{y}" in ticks
    assert browser.run("document.querySelectorAll('script').length") == 3
    assert browser.run("document.querySelectorAll('main b').length") == 0
    assert browser.errors == []


def test_a_page_without_pictures_or_metrics_has_no_blank_panels(browser, tmp_path):
    run = write_run(tmp_path, "cc", 1, images=9, classes=["a", "b", "c"])
    record = run.read_record()
    for name in ("calibration_bins", "class_accuracy", "class_attention_mass"):
        del record.evaluation[name]
    run.write_record(record)
    run.metrics.unlink()
    run.test_sample.unlink()
    browser.open(page.write(read_folders([run]), tmp_path / "page"), height=5000)
    browser.wait(f"{DRAWN}.length >= 1")
    text = browser.run("document.body.innerText")
    for heading in ("Training", "Attention", "Calibration", "Accuracy by class"):
        assert heading not in text
    assert browser.run("[...document.querySelectorAll('.plot')].every((e) => e.innerText)")
    assert browser.errors == []


def test_two_hundred_classes_and_many_methods(browser, tmp_path):
    classes = [f"a class with a long name, number {label}" for label in range(196)]
    runs = [
        write_run(tmp_path, f"cc weight={n}", 1, images=392, width=2, classes=classes)
        for n in range(3)
    ]
    browser.open(page.write(read_folders(runs), tmp_path / "page"), width=375, height=20000)
    browser.wait(f"{DRAWN}.length >= 19")
    assert browser.run("document.documentElement.scrollWidth") == 375
    assert browser.run("document.querySelector('[data-chips=class] select').options.length") == 197
    assert browser.errors == []
