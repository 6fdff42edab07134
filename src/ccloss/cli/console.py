"""Progress display of runs and campaigns."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ccloss.data.names import counted, printable

if TYPE_CHECKING:
    from ccloss.bench.campaign.cost import Cost
    from ccloss.bench.campaign.plan import Run
    from ccloss.bench.campaign.scheduler import Outcome
    from ccloss.training.progress import ProgressReporter

T = TypeVar("T")

STATUS_SECONDS = 60
"""Interval between status lines within an epoch when the output is not a terminal."""


def is_main_process() -> bool:
    """Whether this process is the first of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def progress_reporter() -> "ProgressReporter":
    """The display for the main process. The other processes display nothing."""
    if is_main_process():
        return RunScreen()
    from ccloss.training.progress import NullProgress

    return NullProgress()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table. Cells are literal text: markup, line breaks and long words are kept."""
    table = Table()
    for header in headers:
        table.add_column(Text(printable(header)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def print_line(text: str) -> None:
    """Prints literal text on one line; see :func:`ccloss.data.names.printable`."""
    print(printable(text))


class RunScreen:
    """Shows the progress of a run: a bar on a terminal, otherwise a line per epoch."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.last_output = time.monotonic()

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterator[T]:
        if not self.console.is_terminal:
            yield from iterable
            return
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self.console,
            transient=True,
        ) as self.progress:
            task = self.progress.add_task(description, total=total, status="")
            for item in iterable:
                yield item
                self.progress.advance(task)

    def status(self, text: str) -> None:
        if self.progress is not None:
            for task in self.progress.task_ids:
                self.progress.update(task, status=text)
        elif time.monotonic() - self.last_output > STATUS_SECONDS:
            self._print(text)

    def epoch(self, text: str) -> None:
        self._print(text)

    def warn(self, text: str) -> None:
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        self.last_output = time.monotonic()
        self.console.print(Text(printable(text)), soft_wrap=True)


class CampaignScreen:
    """Shows the running and finished runs of a campaign and the time left.

    With parallel runs on a terminal this is a table, updated from the runs' folders. Otherwise it
    is a line whenever a run starts or ends.
    """

    def __init__(
        self, runs: "Sequence[Run]", costs: "Sequence[Cost]", slots: int, console: Console
    ) -> None:
        self.costs = {run.name: cost for run, cost in zip(runs, costs, strict=True)}
        self.total = len(runs)
        self.done = sum(run.folder.finished for run in runs)
        self.slots = slots
        self.console = console
        self.running: dict[str, Run] = {}
        self.start_time = time.monotonic()
        self.first_left = self.left = sum(cost.seconds_left for cost in costs)
        self.note = ""
        self.live = Live(
            get_renderable=self._table,
            console=self.console,
            refresh_per_second=1,
            transient=True,
        )

    def __enter__(self) -> "CampaignScreen":
        if self.done:
            self._print(f"{self.done} of {counted(self.total, 'run')} already finished")
        if self.done < self.total:
            steps = sum(cost.steps_left for cost in self.costs.values())
            to_do = counted(self.total - self.done, "run")
            self._print(f"{to_do} to execute: {steps:,} steps, {self._time_left()}")
        if self._is_live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self.live.stop()

    def started(self, run: "Run") -> None:
        self.running[run.name] = run
        self.note = ""
        if self.slots == 1:
            self._print(f"[{self.done + 1}/{self.total}] {run.name}, {self._time_left()}")
        elif not self._is_live:
            self._print(f"started: {run.name}, {self._time_left()}")

    def ended(self, outcome: "Outcome") -> None:
        self.running.pop(outcome.run.name, None)
        self.left -= self.costs[outcome.run.name].seconds_left
        self.done += 1
        if outcome.error:
            self._print(f"failed: {outcome.run.name}: {' '.join(outcome.error.split())}")
        elif self.slots > 1:
            accuracy = outcome.run.folder.read_record().accuracy
            self._print(f"[{self.done}/{self.total}] {outcome.run.name}: {accuracy:.2f} %")

    def waiting(self, runs: "Sequence[Run]") -> None:
        self.running.clear()
        note = f"waiting for {counted(len(runs), 'run')} locked by another process"
        if note != self.note and not self._is_live:
            self._print(note)
        self.note = note

    @property
    def _is_live(self) -> bool:
        return self.slots > 1 and self.console.is_terminal

    def _table(self) -> Table:
        head = f"{self.done} of {counted(self.total, 'run')} done, {self._time_left()}"
        table = Table(title=Text(self.note or head), title_justify="left", box=None)
        for name in ("running", "epoch", "loss", "accuracy"):
            table.add_column(name, justify="left" if name == "running" else "right")
        for name, run in list(self.running.items()):
            table.add_row(Text(printable(name)), *_state(run))
        return table

    def _time_left(self) -> str:
        """Estimated from the time taken so far, relative to what it was expected to take."""
        from ccloss.training.progress import duration

        left = self.left
        for name, run in list(self.running.items()):
            left -= self.costs[name].seconds_left * _share_done(run, self.costs[name])
        expected, elapsed = self.first_left - left, time.monotonic() - self.start_time
        if expected > 0.02 * self.first_left:
            left *= elapsed / expected
        else:  # estimates assume one run at a time
            left /= max(1, min(self.slots, self.total - self.done))
        return f"about {duration(max(left, 0))} left"

    def _print(self, text: str) -> None:
        self.console.print(Text(printable(text)), soft_wrap=True)


def _state(run: "Run") -> tuple[str, str, str]:
    """Epoch, loss and accuracy from the last line of a run's metrics."""
    lines = run.folder.read_metrics()
    epochs = run.config.epochs
    if not lines:
        return f"0/{epochs}", "", ""
    evaluations = [line["evaluation"]["accuracy"] for line in lines if line["evaluation"]]
    accuracy = f"{evaluations[-1]:.2f} %" if evaluations else ""
    return f"{lines[-1]['epoch']}/{epochs}", f"{lines[-1]['terms']['total']:.4g}", accuracy


def _share_done(run: "Run", cost: "Cost") -> float:
    """Finished share of the steps that were left when the campaign started."""
    lines = run.folder.read_metrics()
    done_before = cost.steps - cost.steps_left
    done = lines[-1]["step"] - done_before if lines else 0
    return float(min(1.0, max(0.0, done / cost.steps_left))) if cost.steps_left else 1.0
