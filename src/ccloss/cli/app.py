"""The front door: alone in parsing arguments and printing.

What needs torch is imported where it is used, so that help and mistakes are answered at once.
"""

import dataclasses
import logging
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from ccloss import __version__
from ccloss.bench.experiment import ATTENTION, BACKBONES, Experiment, Precision, explain
from ccloss.bench.paper import ROUNDS, TABLES, select
from ccloss.bench.paper import Table as PaperTable
from ccloss.cli.console import CampaignScreen, RunScreen
from ccloss.errors import DivergenceError, InputError, did_you_mean, unknown_name, unknown_option
from ccloss.options import LOSS_OPTIONS, PREFIX, check_options
from ccloss.training.records import Record, RunFolder, find_runs

if TYPE_CHECKING:
    from ccloss.bench.campaign.executors import Executor
    from ccloss.bench.campaign.plan import Run
    from ccloss.training.loop import Watcher

SHOWN = ("method", "accuracy", "rounds", "feature ratio", "attention ratio", "time")
"""Columns of a comparison that fit a terminal; the files have all."""

DataRoot = Annotated[Path | None, Parameter(env_var="CCLOSS_DATA")]


@Parameter(name="*")
@dataclass(frozen=True)
class Scale:
    """Of a re-run, where it is not the paper's."""

    epochs: int | None = None
    """Passes over the training images (the paper: 300)."""

    max_steps: int | None = None
    """End after so many steps, the learning rate with them."""

    train_limit: int | None = None
    """Train on so many images, the same share of every class."""

    test_limit: int | None = None
    """Evaluate on so many images, the same share of every class."""

    evaluate_every: int | None = None
    """Epochs between evaluations; the last epoch is always evaluated."""

    precision: Precision | None = None
    """Of the network (here: fp32, on any device); losses are always computed in fp32."""

    learning_rate: float | None = None
    """At the first step (the paper: 0.1)."""

    final_learning_rate: float | None = None
    """At the last step (the paper: 1e-5)."""

    seed: int | None = None
    """Of the first round; those of the others count up."""


@Parameter(name="*")
@dataclass(frozen=True)
class Resources:
    """Where runs are done, and where their data are."""

    data_root: DataRoot = None
    """Folder with the data; without it they come from the Hugging Face Hub."""

    jobs: int = 1
    """Runs side by side on this machine; they divide its threads and GPUs."""

    rounds_per_device: int | Literal["auto"] | None = None
    """The same said for each GPU, or for the processor where there is none; auto: as many as are
    quickest, which is measured first."""

    ray: str | None = None
    """Address of a Ray cluster to run on, or auto; its machines see the same --out."""

    cpus_per_run: float = 1
    """Processor cores of a run on the cluster."""

    gpus_per_run: float = 0
    """GPUs of a run on the cluster; several runs share one below 1."""

    workers: int | None = None
    """Processes of a run that decode large images; by default as many as the cores allow."""


Fields = Annotated[Experiment, Parameter(name="*")]

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
    experiment.resolve()
    _check_names(experiment)

    from ccloss.training import loop as training

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

    from ccloss.training import loop as training

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
    resources: Resources = Resources(),
    dry_run: bool = False,
) -> int:
    """Train several losses for several rounds under one protocol: a table, figures, a page.

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
    dry_run
        Say what would run, what is done and how long it takes; train nothing.
    """
    from ccloss.bench.campaign.plan import plan

    _check_resources(resources)
    runs = plan(_experiments(experiment, losses), rounds, out)
    _check_runs(runs)
    if dry_run:
        return _print_costs(runs, resources)
    failed = _run(runs, resources)
    if _leads():
        _print_comparison(_records(runs))
        _write_report([run.folder for run in runs], out, figures=True)
    return 1 if failed else 0


@app.command
def reproduce(
    tables: str,
    /,
    *,
    only: str = "",
    rounds: int = ROUNDS,
    data: str | None = None,
    backbone: str | None = None,
    scale: Scale = Scale(),
    out: Path = Path("runs/paper"),
    resources: Resources = Resources(),
    dry_run: bool = False,
) -> int:
    """Run the paper's tables again: what was published beside what is measured, and a page.

    Runs that are on disk are not done again, and one that was cut short goes on. Tables share the
    runs that they have in common.

    Parameters
    ----------
    tables
        table1, table2, table3, table4, table5 or figure3, several with commas between, or all.
    only
        Cells to run, with commas between: `cifar100/resnet18/cc`, `mnist`, `*/vgg16/ce*`.
    rounds
        Runs of each cell; their seeds count up from --seed.
    data
        One data set: of the paper's, or in their place.
    backbone
        One backbone: of the paper's, or in their place.
    out
        Folder of the runs.
    dry_run
        Say what would run, what is done and how long it takes; train nothing.
    """
    from ccloss.bench.campaign.plan import plan

    _check_resources(resources)
    chosen = _tables(tables)
    fields = {name: value for name, value in vars(scale).items() if value is not None}
    everything = [
        cell for table in chosen for cell in table.cells(data=data, backbone=backbone, **fields)
    ]
    cells = select(everything, only)
    runs = plan([cell.experiment for cell in cells], rounds, out)
    _check_runs(runs)
    if dry_run:
        return _print_costs(runs, resources)
    failed = _run(runs, resources)
    if _leads():
        _print_reproduction(_records(runs), chosen)
        _write_report(find_runs(out), out, figures=False)
    return 1 if failed else 0


@app.command
def report(
    folder: Path = Path("runs"), /, *, out: Path | None = None, figures: bool = False
) -> None:
    """Write the page of the runs in a folder, and their tables as Markdown, LaTeX and CSV.

    Parameters
    ----------
    folder
        Where the runs are, at any depth.
    out
        Where the report goes; by default beside the runs.
    figures
        Draw figures (PNG and SVG) as well, where the runs have kept their test images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one with runs in it")
    runs = find_runs(folder)
    if not runs:
        raise InputError(f"{folder} holds no runs; make some with `ccloss compare`")
    _write_report(runs, out or folder, figures)


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
    print(f"{PREFIX}NAME\n    CE + weight * a loss of pytorch-metric-learning on the features")


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
    if experiment.loss != Experiment().loss:
        raise InputError(f"loss is for `ccloss train`, got {experiment.loss!r}; use --losses")
    if experiment.attention is not None:
        raise InputError("attention is for `ccloss train`; write +cam behind a name in --losses")
    names = [name.strip() for name in losses.split(",") if name.strip()]
    if not names:
        raise InputError(
            f"losses must name at least one of {', '.join(LOSS_OPTIONS)}, got {losses!r}"
        )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"losses name {name!r} twice; give every loss once")
        _check_loss_name(name.removesuffix(ATTENTION))
    known = {name: _loss_options(name.removesuffix(ATTENTION)) for name in names}
    every = [option for options in known.values() for option in options]
    given = experiment.loss_options
    for option in given:
        if option not in every:
            near = did_you_mean(option, every)
            raise InputError(f"loss option {option!r} is not one of any loss in {losses!r}{near}")
    return [
        dataclasses.replace(
            experiment,
            loss=name,
            loss_options={option: given[option] for option in given if option in known[name]},
        )
        for name in names
    ]


def _check_runs(runs: "Sequence[Run]") -> None:
    for run in runs:
        if run.round == 1:
            _check_names(run.experiment)


def _check_names(experiment: Experiment) -> None:
    """Tells a mistake in what goes by name before any data are loaded."""
    from ccloss.data.catalog import FOLDER_PREFIX, SOURCES

    data, backbone = experiment.data, experiment.backbone
    if not (data in SOURCES or data.startswith(FOLDER_PREFIX)):
        raise unknown_name("data", data, SOURCES)
    if backbone is not None and not (backbone in BACKBONES or backbone.startswith("timm:")):
        raise unknown_name("backbone", backbone, BACKBONES)
    _check_loss(experiment)


def _check_loss(experiment: Experiment) -> None:
    """Tells a mistake in a loss before any data are loaded, and in one of ours before torch is."""
    name, options = experiment.loss_name, experiment.loss_options
    _check_loss_name(name)
    known = _loss_options(name)
    for option in options:
        if option not in known:
            raise unknown_option(name, option, known)
    if _is_ours(name):
        check_options(name, **options)
    else:
        from ccloss.losses import make_loss

        make_loss(name, options, num_classes=1, features=1)


def _check_loss_name(name: str) -> None:
    if not (_may_be_more() or name in LOSS_OPTIONS or name.startswith(PREFIX)):
        raise unknown_name("loss", name, LOSS_OPTIONS)


def _loss_options(name: str) -> Collection[str]:
    """The options of a loss by name; torch takes seconds to load, and mostly it need not be."""
    if _is_ours(name):
        return LOSS_OPTIONS[name]
    from ccloss.losses import loss_options

    return loss_options(name)


def _is_ours(name: str) -> bool:
    """Whether a loss is what stands in the list of ours, which is known without torch."""
    return name in LOSS_OPTIONS and not _may_be_more()


def _may_be_more() -> bool:
    """Whether a program may have put losses of its own beside ours."""
    return "ccloss.losses" in sys.modules


def _tables(names: str) -> list[PaperTable]:
    if names == "all":
        return list(TABLES.values())
    for name in names.split(","):
        if name not in TABLES:
            near = did_you_mean(name, TABLES)
            raise InputError(f"tables must be of {', '.join(TABLES)}, or all, got {name!r}{near}")
    return [TABLES[name] for name in dict.fromkeys(names.split(","))]


def _run(runs: "Sequence[Run]", resources: Resources) -> bool:
    """Does the runs; whether any has failed."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.bench.campaign.loop import run
    from ccloss.bench.campaign.plan import in_one_precision

    runs = in_one_precision(runs)
    with _executor(resources, runs) as executor:
        costs = estimate(runs, resources.data_root)
        console = Console(stderr=True, quiet=not _leads())
        with CampaignScreen(runs, costs, executor.slots, console) as screen:
            failures = run(
                runs,
                executor,
                data_root=resources.data_root and resources.data_root.resolve(),
                workers=resources.workers,
                watcher=_watcher() if executor.slots == 1 else None,
                observer=screen,
            )
    for failure in failures:
        print(f"failed: {failure.run.folder.path}: {_one_line(failure.error)}", file=sys.stderr)
    return bool(failures)


def _check_resources(resources: Resources) -> None:
    """Tells what does not go together before anything is loaded."""
    jobs, rounds = resources.jobs, resources.rounds_per_device
    if jobs < 1:
        raise InputError(f"jobs must be 1 or more, got {jobs}")
    if isinstance(rounds, int) and rounds < 1:
        raise InputError(f"rounds_per_device must be auto, or 1 or more, got {rounds}")
    if jobs != 1 and rounds is not None:
        raise InputError("jobs and rounds_per_device say the same thing; give one of them")
    if resources.ray is not None and (jobs != 1 or rounds is not None):
        raise InputError(
            "jobs and rounds_per_device are for this machine, and ray for a cluster; give one "
            "of them"
        )


def _executor(resources: Resources, runs: "Sequence[Run]") -> "AbstractContextManager[Executor]":
    from ccloss.bench.campaign import executors

    if resources.ray is not None:
        return executors.cluster(resources.ray, resources.cpus_per_run, resources.gpus_per_run)
    slots = _side_by_side(resources, runs)
    return nullcontext(executors.Here()) if slots == 1 else executors.processes(slots)


def _side_by_side(resources: Resources, runs: "Sequence[Run]") -> int:
    """Runs at a time on this machine."""
    wanted = resources.rounds_per_device
    if wanted is None:
        return resources.jobs
    from ccloss.bench.campaign.executors import device_count

    devices = device_count()
    left = [run for run in runs if not run.folder.finished]
    if wanted == "auto":
        wanted = _measured_width(left, -(-len(left) // devices), resources)
    return max(1, min(wanted * devices, len(left)))


def _measured_width(left: "Sequence[Run]", most: int, resources: Resources) -> int:
    """Runs a device that are quickest, as the first of those to do shows."""
    if most < 2:
        return 1
    from ccloss.bench.campaign.side_by_side import quickest, rates

    found = rates(left[0].experiment, most, resources.data_root)
    best = quickest(found)
    measured = ", ".join(f"{runs}: {rate:.3g} steps/s" for runs, rate in found.items())
    print(f"rounds a device: {best} ({measured})", file=sys.stderr)
    return best


def _print_costs(runs: "Sequence[Run]", resources: Resources) -> int:
    """What would run, cell after cell, what of it is done, and what is left."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.bench.campaign.plan import in_one_precision
    from ccloss.training.loop import duration

    runs = in_one_precision(runs)
    costs = estimate(runs, resources.data_root)
    cells: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        cells.setdefault(run.cell, []).append(place)
    table = Table("cell", "rounds", "done", "steps a round", "steps left", "time left")
    for name, places in cells.items():
        own = [costs[place] for place in places]
        table.add_row(
            name,
            str(len(own)),
            str(sum(runs[place].folder.finished for place in places)),
            f"{own[0].steps:,}",
            f"{sum(cost.steps_left for cost in own):,}",
            duration(sum(cost.seconds_left for cost in own)),
        )
    Console().print(table)
    left = sum(cost.seconds_left for cost in costs)
    print(
        f"{sum(cost.steps_left for cost in costs):,} steps, about {duration(left)} on this "
        "machine, one run at a time. The time of a step is that of finished runs of the same "
        "network and batch, or of a few steps on random images just now."
    )
    return 0


def _print_comparison(records: "Sequence[Record]") -> None:
    from ccloss.bench.report import tables

    if not records:
        return
    headers, cells = tables.cells(tables.comparison(records))
    shown = [place for place, header in enumerate(headers) if header.startswith(SHOWN)]
    table = Table()
    for place in shown:
        table.add_column(headers[place])
    for row in cells:
        table.add_row(*(row[place].replace(" ", "\N{NO-BREAK SPACE}") for place in shown))
    Console().print(table)
    print(f"{tables.describe(records)} More columns are in the files.")


def _records(runs: "Sequence[Run]") -> list[Record]:
    return [run.folder.read_record() for run in runs if run.folder.finished]


def _print_reproduction(records: Sequence[Record], tables: Sequence[PaperTable]) -> None:
    """Published beside measured, and the verdicts on what the paper claims of it."""
    from ccloss.bench.report import claims, reproduction

    console = Console()
    for grid in reproduction.grids(records):
        if grid.table not in tables:
            continue
        headers, lines = reproduction.texts(grid)
        table = Table(*(" ".join(filter(None, header)) for header in headers))
        for line in lines:
            table.add_row(*(text.text + text.mark for text in line))
        console.print(table)
        print(reproduction.caption(grid))
    verdicts = Table("the paper says", "verdict")
    for verdict in claims.judge(records):
        if verdict.claim.table in tables:
            verdicts.add_row(verdict.claim.statement, verdict.verdict)
    console.print(verdicts)


def _write_report(runs: Sequence[RunFolder], out: Path, figures: bool) -> None:
    from ccloss.bench.report import files

    for path in files.write(runs, out, draw=figures):
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


def _watcher() -> "Watcher":
    """The screen for the process that leads, silence for the others."""
    if _leads():
        return RunScreen()
    from ccloss.training.loop import Silent

    return Silent()


def _leads() -> bool:
    """Whether this process is the first of those that train together."""
    return os.environ.get("RANK", "0") == "0"


def _loss_option(token: str) -> str:
    """``--loss.class-weights`` is the option ``class_weights`` of the loss."""
    head, dot, tail = token.partition(".")
    if not dot or head != "--loss":
        return token
    name, equals, value = tail.partition("=")
    return f"--loss-options.{name.replace('-', '_')}{equals}{value}"


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
