"""``ccloss compare``: several losses under one protocol."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ccloss.bench.experiment import Experiment
from ccloss.cli.campaign import execute, print_costs, require_consistent
from ccloss.cli.console import is_main_process, print_line, print_table
from ccloss.cli.parameters import ConfigFile, ExperimentFields, Resources
from ccloss.cli.report import write_report
from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import ATTENTION_SUFFIX
from ccloss.training.records import Record


def compare(
    *,
    experiment: ExperimentFields = Experiment(),
    losses: str = "ce,ce+cam,cc",
    rounds: int = 3,
    out: Path = Path("runs/compare"),
    resources: Resources = Resources(),
    config: ConfigFile = None,
    dry_run: bool = False,
) -> int:
    """Train several losses under one protocol and write a table, figures and a page.

    Finished runs are not repeated and interrupted runs continue, so the same command resumes a
    comparison. --loss.OPTION applies to every loss that has the option.

    Args:
        experiment: Settings of the runs, one option per field.
        losses: Names separated by commas. +cam after a name adds channel attention to its network.
        rounds: Number of runs per loss. Their seeds count up from --seed.
        out: Folder of the comparison.
        resources: Where and how the runs are executed.
        config: A .toml file with settings of the runs, which other options override.
        dry_run: List the runs, their state and their estimated time. Train nothing.
    """
    from ccloss.bench.campaign.plan import plan

    require_consistent(resources)
    experiments = _experiments(experiment, losses)
    runs = plan(experiments, rounds, out, resources.data_root)
    if dry_run:
        print_costs(runs, resources)
        return 0
    failed = execute(runs, resources)
    if is_main_process():
        from ccloss.bench.results import read_folders

        results = read_folders(run.folder for run in runs)
        _print_comparison(results.records)
        write_report(results, out, figures=True)
    return 1 if failed else 0


def _experiments(experiment: Experiment, losses: str) -> list[Experiment]:
    """One experiment per loss. They differ in nothing else."""
    from ccloss.losses import LOSSES, loss_options

    if experiment.loss != Experiment().loss:
        raise InputError(
            f"--loss is an option of `ccloss train`, got {experiment.loss!r}; use --losses"
        )
    if experiment.attention is not None:
        raise InputError(
            "--attention is an option of `ccloss train`; write +cam after a name in --losses"
        )
    names = [name.strip() for name in losses.split(",") if name.strip()]
    if not names:
        raise InputError(f"losses must name at least one of {', '.join(LOSSES)}, got {losses!r}")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"losses names {name!r} twice; give every loss once")
    try:
        known = {name: loss_options(name.removesuffix(ATTENTION_SUFFIX)) for name in names}
    except InputError as error:
        raise InputError(f"losses {losses!r}: {error}") from None
    given = experiment.loss_options
    for option in given:
        if not any(option in options for options in known.values()):
            near = did_you_mean(option, {each for options in known.values() for each in options})
            raise InputError(f"no loss in {losses!r} has an option {option!r}{near}")
    return [
        dataclasses.replace(
            experiment,
            loss=name,
            loss_options={option: given[option] for option in given if option in known[name]},
        )
        for name in names
    ]


def _print_comparison(records: Sequence[Record]) -> None:
    from ccloss.bench.groups import settings
    from ccloss.bench.report import method_table

    for setting in settings(records):
        accuracy, _ = method_table.tables(setting)
        print_table(accuracy.names, accuracy.texts)
        print_line(f"{method_table.caption(setting)} Other metrics are in the files.")
