"""Reading run folders and campaign files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import write_run

from ccloss.bench.results import effective_fields, read_runs, write_campaign
from ccloss.errors import InputError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def change_record(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_folders_and_campaign_files_hold_the_same_runs(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / "runs" / "deep" / "er", "cc", seed)
    written = write_campaign(tmp_path / "runs", tmp_path / "cc.jsonl")
    folders, file = read_runs(tmp_path / "runs"), read_runs(tmp_path / "cc.jsonl")
    assert written == 2
    assert folders.records == file.records
    assert [run.metrics for run in folders.runs] == [run.metrics for run in file.runs]
    assert file.runs[0].name == f"{tmp_path}/cc.jsonl/deep/er/cc-1"
    assert not folders.problems
    assert not file.problems


def test_campaign_file_without_epochs_holds_the_same_records(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "cc", 1)
    write_campaign(tmp_path / "runs", tmp_path / "cc.jsonl", epochs=False)
    file = read_runs(tmp_path / "cc.jsonl")
    assert file.records == read_runs(tmp_path / "runs").records
    assert [list(run.metrics) for run in file.runs] == [[]]


def test_every_committed_record_is_read() -> None:
    results = read_runs(RESULTS)
    assert len(results.runs) > 400
    assert {problem.state for problem in results.problems} <= {"duplicate"}
    assert all(path.stat().st_size < 1.5e6 for path in RESULTS.glob("*.jsonl"))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "accuracy is 101.0": lambda r: r["evaluation"].update(accuracy=101.0),
    "accuracy is '90'": lambda r: r["evaluation"].update(accuracy="90"),
    "NaN": lambda r: r["evaluation"].update(nll=float("nan")),
    "nll is 'low'": lambda r: r["evaluation"].update(nll="low"),
    "class_accuracy must have a value for each": lambda r: r["evaluation"].update(
        class_accuracy=[1.0]
    ),
    "images must be": lambda r: r["evaluation"].update(images=0),
    "'novelty'": lambda r: r.update(novelty=1),
    "'steps' is missing": lambda r: r.pop("steps"),
    "experiment must be a valid dictionary": lambda r: r.update(experiment=None),
    "seed": lambda r: r["experiment"].update(seed="one"),
    "'data' is missing": lambda r: r["experiment"].pop("data"),
    "classes must be a valid list": lambda r: r.update(classes=3),
    "seconds must be a valid number": lambda r: r.update(seconds=[]),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_bad_record_is_listed_with_its_reason(tmp_path: Path, reason: str) -> None:
    good, bad = (write_run(tmp_path, "cc", seed) for seed in (1, 2))
    change_record(bad.record, CHANGES[reason])
    results = read_runs(tmp_path)
    assert [run.folder and run.folder.path for run in results.runs] == [good.path]
    (problem,) = results.problems
    assert problem.state == "damaged"
    assert problem.source == str(bad.record)
    assert reason in problem.reason
    assert "\n" not in problem.reason


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"{"])
def test_a_file_that_is_not_a_record_is_listed(tmp_path: Path, content: bytes) -> None:
    run = write_run(tmp_path, "cc", 1)
    run.record.write_bytes(content)
    (tmp_path / "more.jsonl").write_bytes(content + b"\n")
    results = read_runs(tmp_path)
    assert results.runs == ()
    assert {problem.state for problem in results.problems} == {"damaged"}
    assert len(results.problems) == (2 if content.strip() else 1)


@pytest.mark.parametrize(
    "line", [b"{", b"null", b"\xff", b'{"epoch": 1, "terms": {"ce": "x"}}', b'{"epoch": "1"}']
)
def test_damaged_metrics_are_listed_and_the_record_is_used(tmp_path: Path, line: bytes) -> None:
    run = write_run(tmp_path, "cc", 1)
    run.metrics.write_bytes(line + b"\n")
    results = read_runs(tmp_path)
    assert len(results.runs) == 1
    assert results.runs[0].metrics == ()
    assert [problem.source for problem in results.problems] == [str(run.metrics)]


def test_a_last_line_cut_short_is_ignored(tmp_path: Path) -> None:
    run = write_run(tmp_path, "cc", 1, epochs=3)
    run.metrics.write_bytes(run.metrics.read_bytes()[:-5])
    results = read_runs(tmp_path)
    assert len(results.runs[0].metrics) == 2
    assert not results.problems


def test_failed_and_unfinished_runs_are_listed(tmp_path: Path) -> None:
    failed, unfinished = (write_run(tmp_path, "cc", seed) for seed in (1, 2))
    for run in (failed, unfinished):
        run.record.unlink()
        run.experiment.write_text('{"data": "digits", "loss": "cc", "seed": 1}')
    failed.failure.write_text('{"error": "loss is\\nNaN", "traceback": "..."}')
    first, second = read_runs(tmp_path).problems
    assert (first.state, first.reason, first.epochs) == ("failed", "loss is NaN", 3)
    assert (second.state, second.description) == ("unfinished", "data digits, loss cc, seed 1")


def test_a_second_run_of_an_experiment_and_seed_is_a_duplicate(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cc", 1, accuracy=90.0, evaluate_every=1)
    write_run(tmp_path / "b", "cc", 1, accuracy=95.0, evaluate_every=3)
    write_run(tmp_path / "c", "cc", 1, accuracy=95.0, batch_size=64)
    results = read_runs(tmp_path)
    assert [run.record.accuracy for run in results.runs] == [90.0, 95.0]
    assert [(p.state, p.source) for p in results.problems] == [
        ("duplicate", str(tmp_path / "b" / "cc-1"))
    ]


def test_settings_without_effect_are_dropped(tmp_path: Path) -> None:
    write_run(tmp_path, "cc", 1, train_limit=1297, test_limit=499, max_steps=121)
    fields = effective_fields(read_runs(tmp_path).records[0])
    assert fields["evaluate_every"] == 1
    assert (fields["train_limit"], fields["test_limit"], fields["max_steps"]) == (None, 499, None)


def test_names_that_are_not_utf8_become_printable(tmp_path: Path) -> None:
    write_run(tmp_path, "cc", 1, classes=["caf\udce9", "名前", "a\nb"])
    assert read_runs(tmp_path).records[0].classes == ["caf\\xe9", "名前", "a\\nb"]


def test_a_missing_path_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_runs(tmp_path / "nothing")
