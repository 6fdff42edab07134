"""Kills, crashes, locks and parallel execution do not change the results of a campaign."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

import pytest
import torch

from campaigns import Log, results, small_plan
from ccloss.bench.campaign import executors, scheduler
from ccloss.bench.campaign.executors import ProcessExecutor, SerialExecutor
from ccloss.bench.campaign.plan import Run
from ccloss.errors import InputError
from ccloss.training.records import RunFolder
from processes import FORKS
from small_runs import Listener, content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    runs = small_plan(tmp_path_factory.mktemp("undisturbed"))
    assert scheduler.run_campaign(runs, SerialExecutor(), observer=Log()) == []
    return runs


def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for value in ("-1", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert executors.visible_devices() == []
        assert executors.default_threads() == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert executors.visible_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3")
    assert executors.visible_devices() == ["GPU-a", "3"]


def test_finished_runs_are_not_repeated(undisturbed: list[Run]) -> None:
    assert all(run.folder.finished for run in undisturbed)
    kept = {str(run.folder.path): content(run.folder.path) for run in undisturbed}
    log = Log()
    assert scheduler.run_campaign(undisturbed, SerialExecutor(), observer=log) == []
    assert log.started_runs == []
    assert {str(run.folder.path): content(run.folder.path) for run in undisturbed} == kept


def test_interrupted_run_continues(tmp_path: Path, undisturbed: list[Run]) -> None:
    runs = small_plan(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        scheduler.execute_run(runs[1], reporter=_Interrupting())
    assert not runs[1].folder.finished
    log = Log()
    scheduler.run_campaign(runs, SerialExecutor(), observer=log)
    assert results(runs) == results(undisturbed)
    assert log.started_runs == [run.name for run in runs]


class _Interrupting(Listener):
    """Interrupts as Ctrl-C does. This is not a failure of the run."""

    def epoch(self, text: str) -> None:
        raise KeyboardInterrupt


def _campaign(out: Path, fields: dict[str, Any], started: Any) -> None:
    torch.set_num_threads(1)
    started.set()
    scheduler.run_campaign(small_plan(out, **fields), SerialExecutor(), observer=Log())


def test_five_random_kills_change_no_result(tmp_path: Path) -> None:
    fields = {"rounds": 2, "losses": "ce,cc", "epochs": 6}
    whole, killed = small_plan(tmp_path / "whole", **fields), small_plan(tmp_path / "cut", **fields)
    start = time.perf_counter()
    scheduler.run_campaign(whole, SerialExecutor(), observer=Log())
    length = time.perf_counter() - start

    chance = random.Random(3)
    for _ in range(5):
        started = FORKS.Event()
        process = FORKS.Process(
            target=_campaign, args=(tmp_path / "cut", fields, started), daemon=True
        )
        process.start()
        assert started.wait(60)
        time.sleep(chance.uniform(0.02, 0.3) * length)
        process.kill()
        process.join()
    assert not all(run.folder.finished for run in killed), "all runs ended before the kills"
    scheduler.run_campaign(killed, SerialExecutor(), observer=Log())
    assert results(killed) == results(whole)


def _counted_campaign(out: Path, counts: Path, started: Any) -> None:
    torch.set_num_threads(1)
    started.wait(60)
    listener, log = Listener(), Log()
    scheduler.run_campaign(
        small_plan(out, rounds=3), SerialExecutor(), reporter=listener, observer=log
    )
    counts.write_text(json.dumps({"epochs": len(listener.epochs), "ended": len(log.outcomes)}))


def test_two_campaigns_in_one_folder_execute_each_run_once(tmp_path: Path) -> None:
    start = FORKS.Event()
    counts = [tmp_path / "one.json", tmp_path / "other.json"]
    both = [
        FORKS.Process(target=_counted_campaign, args=(tmp_path / "runs", count, start))
        for count in counts
    ]
    for process in both:
        process.start()
    start.set()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    found = [json.loads(count.read_text()) for count in counts]
    assert sum(each["epochs"] for each in found) == 6 * 3
    assert all(each["epochs"] > 0 for each in found), "one campaign executed all runs"
    for run in small_plan(tmp_path / "runs", rounds=3):
        assert [line["epoch"] for line in run.folder.read_metrics()] == [1, 2, 3]
        assert run.folder.finished


def test_locked_run_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Run]
) -> None:
    monkeypatch.setattr(scheduler, "LOCKED_POLL_SECONDS", 0.0)
    runs = small_plan(tmp_path)
    with contextlib.ExitStack() as hold:
        hold.enter_context(runs[0].folder.locked())
        log = _Releasing(hold)
        assert scheduler.run_campaign(runs, SerialExecutor(), observer=log) == []
    assert log.waits == [1]
    assert [outcome.run for outcome in log.outcomes] == [*runs[1:], runs[0]]
    assert results(runs) == results(undisturbed)


class _Releasing(Log):
    """Releases the lock of another campaign when only the locked run is left."""

    def __init__(self, hold: contextlib.ExitStack) -> None:
        super().__init__()
        self.hold = hold

    def waiting(self, runs: Sequence[Run]) -> None:
        super().waiting(runs)
        self.hold.close()


def test_error_after_the_record_leaves_a_finished_run(undisturbed: list[Run]) -> None:
    scheduler._write_failure(undisturbed[0], OSError("the folder cannot be synced"))
    assert not undisturbed[0].folder.failure.exists()


def test_failed_run_is_recorded_and_others_continue(tmp_path: Path) -> None:
    runs = small_plan(tmp_path, rounds=1)
    broken = runs[0]
    log = Log()
    broken.folder.model.mkdir(parents=True)  # in the place of its weights
    failures = scheduler.run_campaign(runs, SerialExecutor(), observer=log)
    assert [failure.run for failure in failures] == [broken]
    assert "model.safetensors" in failures[0].error
    failure = broken.folder.read_failure()
    assert failure["error"] == failures[0].error
    assert "Traceback" in failure["traceback"]
    assert failure["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert runs[1].folder.finished
    assert not broken.folder.finished

    broken.folder.model.rmdir()  # the next campaign tries again and removes failure.json
    assert scheduler.run_campaign(runs, SerialExecutor(), observer=Log()) == []
    assert broken.folder.finished
    assert not broken.folder.failure.exists()


def test_bad_input_of_all_runs_raises_and_writes_nothing(tmp_path: Path) -> None:
    runs = small_plan(tmp_path, data="cifar100", backbone="convnet")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=f"no images in {tmp_path / 'nothing'}"):
        scheduler.run_campaign(
            runs, SerialExecutor(), data_root=tmp_path / "nothing", observer=Log()
        )
    assert [path.name for path in tmp_path.iterdir()] == ["nothing"]


def test_bad_input_of_some_runs_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    absent = small_plan(tmp_path, rounds=1, losses="ce", data="cifar100", backbone="convnet")
    present = small_plan(tmp_path, rounds=1, losses="ce")
    log = Log()
    failures = scheduler.run_campaign(
        [*absent, *present], SerialExecutor(), data_root=tmp_path / "nothing", observer=log
    )
    assert [failure.run for failure in failures] == absent
    assert absent[0].folder.read_failure()["error"] == failures[0].error
    assert present[0].folder.finished


# ---- processes -----------------------------------------------------------------------------------


class _KillsWorkers(Log):
    """Kills all worker processes after the first epoch of the first run."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def started(self, run: Run) -> None:
        super().started(run)
        if self.times:
            self.times -= 1
            FORKS.Process(target=_kill_worker, args=(run.folder, os.getpid())).start()


def _kill_worker(folder: RunFolder, parent: int) -> None:
    deadline = time.monotonic() + 180
    while not folder.metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    children = subprocess.run(
        ["pgrep", "-P", str(parent), "-f", "spawn_main"], capture_output=True, text=True
    )
    for pid in children.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def test_killed_worker_processes_lose_nothing(tmp_path: Path, undisturbed: list[Run]) -> None:
    runs = small_plan(tmp_path)
    log = _KillsWorkers(times=1)
    with ProcessExecutor(2) as executor:
        assert executor.slots == 2
        assert scheduler.run_campaign(runs, executor, observer=log) == []
    assert results(runs) == results(undisturbed)
    assert len(log.outcomes) == len(runs)
    assert log.started_runs.count(runs[0].name) == 2, "no process was killed during the first run"


class _Crashes:
    """An executor whose processes always crash."""

    slots = 2

    def submit(self, job: Any, argument: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("a child process terminated abruptly"))
        return future


def test_run_whose_process_always_crashes_fails(tmp_path: Path) -> None:
    runs = small_plan(tmp_path, rounds=1)
    log = Log()
    failures = scheduler.run_campaign(runs, _Crashes(), observer=log)
    assert {failure.run.name for failure in failures} == {run.name for run in runs}
    assert len(log.started_runs) == len(runs) * scheduler.MAX_CRASHES
    assert all(f"crashed {scheduler.MAX_CRASHES} times" in failure.error for failure in failures)
    assert "terminated abruptly" in runs[0].folder.read_failure()["error"]


class _CrashesAfterEachEpoch(_Crashes):
    """An executor whose processes crash after every epoch."""

    def submit(self, job: Any, argument: Any) -> Future[Any]:
        with contextlib.suppress(KeyboardInterrupt):
            future: Future[Any] = Future()
            future.set_result(scheduler.execute_run(argument, reporter=_Interrupting()))
            return future
        return super().submit(job, argument)


def test_run_that_progresses_between_crashes_does_not_fail(tmp_path: Path) -> None:
    runs = small_plan(tmp_path, rounds=1, losses="ce", epochs=scheduler.MAX_CRASHES + 2)
    log = Log()
    assert scheduler.run_campaign(runs, _CrashesAfterEachEpoch(), observer=log) == []
    assert len(log.started_runs) == scheduler.MAX_CRASHES + 3
    assert runs[0].folder.finished


def _campaign_in_a_session(out: Path, errors: Path) -> None:
    os.setsid()
    # A shell makes background processes ignore SIGINT, and tests may run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY), 2)
    with ProcessExecutor(1) as executor:
        scheduler.run_campaign(small_plan(out, epochs=10_000), executor, observer=Log())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_campaign(tmp_path: Path, number: int) -> None:
    parent = FORKS.Process(
        target=_campaign_in_a_session, args=(tmp_path / "runs", tmp_path / "errors")
    )
    parent.start()
    assert parent.pid is not None
    try:
        folder = small_plan(tmp_path / "runs", epochs=10_000)[0].folder
        _wait(folder.metrics.exists)
        os.kill(parent.pid, number)
        parent.join(30)
        assert parent.exitcode
    finally:
        parent.kill()
    _wait(lambda: _is_unlocked(folder))


def _wait(holds: Any) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_unlocked(folder: RunFolder) -> bool:
    try:
        with folder.locked():
            return True
    except InputError:
        return False


@pytest.mark.parametrize(("slots", "message"), [(0, "slots must be 1 or more"), (-1, "got -1")])
def test_number_of_slots_must_be_positive(slots: int, message: str) -> None:
    with pytest.raises(InputError, match=message), ProcessExecutor(slots):
        pass


def test_parallel_runs_under_a_launcher_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="cannot be combined with a launcher"), ProcessExecutor(2):
        pass
