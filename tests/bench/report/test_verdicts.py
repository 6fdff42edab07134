"""Verdicts on the paper's claims."""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_runs import table_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccloss.bench.paper.claims import CLAIMS
from ccloss.bench.paper.tables import SCALE, TABLE1
from ccloss.bench.report.verdicts import Verdict, judge, not_run, to_csv, to_markdown
from ccloss.bench.results import effective_fields, read_runs
from ccloss.training.records import Record

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
NOISE = (0.0, 0.11, -0.07, 0.05, -0.12)
COLUMNS = [str(column) for column in TABLE1.columns]


def rounds(cell: str, mean: float, shift: int = 0, **changes: Any) -> list[Record]:
    """Five rounds with some spread around a mean."""
    return [
        table_record(cell, seed, mean + NOISE[(seed + shift) % 5], **changes) for seed in range(5)
    ]


def verdict(records: Sequence[Record], name: str) -> Verdict:
    return next(each for each in judge(records) if each.claim.name == name)


def pair(column: str, gain: float, **changes: Any) -> list[Record]:
    """CC-Loss and CE + CAM in a column."""
    return [
        *rounds(f"table4/{column}/ce+cam", 90.0, **changes),
        *rounds(f"table4/{column}/cc", 90.0 + gain, 1, **changes),
    ]


def test_nothing_is_run() -> None:
    found = judge([])
    assert [each.claim for each in found] == list(CLAIMS)
    assert {each.headline for each in found} == {"not run"}
    assert not_run(found) == found


def test_supported_needs_every_column() -> None:
    some = [record for column in COLUMNS[:5] for record in pair(column, 1.0)]
    found = verdict(some, "cc-over-attention")
    assert found.headline == "not enough data"
    assert found.summary == "Of 6 columns at the full protocol: supported in 5, not run in 1."
    complete = verdict([*some, *pair(COLUMNS[5], 1.0)], "cc-over-attention")
    assert complete.headline == "supported"


def test_one_opposite_column_contradicts() -> None:
    records = [
        record
        for column in COLUMNS
        for record in pair(column, -1.0 if column == "mnist/vgg16" else 1.0)
    ]
    assert verdict(records, "cc-over-attention").headline == "contradicted"


def test_pilot_runs_do_not_change_the_headline() -> None:
    records = [record for column in COLUMNS for record in pair(column, 1.0)]
    pilot = pair("mnist/vgg16", -3.0, epochs=1)
    found = verdict([*pilot, *records], "cc-over-attention")
    assert found.headline == "supported"
    (other,) = found.elsewhere
    assert (other.label, other.scale) == ("opposite", "at 1 epoch instead of 300")


def test_evaluations_are_not_another_scale() -> None:
    records = pair("mnist/vgg16", 1.0, evaluate_every=5, train_limit=60_000)
    (found,) = verdict(records, "cc-over-attention").full
    assert found.outcome == "supported"


@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_equal_differences_are_not_enough_data(gain: float) -> None:
    records = [
        *rounds("table4/mnist/vgg16/ce+cam", 98.0),
        *rounds("table4/mnist/vgg16/cc", 98.0 + gain),
    ]
    (found,) = verdict(records, "cc-over-attention").full
    assert found.outcome == "not enough data"
    assert "all differences are equal" in found.notes[0]


def test_a_null_result_states_what_it_excludes() -> None:
    records = pair("mnist/vgg16", 0.0, train_limit=10_000)
    (found,) = verdict(records, "cc-over-attention").elsewhere
    assert found.outcome == "inconclusive"
    assert "excludes the published +0.66" in found.notes[0]
    assert "no difference larger than 0.3 points" in found.notes[0]


def test_the_papers_own_test_gives_no_verdict_outside_its_protocol() -> None:
    small = [
        *rounds("table3/mnist/vgg16/cc", 99.0, epochs=5),
        *rounds("table4/mnist/vgg16/ce+cam", 99.0, 2, epochs=5),
    ]
    found = verdict(small, "p-values")
    assert found.headline == "not run"
    (judged,) = found.elsewhere
    assert judged.label == "no verdict"
    assert [note.split(":")[0] for note in judged.notes] == ["cc", "ce+cam"]
    (full,) = verdict(rounds("table3/mnist/vgg16/cc", 99.0), "p-values").full
    assert full.outcome == "supported"


@pytest.mark.parametrize(("lowest", "outcome"), [(95.0, "supported"), (94.9, "not enough data")])
def test_figure_3_needs_networks_that_classify(lowest: float, outcome: str) -> None:
    records = []
    for seed in range(5):
        accuracy = lowest if seed == 3 else 97.0
        for row, ratio in (("ce", 0.5), ("cc", 0.3 + seed / 100)):
            cell = f"figure3/mnist/vgg16/{row}"
            records.append(table_record(cell, seed, accuracy, feature_ratio=ratio))
    (found,) = verdict(records, "features-of-width-2").full
    assert found.outcome == outcome
    assert ("not judged" in found.notes[0]) == (outcome != "supported")


def test_gains_are_compared_between_columns() -> None:
    records = [
        *rounds("table1/mnist/vgg16/ce", 97.0),
        *rounds("table1/mnist/vgg16/cc", 98.5, 1),
        *rounds("table1/mnist/resnet18/ce", 97.0, 2),
        *rounds("table1/mnist/resnet18/cc", 97.5, 4),
    ]
    found = verdict(records, "vgg16-gains-more")
    (judged,) = found.full
    assert judged.column == "mnist/vgg16 against mnist/resnet18"
    assert judged.outcome == "supported"
    assert judged.comparisons[0].estimate == pytest.approx(1.0)
    assert "excludes the published -0.11" in judged.notes[0]
    assert found.headline == "not enough data"


def test_metrics_that_were_not_recorded_are_named() -> None:
    found = verdict(pair("mnist/vgg16", 0.0), "attention-pairs")
    (judged,) = found.full
    assert judged.outcome == "not enough data"
    assert "share of merged class pairs was not recorded" in judged.notes[0]


def test_a_lower_ratio_supports_and_a_higher_one_contradicts() -> None:
    for better, outcome in (("cc", "supported"), ("ce+cam", "contradicted")):
        records = [
            table_record(
                f"table4/mnist/vgg16/{row}",
                seed,
                98.0,
                attention_ratio=(0.1 if row == better else 0.3) + NOISE[seed] / 10 * (row == "cc"),
            )
            for row in ("cc", "ce+cam")
            for seed in range(5)
        ]
        (found,) = verdict(records, "attention-closer").full
        assert found.outcome == outcome


# ---- the committed records -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> list[Record]:
    return read_runs(RESULTS).records


def group(record: Record) -> str:
    """Data set and scale of a record."""
    fields = effective_fields(record)
    names = (*("data", "backbone", "hidden_features", "image_size"), *SCALE)
    return str([fields[name] for name in names])


def judgements(records: Sequence[Record]) -> dict[tuple[str, str, str], Any]:
    """(claim, column, scale) -> outcome and notes."""
    return {
        (each.claim.name, judged.column, str(judged.deviations)): (judged.outcome, judged.notes)
        for each in judge(records)
        for judged in (*each.full, *each.elsewhere)
    }


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_records_of_another_scale_change_no_verdict(data: Any, committed: list[Record]) -> None:
    """Any subset of data sets and scales, in any order, gives the verdicts of each alone."""
    groups = sorted({group(record) for record in committed})
    chosen = data.draw(st.sets(st.sampled_from(groups), min_size=1, max_size=3))
    shuffled = [record for record in committed if group(record) in chosen]
    alone: dict[tuple[str, str, str], Any] = {}
    for name in chosen:
        alone |= judgements([record for record in shuffled if group(record) == name])
    random.Random(data.draw(st.integers(0, 99))).shuffle(shuffled)
    assert judgements(shuffled) == alone


def test_nothing_committed_is_at_full_protocol(committed: list[Record]) -> None:
    assert {each.headline for each in judge(committed)} == {"not run"}


def test_markdown_and_csv(committed: list[Record]) -> None:
    found = judge(committed)
    text = to_markdown(found)
    assert "same direction" in text
    assert "\nNot run: " in text
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert {line["claim"] for line in lines} == {claim.name for claim in CLAIMS}
    assert {line["headline"] for line in lines} == {"not run"}
