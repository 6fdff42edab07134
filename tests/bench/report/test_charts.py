"""The data of charts, against independent computations."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr, ttest_1samp

from ccloss.bench.report import charts


def bins(*filled):
    """Fifteen calibration bins, the last ones filled."""
    return [[0, None, None]] * (15 - len(filled)) + [list(each) for each in filled]


def test_curves_are_mean_lowest_and_highest_by_epoch(run):
    runs = [run("cc", seed) for seed in (1, 2, 3)]
    metrics = [each.read_metrics() for each in runs]
    found = {each["name"]: each for each in charts.curves([metrics], "test")}
    assert list(found) == ["test", "train", "total", "ce", "ratio"]
    values = np.array([[line["terms"]["ratio"] for line in each] for each in metrics])
    (line,) = found["ratio"]["lines"]
    assert line["epoch"] == [1, 2, 3]
    for name, expected in zip(
        ("mean", "low", "high"),
        (values.mean(0), values.min(0), values.max(0)),
        strict=True,
    ):
        assert line[name] == pytest.approx(expected, rel=1e-3)
    assert found["test"]["label"] == "Accuracy on the test split (%)"


def test_a_method_without_a_term_has_no_line(run):
    metrics = [[run("ce").read_metrics()], [run("cc").read_metrics()]]
    ratio = next(each for each in charts.curves(metrics, "test") if each["name"] == "ratio")
    assert ratio["lines"][0] is None
    assert ratio["lines"][1]["epoch"] == [1, 2, 3]


def test_terms_over_decades_get_a_log_axis_and_accuracies_never():
    lines = [
        {"epoch": epoch, "terms": {"ce": 10.0**-epoch, "cos": -0.5}, "train_accuracy": 0.1 * epoch}
        for epoch in (1, 2, 3)
    ]
    found = {each["name"]: each["log"] for each in charts.curves([[lines]], "test")}
    assert found == {"train": False, "ce": True, "cos": False}


def test_long_curves_are_thinned_to_their_ends():
    lines = [{"epoch": epoch, "terms": {"ce": 1.0}} for epoch in range(1, 1001)]
    (curve,) = charts.curves([[lines]], "test")
    epochs = curve["lines"][0]["epoch"]
    assert len(epochs) == charts.EPOCHS_SHOWN
    assert (epochs[0], epochs[-1]) == (1, 1000)
    assert set(np.diff(epochs)) <= {5, 6}


def test_numbers_that_are_not_finite_or_not_there_are_left_out():
    lines = [
        {"epoch": 1, "terms": {"ce": float("nan")}, "evaluation": None},
        {"epoch": 2, "terms": {"ce": None}, "evaluation": {}},
        {"epoch": 3, "terms": {"ce": 2.0}},
    ]
    (curve,) = charts.curves([[lines]], "test")
    assert curve["lines"][0]["epoch"] == [3]
    assert charts.curves([[]], "test") == []


def test_calibration_bins_are_those_of_all_images_together(record):
    first = record("cc", 1, calibration_bins=bins((10, 80.0, 50.0), (90, 99.0, 98.0)))
    second = record("cc", 2, calibration_bins=bins((30, 84.0, 70.0), (70, 97.0, 100.0)))
    found = charts.calibration([first, second])
    images = np.array([40, 160])
    sure = np.array([(10 * 80 + 30 * 84) / 40, (90 * 99 + 70 * 97) / 160])
    right = np.array([(10 * 50 + 30 * 70) / 40, (90 * 98 + 70 * 100) / 160])
    assert found["images"][-2:] == images.tolist()
    assert found["confidence"][-2:] == pytest.approx(sure, rel=1e-3)
    assert found["accuracy"][-2:] == pytest.approx(right, rel=1e-3)
    assert found["error"] == 1.5  # the mean over rounds, as in the table
    assert found["confidence"][0] is None


def test_rounds_without_bins_are_left_out(record):
    known, unknown = record("cc", 1), record("cc", 2)
    del unknown.evaluation["calibration_bins"]
    assert charts.calibration([known, unknown]) == charts.calibration([known])
    assert charts.calibration([unknown]) is None


def test_class_accuracies_over_rounds(record):
    rounds = [
        record("cc", seed, classes=["a", "b"], class_accuracy=values)
        for seed, values in enumerate(([90.0, None], [80.0, None], [85.0, None]))
    ]
    assert charts.class_accuracies(rounds) == {
        "mean": [85.0, None],
        "low": [80.0, None],
        "high": [90.0, None],
    }


@pytest.mark.parametrize("classes", [10, 196])
def test_class_attention_agrees_with_scipy(record, classes):
    rng = np.random.default_rng(classes)
    attention = rng.uniform(0, 1, size=(2, classes))
    right = rng.uniform(50, 100, size=(2, classes))
    rounds = [
        record(
            "cc",
            seed,
            class_attention_mass=attention[seed].tolist(),
            class_accuracy=right[seed].tolist(),
        )
        for seed in (0, 1)
    ]
    found = charts.class_attention(rounds)
    rho = [spearmanr(attention[seed], 100 - right[seed]).statistic for seed in (0, 1)]
    assert found["rho"] == pytest.approx(np.mean(rho), rel=1e-2, abs=1e-3)
    assert found["classes"] == list(range(classes))
    assert found["errors"] == pytest.approx(100 - right.mean(0), rel=1e-3)


def test_class_attention_that_is_undefined_or_not_recorded(record):
    one = record("cc", classes=["a"], class_accuracy=[90.0], class_attention_mass=[0.7])
    assert charts.class_attention([one])["rho"] is None
    old = record("cc")
    del old.evaluation["class_attention_mass"]
    assert charts.class_attention([old]) is None
    assert charts.class_attention([record("ce")]) is None


def test_accuracies_have_a_t_interval_from_three_rounds_on(record):
    values = [91.0, 93.0, 92.5]
    one, three = charts.accuracies(
        [[record("ce", 1, 90.0)], [record("cc", seed, value) for seed, value in enumerate(values)]]
    )
    assert (one["mean"], one["interval"], one["seeds"]) == (90.0, None, [1])
    expected = ttest_1samp(values, 0).confidence_interval()
    assert three["interval"] == pytest.approx(expected, rel=1e-4)


def test_all_of_it_is_json(record, run):
    rounds = [replace(record("cc"), provenance={})]
    parts = [
        charts.accuracies([rounds]),
        charts.calibration(rounds),
        charts.class_accuracies(rounds),
        charts.class_attention(rounds),
        charts.curves([[run("cc").read_metrics()]], "test"),
    ]
    assert json.loads(json.dumps(parts, allow_nan=False)) == parts
