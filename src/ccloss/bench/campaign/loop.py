"""The one loop over runs: what is not on disk yet, so long as there is any."""

import functools
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ccloss.bench.campaign.executors import Executor
from ccloss.bench.campaign.plan import Run, check_own
from ccloss.data.sources import Dataset
from ccloss.errors import BusyError, InputError
from ccloss.training.config import RunConfig
from ccloss.training.loop import Watcher, load_data, train

TRIES = 3
"""A run whose process dies so often in one epoch, for want of memory say, has failed."""

BUSY_SECONDS = 2.0
"""Between looks at runs that another campaign has in hand."""

_OF_THE_DATA = (
    "data",
    "image_size",
    "channels",
    "resize",
    "train_limit",
    "test_limit",
    "validation",
)
_loaded: dict[tuple[Any, ...], Dataset] = {}


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        run: the run.
        error: why it could not be finished; empty if it is.
        mistake: the error is one that the caller can mend, and not on disk yet.
        busy: another process has the run in hand.
    """

    run: Run
    error: str = ""
    mistake: bool = False
    busy: bool = False


class Observer(Protocol):
    """Who is told how a campaign goes."""

    def begun(self, run: Run) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...

    def waiting(self, runs: Sequence[Run]) -> None:
        """Nothing is left but what another process has in hand."""


def run(
    runs: Sequence[Run],
    executor: Executor,
    *,
    data_root: Path | None = None,
    workers: int | None = None,
    watcher: Watcher | None = None,
    observer: Observer,
) -> list[Outcome]:
    """Does what of the runs is not done yet, unfinished ones from their last checkpoint.

    A run that fails leaves ``failure.json`` in its folder, and the others go on. A run that another
    campaign has in hand is left to it and looked at again in the end.

    Args:
        runs: as :func:`~ccloss.bench.campaign.plan.plan` lists them.
        executor: where to do them.
        data_root: folder with the data.
        workers: processes of each run that decode large images.
        watcher: is told how each run goes, where it is done in this process.
        observer: is told how the campaign goes.

    Returns:
        What could not be finished.

    Raises:
        InputError: a folder holds another experiment's run; nothing has been trained. Or nothing
            can be done at all for what the caller can mend, such as data that are not there.
    """
    for run in runs:
        check_own(run)
    job = functools.partial(do, data_root=data_root, workers=workers, watcher=watcher)
    waiting = [run for run in runs if not run.folder.finished]
    failures: list[Outcome] = []
    while waiting:
        busy = []
        for outcome in _flow(waiting, executor, job, observer):
            if outcome.busy:
                busy.append(outcome.run)
                continue
            observer.ended(outcome)
            if outcome.error:
                failures.append(outcome)
        waiting = busy
        if busy:
            observer.waiting(busy)
            time.sleep(BUSY_SECONDS)
    mistakes = [each for each in failures if each.mistake]
    if mistakes and len(mistakes) == len(runs):
        raise InputError(mistakes[0].error)  # and nothing is left behind, as of any bad input
    for each in mistakes:
        each.run.folder.write_failure(InputError(each.error))
    return failures


def do(
    run: Run,
    data_root: Path | None = None,
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """One run, in the process where this is called; whatever goes wrong with it is kept on disk."""
    if run.folder.finished:  # by another campaign, since this one was planned
        return Outcome(run)
    try:
        dataset = _dataset(run.config, data_root, watcher)
        train(run.config, run.folder, dataset, resume=True, workers=workers, watcher=watcher)
    except BusyError:
        return Outcome(run, busy=True)
    except Exception as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise  # the processes that share the run must all stop, and their launcher sees to it
        if isinstance(error, InputError):
            return Outcome(run, str(error), mistake=True)
        run.folder.write_failure(error)
        return Outcome(run, str(error) or type(error).__name__)
    run.folder.failure.unlink(missing_ok=True)
    return Outcome(run)


def _flow(
    runs: Sequence[Run], executor: Executor, job: Any, observer: Observer
) -> Iterator[Outcome]:
    """Keeps the executor's slots full, and hands out outcomes as they come."""
    queue, flying = deque(runs), dict[Future[Outcome], Run]()
    deaths: Counter[tuple[Path, int]] = Counter()  # by how far the run had come
    while queue or flying:
        while queue and len(flying) < executor.slots:
            each = queue.popleft()
            observer.begun(each)
            flying[executor.submit(job, each)] = each
        for future in wait(flying, return_when=FIRST_COMPLETED).done:
            each = flying.pop(future)
            error = future.exception()
            if error is None:
                yield future.result()
                continue
            # One process that dies takes others with it: a run that gets on is not to blame.
            state = each.folder.path, len(each.folder.read_metrics())
            deaths[state] += 1
            if deaths[state] < TRIES:
                queue.append(each)
                continue
            each.folder.write_failure(error)
            yield Outcome(each, f"its process died {TRIES} times in one epoch ({error})")


def _dataset(config: RunConfig, data_root: Path | None, watcher: Watcher | None) -> Dataset:
    """The images of a run, which mostly are those of the run before."""
    key = (data_root, *(getattr(config, name) for name in _OF_THE_DATA))
    if key not in _loaded:
        _loaded.clear()  # one at a time: a large data set fills the memory
        _loaded[key] = load_data(config, data_root, watcher)
    return _loaded[key]
