"""The files of a run: complete or absent, locked by one process, with clear errors."""

import errno
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ccloss.errors import InputError
from ccloss.training.records import Record, RunFolder, find_runs
from small_runs import small_config

RECORD = Record(
    method="cc weight=2",
    experiment=small_config(seed=3).to_dict(),
    classes=["null", "één"],
    evaluation={"accuracy": 97.5, "class_accuracy": [95.0, None], "attention_ratio": None},
    steps=40,
    seconds=1.5,
    images_per_second=1e4,
    parameters=123,
    warnings=["something was odd"],
    provenance={"device": "cpu"},
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder with every file and folder of a run."""
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.write_config(small_config(seed=3))
        run.append_metrics({"epoch": 1})
        for path in (run.checkpoints, run.tensorboard):
            path.mkdir()
            (path / "file").touch()
        run.model.touch()
        save_file({"labels": np.arange(3)}, run.test_sample)
        run.write_record(RECORD)
    return run


# --- records


def test_a_record_is_read_as_it_was_written(folder: RunFolder) -> None:
    record = folder.read_record()
    assert record == RECORD
    assert (record.seed, record.accuracy) == (3, 97.5)


def test_a_record_of_other_than_json_types_is_rejected(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_record(
            Record("ce", RECORD.experiment, [], {"nll": float("nan")}, 1, 1.0, 1.0, 1)
        )
    assert folder.read_record() == RECORD


def test_presence_of_the_record_means_finished(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert (run.started, run.finished) == (False, False)
    run.write_config(small_config())
    assert (run.started, run.finished) == (True, False)
    run.write_record(RECORD)
    assert (run.started, run.finished) == (True, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"method": "cc"', "record.json is damaged"),
        (b"\xff\xfe\x00", "record.json is damaged"),
        (b"null", "record.json is damaged"),
        (b"{}", "is not a record of this version .*method"),
        (b'{"method": "cc"}', "is not a record of this version .*experiment"),
    ],
)
def test_a_damaged_record_is_reported_in_one_line(
    folder: RunFolder, content: bytes, message: str
) -> None:
    folder.record.write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*train the run again") as raised:
        folder.read_record()
    assert "\n" not in str(raised.value)


def test_a_record_with_a_field_of_another_version_is_reported(folder: RunFolder) -> None:
    content = json.loads(folder.record.read_bytes()) | {"colour": "red"}
    folder.record.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"not a record of this version \(unknown field 'colour'"):
        folder.read_record()


def test_a_folder_without_a_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run folder .*it has no experiment.json"):
        RunFolder(tmp_path).read_config()
    with pytest.raises(InputError, match=r"is not a finished run .*it has no record.json"):
        RunFolder(tmp_path / "missing").read_record()


def test_a_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        RunFolder(tmp_path / "file").read_record()


def test_runs_are_found_in_order_finished_or_not(tmp_path: Path) -> None:
    for name in ("b/1", "a/2", "a/1"):
        run = RunFolder(tmp_path / name)
        with run.locked():
            run.write_record(RECORD)
    (tmp_path / "c").mkdir()
    RunFolder(tmp_path / "c").write_config(small_config())
    RunFolder(tmp_path / "d").write_failure(ValueError("broken"))
    found = find_runs(tmp_path)
    assert [run.path for run in found] == [
        tmp_path / name for name in ("a/1", "a/2", "b/1", "c", "d")
    ]
    assert [run.finished for run in found] == [True, True, True, False, False]


def test_a_failure_holds_the_error_and_its_traceback(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new" / "run")
    try:
        raise ArithmeticError
    except ArithmeticError as error:
        run.write_failure(error)
    failure = run.read_failure()
    assert failure["error"] == "ArithmeticError"  # by its name, for it has no words
    assert "raise ArithmeticError" in failure["traceback"]
    assert failure["provenance"]["python"] == platform.python_version()
    with pytest.raises(InputError, match="is not a failed run"):
        RunFolder(tmp_path).read_failure()


# --- metrics


@pytest.fixture
def metrics(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "ce": 1 / epoch})
    return run


def test_metrics_are_read_in_order(metrics: RunFolder) -> None:
    assert metrics.read_metrics() == [{"epoch": e, "ce": 1 / e} for e in (1, 2, 3)]


def test_metrics_that_were_not_written_are_none(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).read_metrics() == []


def test_an_incomplete_last_line_is_left_out(metrics: RunFolder) -> None:
    metrics.metrics.write_bytes(metrics.metrics.read_bytes()[:-5])
    assert [line["epoch"] for line in metrics.read_metrics()] == [1, 2]


def test_epochs_to_be_run_again_are_dropped(metrics: RunFolder) -> None:
    metrics.metrics.write_bytes(metrics.metrics.read_bytes()[:-5])
    metrics.truncate_metrics(1)
    metrics.append_metrics({"epoch": 2})
    assert [line["epoch"] for line in metrics.read_metrics()] == [1, 2]


def test_missing_epochs_are_an_error(metrics: RunFolder) -> None:
    for content in (b"", metrics.metrics.read_bytes().split(b"\n", 1)[0] + b"\n"):
        metrics.metrics.write_bytes(content)
        with pytest.raises(InputError, match=r"metrics.jsonl has [01] of the 3 epochs"):
            metrics.truncate_metrics(3)
        assert metrics.metrics.read_bytes() == content


def test_a_line_after_an_incomplete_one_is_kept(metrics: RunFolder) -> None:
    metrics.metrics.write_bytes(metrics.metrics.read_bytes()[:-5])
    metrics.truncate_metrics(2)
    metrics.append_metrics({"epoch": 3})
    assert [line["epoch"] for line in metrics.read_metrics()] == [1, 2, 3]


@pytest.mark.parametrize(
    "line", [b"{oops", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"epoch": 3}', b""]
)
def test_damaged_line_is_named(metrics: RunFolder, line: bytes) -> None:
    lines = metrics.metrics.read_bytes().split(b"\n")
    metrics.metrics.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(InputError, match=r"metrics.jsonl line 2 is damaged") as raised:
        metrics.read_metrics()
    assert "\n" not in str(raised.value)


# --- the test sample


@pytest.mark.parametrize("attention", [True, False])
def test_a_test_sample_is_read_as_it_was_written(tmp_path: Path, attention: bool) -> None:
    arrays = {
        "features": np.ones((3, 2), np.float32),
        "attention": np.full((3, 2), 0.5, np.float32),
        "labels": np.arange(3),
        "predictions": np.arange(3)[::-1].copy(),
        "index": np.array([4, 5, 9]),
        "thumbnails": np.full((3, 4, 4, 1), 7, np.uint8),
    }
    if not attention:
        del arrays["attention"]
    run = RunFolder(tmp_path)
    save_file(arrays, run.test_sample)
    sample = run.read_sample(run.test_sample)
    assert (sample.attention is not None) == attention
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(sample, name), array)


def test_a_damaged_test_sample_is_reported(folder: RunFolder) -> None:
    with pytest.raises(InputError, match=r"test_sample.safetensors cannot be read .*missing"):
        folder.read_sample(folder.test_sample)
    folder.test_sample.write_bytes(b"\x00" * 7)
    with pytest.raises(InputError, match=r"cannot be read .*train the run again"):
        folder.read_sample(folder.test_sample)
    folder.test_sample.unlink()
    with pytest.raises(InputError, match=r"cannot be read .*train the run again"):
        folder.read_sample(folder.test_sample)


# --- whose folder it is


def test_new_and_empty_folders_can_be_used(tmp_path: Path) -> None:
    RunFolder(tmp_path).ensure_empty()
    RunFolder(tmp_path / "new").ensure_empty()


def test_a_folder_with_foreign_files_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds files that are not of a run"):
        RunFolder(tmp_path).ensure_empty()


def test_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; choose a folder"):
        RunFolder(tmp_path / "file").ensure_empty()


def test_clear_deletes_the_run(folder: RunFolder) -> None:
    folder.ensure_only_run_files()
    folder.clear()
    assert {path.name for path in folder.path.iterdir()} <= {".lock"}
    folder.clear()


def test_foreign_files_are_named_before_a_run_is_deleted(folder: RunFolder) -> None:
    (folder.path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds notes.txt besides a run"):
        folder.ensure_only_run_files()


def test_a_temporary_file_of_a_killed_write_is_not_foreign(folder: RunFolder) -> None:
    (folder.path / ".record.json.abc123").touch()
    folder.ensure_only_run_files()


def test_file_with_a_similar_name_is_foreign(folder: RunFolder) -> None:
    (folder.path / "model.safetensors.backup").touch()
    with pytest.raises(InputError, match=r"holds model.safetensors.backup besides a run"):
        folder.ensure_only_run_files()


def test_clear_deletes_temporary_files_of_killed_writes(folder: RunFolder) -> None:
    (folder.path / ".record.json.abc123").touch()
    folder.clear()
    assert {path.name for path in folder.path.iterdir()} <= {".lock"}


def test_temporary_files_of_killed_writes_are_removed(folder: RunFolder) -> None:
    (folder.path / ".record.json.abc123").touch()
    (folder.checkpoints / ".epoch-0002.safetensors.abc123").touch()
    folder.remove_temporary_files()
    assert {path.name for path in folder.path.rglob(".*")} <= {".lock"}


def test_clear_removes_the_record_first(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: removed.append(path.name))
    folder.clear()
    assert removed[0] == "record.json"


# --- the lock

HOLD = """
import sys
from ccloss.errors import InputError
from ccloss.training.records import RunFolder
try:
    with RunFolder(sys.argv[1]).locked():
        print("held", flush=True)
        sys.stdin.read()
except InputError as error:
    print(error, flush=True)
"""


def test_a_folder_locked_by_another_process_is_rejected(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is locked by another process"), run.locked():
            pass
        other.communicate("")
    with run.locked():
        pass


def test_a_folder_is_removed_if_the_run_does_not_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ZeroDivisionError), run.locked():
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match="does not support locks"), run.locked():
        pass


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
    with run.locked():
        pass


@pytest.mark.parametrize(
    "module", ["ccloss.training.records", "ccloss.bench.statistics", "ccloss.cli"]
)
def test_import_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
