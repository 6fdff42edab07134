"""docs/study.md: rebuilt from the records, and recomputed with NumPy and SciPy."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import study

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_page_is_made_from_the_records() -> None:
    assert study.PAGE.read_text() == study.text()


@pytest.mark.parametrize("name", ["study-digits", "study-mnist"])
def test_values_are_those_of_the_records(name: str) -> None:
    lines = (RESULTS / f"{name}.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"] for line in lines]
    assert {record["evaluation"]["images"] for record in records} == {study.QUESTIONS[name].images}
    for metric, rows in study.values(name).items():
        for method, seeds in rows.items():
            assert seeds == {
                record["experiment"]["seed"]: record["evaluation"][metric]
                for record in records
                if record["method"] == method
            }


def test_values_of_question_3_are_those_of_the_records() -> None:
    lines = (RESULTS / "study-weights.jsonl").read_text().splitlines()
    expected: dict[str, dict[int, float]] = {}
    for line in lines:
        record = json.loads(line)["record"]
        options = record["experiment"]["loss_options"]
        row = "ce+cam"
        if record["method"].startswith("cc"):
            row = "cc reduction=mean" if options.get("reduction") == "mean" else "cc"
            row += f", weight {options.get('weight', 1):g}"
        seeds = expected.setdefault(row, {})
        seeds[record["experiment"]["seed"]] = record["evaluation"]["attention_ratio"]
    assert study.values("study-weights")["attention_ratio"] == expected
    assert len(expected) == 13


@pytest.mark.parametrize("name", [name for name in study.QUESTIONS if study.results(name).exists()])
def test_comparisons_are_those_of_scipy(name: str) -> None:
    for metric, family in study.comparisons(name).items():
        values = study.values(name)[metric]
        for each in family:
            seeds = sorted(values[each.row])
            difference = np.array([values[each.row][s] - values[each.other][s] for s in seeds])
            # The variance of half an image stands for the discreteness of counts.
            half = study.resolution(study.QUESTIONS[name], metric) / 2
            error = np.sqrt((difference.var(ddof=1) + half**2) / len(seeds))
            t = stats.t(len(seeds) - 1)
            assert each.estimate == pytest.approx(difference.mean())
            assert each.interval is not None
            assert each.interval.high == pytest.approx(difference.mean() + t.ppf(0.975) * error)
            assert each.p == pytest.approx(2 * t.sf(abs(difference.mean()) / error))


def test_summary_of_question_3() -> None:
    page = " ".join(study.PAGE.read_text().split())
    compared, values = study.comparisons("study-weights"), study.values("study-weights")
    accuracy = {each.row: each for each in compared["accuracy"]}
    assert {row for row, each in accuracy.items() if each.sign} == {"cc reduction=mean, weight 10"}
    merged = {row: np.mean(list(v.values())) for row, v in values["attention_merged_pairs"].items()}
    shares = [f"{merged[f'cc, weight {weight}']:.0f}" for weight in (0.1, 1, 10)]
    assert "{} % of the pairs at 0.1, {} % at 1 and {} % at 10".format(*shares) in page
    losses = [-(accuracy[f"cc reduction=mean, weight {w}"].estimate or 0) for w in (2, 5, 10)]
    assert "{:.1f} points lower at weight 2, {:.1f} at 5 and {:.1f} at 10".format(*losses) in page
    for weight in (0.1, 0.5, 1):
        assert merged[f"cc reduction=mean, weight {weight}"] > merged[f"cc, weight {weight}"]


def test_summary_of_question_4() -> None:
    compared = study.comparisons("study-conditions")
    for metric in ("accuracy", "recall_features", "detection"):
        assert not any(each.sign for each in compared[metric])
    found = {each.row: each for each in compared["recall_attention"] if "ce+cam" in each.other}
    assert all(each.sign == 1 for row, each in found.items() if row.startswith("class-overlap"))


@pytest.mark.parametrize("name", ["study-digits", "study-mnist", "study-conditions"])
def test_class_overlap_merges_fewer_classes_than_cc_loss(name: str) -> None:
    for each in study.comparisons(name)["attention_merged_pairs"]:
        if each.row.startswith("class-overlap") and each.other.partition(", ")[0] == "cc":
            assert each.estimate is not None
            assert each.estimate < 0


def test_summary_of_question_5() -> None:
    page = " ".join(study.PAGE.read_text().split())
    compared = study.comparisons("study-batches")
    assert not any(each.sign for each in compared["accuracy"])
    merged = {each.row: each for each in compared["attention_merged_pairs"]}
    assert all(merged[f"cc, batch size {size}"].sign == 1 for size in (32, 64, 128))
    means = study.values("study-batches")["attention_merged_pairs"]
    shares = [f"{np.mean(list(means[f'ce+cam, batch size {n}'].values())):.0f}" for n in (16, 8)]
    assert "With 16 and 8 images, {} % and {} % of the pairs merge".format(*shares) in page
    sizes = [int(row.rpartition(" ")[2]) for row in means if row.startswith("cc,")]
    assert sizes == [8, 16, 32, 64, 128]
