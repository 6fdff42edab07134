"""Runs that were interrupted, killed or damaged, and the folders they use."""

import errno
import itertools
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ccloss.data.images import MemoryImages
from ccloss.errors import InputError
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from processes import FORKS
from small_runs import Interrupted, Listener, content, small_config, small_data, weights

DATA = small_data()


@pytest.mark.parametrize("loss", ["a-softmax", "mc", "center"])
def test_state_and_random_numbers_of_a_loss_survive_a_resume(tmp_path: Path, loss: str) -> None:
    config = small_config(loss=loss, sampler="m-per-class", samples_per_class=4)
    whole_run, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train(config, whole_run, DATA)
    with pytest.raises(Interrupted):
        train(config, cut, DATA, reporter=Listener(interrupt_after=1))
    train(config, cut, DATA, resume=True)
    assert weights(cut) == weights(whole_run)
    lines = [folder.read_metrics()[-1]["terms"] for folder in (whole_run, cut)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_resumed_run_ends_in_the_same_weights(
    folder: RunFolder, finished_run: RunFolder, epochs: int
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=epochs))
    assert not folder.finished
    record = train(small_config(), folder, DATA, resume=True)
    assert weights(folder) == weights(finished_run)
    assert record.evaluation == finished_run.read_record().evaluation
    assert [line["epoch"] for line in folder.read_metrics()] == [1, 2, 3]


def _train_until_killed(path: Path, experiment: dict[str, Any], started: Any) -> None:
    torch.set_num_threads(1)
    started.set()
    train(small_config(**experiment), RunFolder(path), DATA, resume=True)


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    fields = {"epochs": 24}
    undisturbed, killed = RunFolder(tmp_path / "undisturbed"), RunFolder(tmp_path / "killed")
    started_at = time.perf_counter()
    train(small_config(**fields), undisturbed, DATA)
    length = time.perf_counter() - started_at

    random_source = random.Random(5)
    kills = 0
    while kills < 10:
        started = FORKS.Event()
        process = FORKS.Process(
            target=_train_until_killed, args=(killed.path, fields, started), daemon=True
        )
        process.start()
        assert started.wait(60)
        # Each session gets about a tenth of the run and ends at a random moment.
        time.sleep(random_source.uniform(0.02, 0.15) * length)
        process.kill()
        process.join()
        assert not killed.finished, "the run ended before ten kills; give it more epochs"
        kills += 1
    train(small_config(**fields), killed, DATA, resume=True)
    assert weights(killed) == weights(undisturbed)
    assert [line["epoch"] for line in killed.read_metrics()] == list(range(1, 25))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_resume_falls_back_from_a_damaged_checkpoint_with_a_warning(
    folder: RunFolder, finished_run: RunFolder, damage: str
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=2))
    newest = folder.checkpoints / "epoch-0002.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
    newest.write_bytes({"flip": content, "cut": content[:-1000], "empty": b""}[damage])

    reporter = Listener()
    record = train(small_config(), folder, DATA, resume=True, reporter=reporter)
    assert weights(folder) == weights(finished_run)
    assert "epoch-0002.safetensors is damaged" in reporter.warnings[0]
    assert "falling back to epoch-0001.safetensors" in reporter.warnings[0]
    assert record.warnings == reporter.warnings


def test_without_a_readable_checkpoint_the_run_starts_again(
    folder: RunFolder, finished_run: RunFolder
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=1))
    for checkpoint in folder.checkpoints.iterdir():
        checkpoint.write_bytes(b"not a checkpoint")
    reporter = Listener()
    train(small_config(), folder, DATA, resume=True, reporter=reporter)
    assert weights(folder) == weights(finished_run)
    assert "the run starts again" in reporter.warnings[-1]


@pytest.fixture
def interrupted(folder: RunFolder) -> RunFolder:
    """A run of three epochs that was interrupted after two."""
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=2))
    return folder


@pytest.mark.parametrize("name", ["metrics.jsonl", "experiment.json"])
@pytest.mark.parametrize(
    "damage", [b"", b"null\n", b"{}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"epoch": 1}\n']
)
def test_damaged_files_stop_a_resume_in_one_line(
    interrupted: RunFolder, name: str, damage: bytes
) -> None:
    (interrupted.path / name).write_bytes(damage)
    before = content(interrupted.path)
    with pytest.raises(InputError, match=f"{name}.*--overwrite") as raised:
        train(small_config(), interrupted, DATA, resume=True)
    assert "\n" not in str(raised.value)
    assert content(interrupted.path) == before
    train(small_config(epochs=1), interrupted, DATA, overwrite=True)


def test_changed_images_stop_a_resume_unless_allowed(interrupted: RunFolder) -> None:
    pixels = DATA.train.pixels.clone()
    pixels[0, 0, 0, 0] ^= 1
    changed = DATA._replace(train=MemoryImages(pixels, DATA.train.labels))
    with pytest.raises(InputError, match="the train images of digits are not those of the run"):
        train(small_config(), interrupted, changed, resume=True)
    record = train(small_config(), interrupted, changed, resume=True, allow_changed_data=True)
    assert record.warnings == ["the train images of digits are not those of the run"]


def test_state_of_another_network_stops_a_resume(interrupted: RunFolder) -> None:
    config = small_config(hidden_features=8)
    interrupted.write_config(config)
    with pytest.raises(InputError, match="does not fit this run"):
        train(config, interrupted, DATA, resume=True)


def test_temporary_files_of_a_kill_are_removed_at_the_next_start(
    interrupted: RunFolder, finished_run: RunFolder
) -> None:
    (interrupted.path / ".metrics.jsonl.abc").touch()
    (interrupted.checkpoints / ".epoch-0003.safetensors.abc").touch()
    train(small_config(), interrupted, DATA, resume=True)
    assert list(interrupted.path.rglob(".*.abc")) == []
    assert weights(interrupted) == weights(finished_run)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_at_any_write_is_an_error_and_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Run 0 fails at its first write, run 1 at its second, and so on until one does not fail."""
    config, original = small_config(epochs=1), getattr(os, call)
    for failures in itertools.count():
        folder, left = RunFolder(tmp_path / str(failures)), itertools.count(failures, -1)

        def write(*arguments: Any, left: Any = left) -> Any:
            if next(left) == 0:
                raise OSError(errno.ENOSPC, "no space left on device")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, write)
            try:
                train(config, folder, DATA)
                break
            except OSError as error:
                assert (error.errno, bool(error.filename)) == (errno.ENOSPC, True)  # noqa: PT017
        assert failures or not folder.path.exists()
    assert failures >= 5
    for number in range(failures):
        resumed = RunFolder(tmp_path / str(number))
        if not resumed.finished:  # the last write syncs the name of the record
            train(config, resumed, DATA, resume=True)
        assert weights(resumed) == weights(folder)
        assert [line["epoch"] for line in resumed.read_metrics()] == [1]


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(PermissionError):
        train(small_config(), RunFolder(tmp_path / "run"), DATA)


def test_finished_run_is_not_overwritten_without_the_option(finished_run: RunFolder) -> None:
    before = content(finished_run.path)
    for resume in (False, True):
        with pytest.raises(InputError, match="finished run; use --overwrite"):
            train(small_config(), finished_run, DATA, resume=resume)
    assert content(finished_run.path) == before


def test_overwrite_trains_again(folder: RunFolder) -> None:
    train(small_config(epochs=2), folder, DATA)
    record = train(small_config(epochs=1, loss="ce"), folder, DATA, overwrite=True)
    assert record.method == "ce"
    assert len(folder.read_metrics()) == 1
    assert [path.name for path in folder.checkpoints.iterdir()] == ["epoch-0001.safetensors"]


def test_killed_overwrite_leaves_no_state_to_the_next_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_config(), folder, DATA)

    def killed(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr("ccloss.training.records.shutil.rmtree", killed)
    with pytest.raises(Interrupted):
        train(small_config(seed=1), folder, DATA, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match="unfinished run"):
        train(small_config(seed=1), folder, DATA)


def test_overwrite_keeps_the_run_if_the_new_one_is_rejected(finished_run: RunFolder) -> None:
    before = content(finished_run.path)
    with pytest.raises(InputError, match="backbone must be"):
        train(small_config(backbone="nothing"), finished_run, DATA, overwrite=True)
    assert content(finished_run.path) == before


def test_overwrite_keeps_foreign_files(folder: RunFolder) -> None:
    train(small_config(epochs=1), folder, DATA)
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex besides a run"):
        train(small_config(epochs=1), folder, DATA, overwrite=True)
    assert folder.finished


def test_folder_of_foreign_files_is_rejected(folder: RunFolder) -> None:
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not of a run"):
        train(small_config(), folder, DATA)
    assert content(folder.path) == {"notes.txt": b"mine"}


def test_unfinished_run_needs_resume_with_its_own_options(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=1))
    with pytest.raises(InputError, match="unfinished run; use --resume"):
        train(small_config(), folder, DATA)
    changed = small_config(epochs=5, learning_rate=0.2)
    with pytest.raises(InputError, match=r"learning_rate: 0\.1 before.*epochs: 3 before, 5 now"):
        train(changed, folder, DATA, resume=True)
