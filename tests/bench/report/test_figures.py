"""The figures as files: there, not blank, the same each time; and what they say."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from safetensors.numpy import load_file, save_file

from ccloss.bench.report import canvas, figures, samples
from ccloss.bench.results import read_folders
from ccloss.errors import InputError

NAMES = ["features", "attention_distances", "attention_channels", "curves"]
FEW = {"images": 9, "classes": ["a", "b", "c"]}  # too few for t-SNE, which takes time


def colours(path: Path) -> int:
    """How many distinct colours a picture has."""
    return len(np.unique(imread(path)[..., :3].reshape(-1, 3), axis=0))


def by_method(runs):
    """Method -> its runs by seed."""
    found = {}
    for run in sorted(read_folders(runs).runs, key=lambda run: run.record.seed):
        found.setdefault(run.record.method, []).append(run)
    names = dict.fromkeys(folder.read_record().method for folder in runs)
    return {name: found[name] for name in names}


class Drawn(dict):
    """Figures by name, drawn when they are asked for and not saved."""

    def __init__(self, methods):
        self.methods = methods

    def __missing__(self, name):
        with canvas.style():
            self[name] = figures._FIGURES[name](self.methods)
        return self[name]


def drawn(runs):
    order = list(dict.fromkeys(r.record.method for r in read_folders(runs).runs))
    return Drawn([figures._load(n, own, order.index(n)) for n, own in by_method(runs).items()])


def words(figure) -> str:
    """Everything a figure's titles and legends say."""
    texts = [figure.get_suptitle(), figure.get_supxlabel()]
    texts += [ax.get_title() for ax in figure.axes]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " ".join("\n".join(texts).split())


def test_draws_everything(run, tmp_path):
    runs = [run("ce", images=20), run("cc", 1, images=20), run("cc", 2, images=20)]
    folder = tmp_path / "new" / "figures"
    paths = figures.draw_all(by_method(runs), folder)
    assert paths == [folder / f"{name}.png" for name in NAMES]
    for path in paths:
        assert colours(path) > 20
        assert len(list(ElementTree.parse(path.with_suffix(".svg")).iter())) > 50
    assert len(list(folder.iterdir())) == 2 * len(NAMES)


def test_same_bytes_from_a_bare_process_and_under_other_settings(run, tmp_path):
    """No display, no pyplot, no torch; none of the user's settings, and none of them changed."""
    import matplotlib

    made = run("cc", images=24, classes=["a", "b"])
    code = (
        "import sys; from pathlib import Path\n"
        "from ccloss.training.records import RunFolder\n"
        "from ccloss.bench.report import figures\n"
        "from ccloss.bench.results import read_folders\n"
        "assert not {'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "figures.draw_all({'cc': read_folders([RunFolder(sys.argv[1])]).runs}, Path(sys.argv[2]))\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)\n"
    )
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    bare["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-W", "error", "-c", code, made.path, tmp_path / "bare"]
    subprocess.run(command, check=True, env=bare, timeout=60)

    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        figures.draw_all(by_method([made]), tmp_path / "here")
        assert dict(matplotlib.rcParams) == before

    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("bare", "here")
    ]
    assert len(contents[0]) == 2 * len(NAMES)
    assert contents[0] == contents[1]


def test_a_failed_write_leaves_the_old_figure(run, tmp_path, monkeypatch):
    old = tmp_path / "figures" / "features.png"
    old.parent.mkdir()
    old.write_bytes(b"old")

    made = run("cc", **FEW)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        figures.draw_all(by_method([made]), old.parent)
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_without_attention_there_is_no_attention_figure(run, tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.png").touch()
        (folder / f"{name}.svg").touch()
    paths = figures.draw_all(by_method([run("ce", **FEW)]), folder)
    assert [path.stem for path in paths] == ["features", "curves"]
    assert {path.stem for path in folder.iterdir()} == {"features", "curves"}


def test_methods_without_attention_are_named(run):
    figs = drawn([run("ce", **FEW), run("cc", **FEW)])
    for name in ("attention_distances", "attention_channels"):
        assert "not shown, no attention stored: ce" in words(figs[name])
        assert len(figs[name].axes) == 2  # one panel and the colour bar
    assert "not shown" not in words(figs["features"])


def test_panels_say_method_accuracy_and_ratio(run):
    figs = drawn([run("cc", accuracy=91.234, attention_ratio=None, **FEW)])
    assert "cc accuracy 91.23 %, feature ratio 0.200" in words(figs["features"])
    assert "attention ratio –" in words(figs["attention_distances"])
    assert "lower is more compact" in words(figs["features"])
    assert "9 test images (seed 1)" in words(figs["features"])


def test_pictures_show_the_lowest_seed(run):
    figs = drawn([run("cc", 3, accuracy=80.0, **FEW), run("cc", 2, accuracy=70.0, **FEW)])
    assert "70.00 %" in words(figs["features"])
    assert "seed 2" in words(figs["features"])


def test_tsne_is_named_and_has_no_axes(run):
    figure = drawn([run("cc", images=20)])["features"]
    assert "t-SNE" in words(figure)
    assert figure.axes[0].get_xticks().size == 0


def test_two_features_are_drawn_as_they_are(run):
    made = run("cc", width=2, images=30)
    figure = drawn([made])["features"]
    points = figure.axes[0].collections[0].get_offsets()
    features = made.read_sample(made.test_sample).features
    assert sorted(map(tuple, points.tolist())) == sorted(map(tuple, features.tolist()))
    assert "t-SNE" not in words(figure)
    assert figure.axes[0].get_xticks().size > 0


def test_points_have_the_colour_of_their_class(run):
    made = run("cc", width=2, images=30)
    cloud = drawn([made])["features"].axes[0].collections[0]
    sample = made.read_sample(made.test_sample)
    palette = np.array(canvas.class_colours(10))[sample.labels]
    expected = np.column_stack([sample.features, palette[:, :3]])
    shown = np.column_stack([cloud.get_offsets(), cloud.get_facecolors()[:, :3]])
    assert sorted(shown.tolist()) == sorted(expected.tolist())


def test_figure_3_shows_training_and_test_images(run):
    """The panels of each method are side by side, with distances over all pairs of the images."""
    made = [run(name, width=2, images=30, epochs=1) for name in ("ce", "cc")]
    parts = {"training": {}, "test": {}}
    for number, folder in enumerate(made):
        arrays = load_file(folder.test_sample)
        parts["test"][number] = arrays
        shifted = {**arrays, "features": 3 * arrays["features"] + 1}
        shifted["predictions"] = np.where(arrays["index"] < 3, 9, arrays["labels"])
        parts["training"][number] = {name: array[:20] for name, array in shifted.items()}
        save_file(parts["training"][number], folder.train_sample)
    figure = drawn(made)["features"]
    assert len(figure.axes) == 4
    for at, (number, split) in enumerate([(n, s) for n in (0, 1) for s in ("training", "test")]):
        arrays = parts[split][number]
        vectors, labels = arrays["features"].astype(float), arrays["labels"]
        sums = {True: [], False: []}
        for i in range(len(labels)):
            for j in range(i):
                same = bool(labels[i] == labels[j])
                sums[same].append(((vectors[i] - vectors[j]) ** 2).sum())
        points = figure.axes[at].collections[0].get_offsets()
        assert sorted(map(tuple, points.tolist())) == sorted(map(tuple, vectors.tolist()))
        title = figure.axes[at].get_title().split("\n")
        pair = figure.axes[2 * number]
        assert (figure.axes[at].get_xlim(), figure.axes[at].get_ylim()) == (
            pair.get_xlim(),
            pair.get_ylim(),
        )
        right = {"training": "85.00", "test": "100.00"}[split]
        assert title[0] == ("ce", "cc")[number]
        assert title[1] == f"{len(labels)} {split} images: accuracy {right} %"
        printed = [float(word.strip(",")) for word in title[2].split() if word[0].isdigit()]
        assert printed == pytest.approx([np.mean(sums[True]), np.mean(sums[False])], rel=5e-3)


@pytest.mark.parametrize("damage", ["missing", "cut", "another width"])
def test_missing_training_images_of_width_2_are_named(run, damage):
    made = [run(name, width=2, images=30) for name in ("ce", "cc")]
    made[0].train_sample.write_bytes(made[0].test_sample.read_bytes())
    if damage == "cut":
        made[1].train_sample.write_bytes(made[0].test_sample.read_bytes()[:40])
    if damage == "another width":
        wide = np.zeros((30, 16), np.float32)
        save_file({**load_file(made[1].test_sample), "features": wide}, made[1].train_sample)
    figure = drawn(made)["features"]
    assert len(figure.axes) == 2
    assert "those of cc are not stored or are damaged" in words(figure)


def test_a_method_keeps_its_colour(run):
    figs = drawn([run("ce", **FEW), run("cc", **FEW)])
    shown = {
        figs["features"].axes[1].title.get_color(),
        figs["attention_distances"].axes[0].title.get_color(),
        figs["attention_channels"].axes[0].title.get_color(),
        figs["curves"].axes[0].lines[1].get_color(),
        figs["curves"].legends[0].get_lines()[1].get_color(),
    }
    assert len(shown) == 1


@pytest.mark.parametrize("classes", [1, 10, 11, 20, 100])
def test_every_class_has_its_own_colour(classes):
    assert len(set(canvas.class_colours(classes))) == classes


def test_methods_have_distinct_lines():
    assert len({tuple(canvas.method_line(index).values()) for index in range(28)}) == 28


def test_distances_are_over_their_panels_own_mean(run):
    figure = drawn([run("cc", images=60), run("cc+mean", images=60, spread=5.0)])
    for ax in figure["attention_distances"].axes[:2]:
        shown = np.asarray(ax.images[0].get_array())
        labels = np.repeat(np.arange(10), 6)
        assert shown[labels[:, None] != labels].mean() == pytest.approx(1)
        assert ax.images[0].get_clim() == (0, 2)


def test_channels_share_one_scale(run):
    figure = drawn([run("cc", images=20), run("cc+mean", images=20, spread=5.0)])
    first, second = (ax.images[0] for ax in figure["attention_channels"].axes[:2])
    assert first.get_clim() == second.get_clim()
    assert first.get_clim()[0] == min(first.get_array().min(), second.get_array().min())


def test_curves_are_means_with_bands(run):
    runs = [run("cc", seed, **FEW) for seed in (1, 2, 3)]
    ax = drawn(runs)["curves"].axes[1]
    values = np.array([[line["terms"]["ce"] for line in made.read_metrics()] for made in runs])
    assert ax.get_title() == "cross-entropy (nats)"
    assert np.allclose(ax.lines[0].get_xydata(), np.stack([[1, 2, 3], values.mean(0)], axis=1))
    band = ax.collections[0].get_paths()[0].vertices
    for epoch in (1, 2, 3):
        heights = band[band[:, 0] == epoch, 1]
        assert heights.min() == pytest.approx(values[:, epoch - 1].min())
        assert heights.max() == pytest.approx(values[:, epoch - 1].max())


def test_curves_skip_epochs_without_evaluation_and_absent_terms(run):
    made = run("ce", epochs=0, **FEW)
    for epoch in (1, 2):
        evaluation = {"accuracy": 50.0} if epoch == 2 else None
        made.append_metrics({"epoch": epoch, "terms": {"total": 1.0}, "evaluation": evaluation})
    figure = drawn([made])["curves"]
    assert [ax.get_title() for ax in figure.axes] == ["total loss", "accuracy, test (%)"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[2, 50]]


def test_curves_over_orders_of_magnitude_are_logarithmic(run):
    made = run("ce", epochs=40, **FEW)
    figure = drawn([made])["curves"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log", "linear"]


def test_without_metrics_there_are_no_curves(run):
    assert drawn([run("ce", epochs=0, **FEW)])["curves"] is None


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"images": 1, "classes": ["a"]}, id="one image"),
        pytest.param({"images": 12, "classes": ["a"]}, id="one class"),
        pytest.param({"images": 5, "epochs": 1}, id="classes without images, one epoch"),
        pytest.param({"images": 9, "classes": ["Ford F-150 " * 9, "$x", "_b$"]}, id="odd names"),
        pytest.param({"images": 100, "classes": list(map(str, range(100)))}, id="100 classes"),
    ],
)
def test_draws_degenerate_samples(run, tmp_path, made):
    name = "a$-very-long-method-name" * 3
    paths = figures.draw_all(by_method([run(name, **made)]), tmp_path)
    assert [path.stem for path in paths] == NAMES


def test_draws_vectors_that_all_coincide(run, tmp_path):
    made = run("cc", images=30)
    same = np.full((30, 16), 0.5, np.float32)
    change_sample(made, features=same, attention=same)
    assert [path.stem for path in figures.draw_all(by_method([made]), tmp_path)] == NAMES
    assert "no distance" in drawn([made])["attention_distances"].axes[0].texts[0].get_text()


def change_sample(made, **changes) -> None:
    save_file({**load_file(made.test_sample), **changes}, made.test_sample)


def test_more_than_twenty_classes_are_counted_not_named(run):
    figure = drawn([run("cc", images=9, classes=[f"class {i}" for i in range(21)])])["features"]
    assert "21 classes" in words(figure)
    assert not figure.legends


@pytest.mark.parametrize(
    "name",
    ["short", "Ford F-150 Regular Cab 2012 with options", "a" * 28, "b" * 29],
)
def test_labels_keep_both_ends(name):
    text = canvas.label(name)
    assert len(text) <= 28
    assert (text[0], text[-1]) == (name[0], name[-1])


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_sample_is_not_drawn(run, tmp_path, damage):
    made = run("cc", **FEW)
    content = made.test_sample.read_bytes()
    made.test_sample.unlink()
    if damage == "cut":
        made.test_sample.write_bytes(content[:40])
    paths = figures.draw_all(by_method([made]), tmp_path)
    assert [path.stem for path in paths] == ["curves"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", np.full((9, 16), np.nan, np.float32)),
        ("features", np.ones((4, 16), np.float32)),
        ("attention", np.ones(9, np.float32)),
        ("labels", np.full(9, 3)),
        ("labels", np.full(9, -1)),
    ],
)
def test_an_unsound_sample_is_rejected(run, name, value):
    made = run("cc", **FEW)
    change_sample(made, **{name: value})
    with pytest.raises(InputError, match="does not hold finite vectors of labelled images"):
        samples.read(made, made.read_record(), made.test_sample)


def test_colours_follow_the_order_of_the_report(run):
    (own,) = by_method([run("cc", **FEW)]).values()
    assert figures._load("cc", own, 2).line == canvas.method_line(2)


def test_names_in_any_script_are_drawn_without_glyph_warnings(run, tmp_path):
    names = ["名前", "한국어", "مرحب", "שלום", "a🎉b"]
    made = run("cc", images=9, classes=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.draw_all(by_method([made]), tmp_path)
    written = [text.get_text() for text in drawn([made])["features"].axes[0].texts]
    assert written == [canvas.label(name) for name in names]


def test_characters_without_a_glyph_are_transliterated(monkeypatch):
    monkeypatch.setattr(canvas, "_characters", lambda: frozenset(range(128)))
    assert canvas.label("名前") == "~MingQian"
    assert canvas.label("plain") == "plain"
