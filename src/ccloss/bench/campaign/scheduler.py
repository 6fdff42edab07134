"""Executes the runs of a campaign that are not finished."""

import contextlib
import functools
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ccloss.bench.campaign.executors import Executor, InterleavingExecutor
from ccloss.bench.campaign.plan import Run, require_same_experiment
from ccloss.data.sources import Dataset
from ccloss.errors import BusyError, InputError
from ccloss.training.components import load_data
from ccloss.training.config import RunConfig
from ccloss.training.devices import on_main_process
from ccloss.training.loop import run_to_end, training_steps
from ccloss.training.progress import ProgressReporter

MAX_CRASHES = 3
"""A run fails when its process has crashed this often in one epoch, e.g. for lack of memory."""

LOCKED_POLL_SECONDS = 2.0
"""Interval between checks of runs that another process has locked."""

_DATA_FIELDS = (
    "data",
    "image_size",
    "channels",
    "resize",
    "train_limit",
    "test_limit",
    "allow_missing_classes",
    "validation",
)
_dataset_cache: dict[tuple[Any, ...], Dataset] = {}


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt at a run.

    Attributes:
        run: the run.
        error: why it failed; empty if it is finished.
        bad_input: the error is an :class:`~ccloss.errors.InputError`; it is not on disk yet.
        locked: another process has locked the run.
    """

    run: Run
    error: str = ""
    bad_input: bool = False
    locked: bool = False


class Observer(Protocol):
    """Receives the progress of a campaign."""

    def started(self, run: Run) -> None:
        """A run has been submitted."""

    def ended(self, outcome: Outcome) -> None:
        """A run is finished or has failed."""

    def waiting(self, runs: Sequence[Run]) -> None:
        """Other processes have locked all runs that are left."""


def run_campaign(
    runs: Sequence[Run],
    executor: Executor,
    *,
    data_root: Path | None = None,
    workers: int | None = None,
    reporter: ProgressReporter | None = None,
    observer: Observer,
) -> list[Outcome]:
    """Executes every run that is not finished. Interrupted runs continue from their checkpoint.

    A run that fails leaves ``failure.json`` in its folder, and the other runs continue. A run that
    another campaign has locked is left to it and checked again at the end.

    Args:
        runs: the runs, from :func:`~ccloss.bench.campaign.plan.plan`.
        executor: where to execute them.
        data_root: folder with the data.
        workers: processes of each run that decode large images.
        reporter: receives the progress of each run that is executed in this process.
        observer: receives the progress of the campaign.

    Returns:
        The outcomes of the runs that failed.

    Raises:
        InputError: a folder contains a run of another experiment; nothing has been trained. Or
            every run fails because of bad input, such as missing data.
    """
    for run in runs:
        require_same_experiment(run)
    execute = run_steps if isinstance(executor, InterleavingExecutor) else execute_run
    job = functools.partial(execute, data_root=data_root, workers=workers, reporter=reporter)
    remaining = on_main_process(lambda: [run for run in runs if not run.folder.finished])
    failures: list[Outcome] = []
    while remaining:
        locked = []
        for outcome in _outcomes(remaining, executor, job, observer):
            if outcome.locked:
                locked.append(outcome.run)
                continue
            observer.ended(outcome)
            if outcome.error:
                failures.append(outcome)
        remaining = locked
        if locked:
            observer.waiting(locked)
            time.sleep(LOCKED_POLL_SECONDS)
    rejected = [failure for failure in failures if failure.bad_input]
    if rejected and len(rejected) == len(runs):
        raise InputError(rejected[0].error)  # as for any bad input, nothing is written
    for failure in rejected:
        _write_failure(failure.run, InputError(failure.error))
    return failures


def execute_run(run: Run, **options: Any) -> Outcome:
    """Executes one run in the calling process; the options are those of :func:`run_steps`."""
    return run_to_end(run_steps(run, **options))


def run_steps(
    run: Run,
    data_root: Path | None = None,
    workers: int | None = None,
    reporter: ProgressReporter | None = None,
) -> Generator[None, None, Outcome]:
    """Executes one run and stores an error in its folder; yields as ``training_steps`` does."""
    if on_main_process(lambda: run.folder.finished):  # by another campaign since the planning
        return Outcome(run)
    try:
        dataset = _load_data(run.config, data_root, reporter)
        yield from training_steps(
            run.config, run.folder, dataset, resume=True, workers=workers, reporter=reporter
        )
    except BusyError:
        return Outcome(run, locked=True)
    except Exception as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise  # the launcher must end the other processes of the run
        if isinstance(error, InputError):
            return Outcome(run, str(error), bad_input=True)
        _write_failure(run, error)
        return Outcome(run, str(error) or type(error).__name__)
    run.folder.failure.unlink(missing_ok=True)
    return Outcome(run)


def _outcomes(
    runs: Sequence[Run], executor: Executor, job: Any, observer: Observer
) -> Iterator[Outcome]:
    """Keeps the executor's slots filled and yields outcomes as runs end."""
    queue, in_flight = deque(runs), dict[Future[Outcome], Run]()
    crashes: Counter[tuple[Path, int]] = Counter()  # by run and number of finished epochs
    while queue or in_flight:
        while queue and len(in_flight) < executor.slots:
            run = queue.popleft()
            observer.started(run)
            in_flight[executor.submit(job, run)] = run
        for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
            run = in_flight.pop(future)
            error = future.exception()
            if error is None:
                yield future.result()
                continue
            # A process that dies takes the others with it: a run that made progress is not the
            # cause.
            state = run.folder.path, len(run.folder.read_metrics())
            crashes[state] += 1
            if crashes[state] < MAX_CRASHES:
                queue.append(run)
                continue
            _write_failure(run, error)
            yield Outcome(run, f"its process crashed {MAX_CRASHES} times in one epoch ({error})")


def _write_failure(run: Run, error: BaseException) -> None:
    """Stores the error in the run's folder; it is reported even if the disk cannot be written.

    A run whose record has been written is finished and does not become a failed one.
    """
    if not run.folder.finished:
        with contextlib.suppress(OSError):
            run.folder.write_failure(error)


def _load_data(
    config: RunConfig, data_root: Path | None, reporter: ProgressReporter | None
) -> Dataset:
    """The images of a run. Consecutive runs usually share them."""
    key = (data_root, *(getattr(config, name) for name in _DATA_FIELDS))
    if key not in _dataset_cache:
        _dataset_cache.clear()  # keep one data set only: a large one fills the memory
        _dataset_cache[key] = load_data(config, data_root, reporter)
    return _dataset_cache[key]
