"""The front door: alone in parsing arguments and printing.

What needs torch is imported where it is used, so that help and mistakes are answered at once.
"""

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ccloss import __version__
from ccloss.errors import DivergenceError, InputError
from ccloss.experiment import Experiment, explain
from ccloss.records import RunFolder

if TYPE_CHECKING:
    from ccloss.training import Watcher

T = TypeVar("T")

SHOWN = ("method", "accuracy", "rounds", "feature ratio", "attention ratio", "time")
"""Columns of a comparison that fit a terminal; the files have all."""

STATUS_SECONDS = 60
"""Between lines on how an epoch stands, where there is no terminal for a bar."""

Fields = Annotated[Experiment, Parameter(name="*")]
DataRoot = Annotated[Path | None, Parameter(env_var="CCLOSS_DATA")]

app = App(
    name="ccloss",
    version=__version__,
    help="Train and compare image classifiers with CC-Loss (Song et al., 2020).",
)
data_app = App(name="data", help="The data sets.")
app.command(data_app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code.

    0: done. 1: the work itself failed (a loss that diverged, data that do not verify). 2: bad
    input, one line on standard error. 130: interrupted.
    """
    # The Hub's client tells of every try; what came of them is in the one line at the end.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    tokens = [_loss_option(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    try:
        return (
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
        )
    except CycloptsError as error:
        cause = error.__cause__
        text = explain(cause) if isinstance(cause, ValidationError) else str(error)
        return _fail(_one_line(text), 2)
    except InputError as error:
        return _fail(_one_line(str(error)), 2)
    except BrokenPipeError:  # who read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(_one_line(_disk_text(error)), 2)
    except DivergenceError as error:
        return _fail(_one_line(str(error)), 1)
    except (KeyboardInterrupt, SystemExit):  # cyclopts makes the second of the first
        return _fail("interrupted; what has been trained is kept up to the last whole epoch", 130)


@app.command
def train(
    *,
    experiment: Fields = Experiment(),
    out: Path = Path("runs/train"),
    data_root: DataRoot = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
) -> None:
    """Train one network. A loss's own options are --loss.OPTION, as in --loss.weight 0.5.

    Parameters
    ----------
    out
        The run's folder.
    data_root
        Folder with the data; without it they come from the Hugging Face Hub.
    resume
        Go on after the last checkpoint.
    overwrite
        Train again where a run has been, and forget that run.
    workers
        Processes that decode large images; by default as many as the cores allow.
    """
    _check_loss(experiment.loss_name, experiment.loss_options)
    experiment.resolve()

    from ccloss import training

    watcher = _watcher()
    dataset = training.load_data(experiment, data_root, watcher)
    folder = RunFolder(out)
    record = training.train(
        experiment,
        folder,
        dataset,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        watcher=watcher,
    )
    if _leads():
        _print_evaluation(record.method, record.evaluation)
        print(f"run folder: {out}")


@app.command
def evaluate(run: Path, /, *, data_root: DataRoot = None, workers: int | None = None) -> None:
    """Evaluate the network of a finished run anew, on its own test images.

    Parameters
    ----------
    run
        The run's folder.
    data_root
        Folder with the data; without it they come from the Hugging Face Hub.
    workers
        Processes that decode large images; by default as many as the cores allow.
    """
    folder = RunFolder(run)
    record = folder.read_record()

    from ccloss import training

    watcher = _watcher()
    dataset = training.load_data(Experiment(**record.experiment), data_root, watcher)
    evaluation = training.evaluate(folder, dataset, workers=workers, watcher=watcher)
    if _leads():
        _print_evaluation(record.method, {**evaluation, "split": record.evaluation["split"]})


@app.command
def compare(
    *,
    experiment: Fields = Experiment(),
    losses: str = "ce,ce+cam,cc",
    rounds: int = 3,
    out: Path = Path("runs/compare"),
    data_root: DataRoot = None,
    workers: int | None = None,
) -> None:
    """Train several losses for several rounds under one protocol: a table and figures.

    Runs that are on disk are not done again, and one that was cut short goes on, so the same
    command continues a comparison. --loss.OPTION goes to every loss that has the option.

    Parameters
    ----------
    losses
        Names with commas between; +cam behind a name gives its network channel attention.
    rounds
        Runs of each loss; their seeds count up from --seed.
    out
        Folder of the comparison.
    data_root
        Folder with the data; without it they come from the Hugging Face Hub.
    workers
        Processes that decode large images; by default as many as the cores allow.
    """
    from ccloss import campaign, training

    experiments = _experiments(experiment, losses)
    runs = campaign.plan(experiments, rounds, out)
    watcher = _watcher()
    dataset = training.load_data(experiment, data_root, watcher)
    folders = campaign.run(runs, dataset, workers=workers, watcher=watcher)
    if _leads():
        _report(folders, out)


@app.command
def losses() -> None:
    """List the losses: formula, source, what each needs, and its options."""
    from ccloss.losses import LOSSES, describe

    for name in LOSSES:
        about = describe(name)
        options = [f"{key} {value}" for key, value in about.options.items()]
        needs = ["unit class weights"] if LOSSES[name].unit_classifier else []
        needs += sorted(need.replace("_", " ") for need in about.needs - {"classifier_weight"})
        print(f"{name}\n    {about.formula}\n    {about.source}")
        print(f"    needs: {', '.join(needs) or 'logits alone'}")
        print(f"    options: {', '.join(options)}")
    print("pml:NAME\n    CE + weight * a loss of pytorch-metric-learning on the features")


@data_app.command(name="list")
def list_data() -> None:
    """List the data sets, and how many images they have."""
    from ccloss.data.catalog import SOURCES

    table = Table("name", "train", "test", "classes", "pixels", "channels", "from")
    for source in SOURCES.values():
        table.add_row(
            source.name,
            f"{source.train:,}",
            f"{source.test:,}",
            str(source.classes),
            str(source.size or "any"),
            str(source.channels),
            source.hub or "scikit-learn",
        )
    table.add_row("folder:<path>", "", "", "", "any", "", "train/<class>/ and test/<class>/")
    Console().print(table)


@data_app.command
def verify(name: str, /, *, data_root: DataRoot = None) -> int:
    """Read a whole data set: its counts, its labels, and every image.

    Parameters
    ----------
    name
        A name of `ccloss data list`.
    data_root
        Folder with the data; without it they come from the Hugging Face Hub.
    """
    from ccloss.data.sources import verify as verify_source

    found = verify_source(name, data_root, _watcher().track)
    for problem in found.problems:
        print(problem)
    print(f"{name}: {found.train:,} train, {found.test:,} test, {found.classes} classes")
    if found.fingerprints:
        print(f"sha256: train {found.fingerprints[0]}\n        test  {found.fingerprints[1]}")
    print(f"{len(found.problems)} problems" if found.problems else "no problems")
    return 1 if found.problems else 0


def _experiments(experiment: Experiment, losses: str) -> list[Experiment]:
    """One experiment a loss, which differ in nothing else."""
    from ccloss.losses import LOSSES, loss_options

    if experiment.loss != Experiment().loss:
        raise InputError(f"loss is for `ccloss train`, got {experiment.loss!r}; use --losses")
    if experiment.attention is not None:
        raise InputError("attention is for `ccloss train`; write +cam behind a name in --losses")
    names = [name.strip() for name in losses.split(",") if name.strip()]
    if not names:
        raise InputError(f"losses must name at least one of {', '.join(LOSSES)}, got {losses!r}")
    experiments = []
    for name in names:
        named = dataclasses.replace(experiment, loss=name, loss_options={})
        known = loss_options(named.loss_name)
        own = {key: value for key, value in experiment.loss_options.items() if key in known}
        _check_loss(named.loss_name, own)
        experiments.append(dataclasses.replace(named, loss_options=own))
    taken = {key for each in experiments for key in each.loss_options}
    for option in experiment.loss_options:
        if option not in taken:
            raise InputError(f"loss option {option!r} is not one of any loss in {losses!r}")
    return experiments


def _check_loss(name: str, options: Mapping[str, Any]) -> None:
    """Tells a mistake in a loss before any data are loaded."""
    from ccloss.losses import make_loss

    make_loss(name, options, num_classes=1, features=1)


def _report(folders: Sequence[RunFolder], out: Path) -> None:
    from ccloss.report import figures, page, tables

    records = [folder.read_record() for folder in folders]
    rows, caption = tables.comparison(records), tables.describe(records)
    headers, cells = tables.cells(rows)
    shown = [place for place, header in enumerate(headers) if header.startswith(SHOWN)]
    table = Table()
    for place in shown:
        table.add_column(headers[place])
    for row in cells:
        table.add_row(*(row[place].replace(" ", "\N{NO-BREAK SPACE}") for place in shown))
    Console().print(table)
    print(f"{caption} More columns are in the files.")
    drawn = figures.draw_all(folders, out)
    for path in [*tables.write(rows, out, caption), *drawn, page.write(records, drawn, out)]:
        print(path)


def _print_evaluation(method: str, evaluation: dict[str, Any]) -> None:
    table = Table("metric", method)
    for name, value in evaluation.items():
        if name == "class_accuracy":
            known = [each for each in value if each is not None]
            table.add_row("worst class accuracy", f"{min(known):.2f} %")
        elif name == "class_channels":
            known = [each for each in value or [] if each is not None]
            table.add_row("open channels", f"{min(known)} to {max(known)}" if known else "–")
        elif name == "calibration_bins":
            continue  # the error says it in one number
        elif isinstance(value, float):
            unit = " %" if name in ("accuracy", "top5", "calibration_error") else ""
            table.add_row(name.replace("_", " "), f"{value:.2f}{unit}" if unit else f"{value:.4f}")
        else:
            table.add_row(name.replace("_", " "), "–" if value is None else str(value))
    Console().print(table)


class _Screen:
    """Shows how a run goes: a live bar on a terminal, a line an epoch elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.said = time.monotonic()

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterator[T]:
        if not self.console.is_terminal:
            yield from iterable
            return
        with Progress(
            TextColumn("{task.description}"),
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
        elif time.monotonic() - self.said > STATUS_SECONDS:
            self._say(text)

    def epoch(self, text: str) -> None:
        self._say(text)

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _watcher() -> "Watcher":
    """The screen for the process that leads, silence for the others."""
    if _leads():
        return _Screen()
    from ccloss.training import Silent

    return Silent()


def _leads() -> bool:
    """Whether this process is the first of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def _loss_option(token: str) -> str:
    """``--loss.weight`` is the option ``weight`` of the loss."""
    head, dot, tail = token.partition(".")
    return f"--loss-options.{tail}" if dot and head == "--loss" else token


def _disk_text(error: OSError) -> str:
    """What a disk would not do, and where; what is on it already is whole."""
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror}; mend that, or choose another folder"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fail(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code
