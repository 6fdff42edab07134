"""The one loop over runs: experiments x rounds, less what is on disk."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ccloss.data.sources import Dataset
from ccloss.errors import DivergenceError, InputError
from ccloss.experiment import Experiment, differences
from ccloss.records import RunFolder
from ccloss.training import Watcher, settle, train


@dataclass(frozen=True)
class Run:
    """One round of one experiment, and its place on disk."""

    experiment: Experiment
    folder: RunFolder
    round: int


def plan(experiments: Sequence[Experiment], rounds: int, out: Path) -> list[Run]:
    """Every round of every experiment. Rounds differ in the seed alone, which counts up.

    All experiments have their first round before any has its second, so that a campaign cut short
    can still be compared.

    Raises:
        InputError: no rounds, or two experiments that are one method.
    """
    if rounds < 1:
        raise InputError(f"rounds must be 1 or more, got {rounds}")
    methods = [experiment.method for experiment in experiments]
    for method in methods:
        if methods.count(method) > 1:
            raise InputError(f"losses name {method!r} twice; give every loss once")
    return [
        Run(
            dataclasses.replace(experiment, seed=experiment.seed + number - 1),
            RunFolder(out / _slug(experiment.method) / f"round-{number}"),
            number,
        )
        for number in range(1, rounds + 1)
        for experiment in experiments
    ]


def run(
    runs: Sequence[Run], dataset: Dataset, *, workers: int | None = None, watcher: Watcher
) -> list[RunFolder]:
    """Does what of the runs is not done yet, unfinished ones from their last checkpoint.

    Returns:
        The folders of all the runs, finished.

    Raises:
        InputError: a folder holds another experiment's run; nothing has been trained.
        DivergenceError: a run's loss is not finite; the runs before it are kept.
    """
    for each in runs:
        _check_same(each, dataset)
    for number, each in enumerate(runs, start=1):
        title = f"[{number}/{len(runs)}] {each.experiment.method}, round {each.round}"
        if each.folder.finished:
            watcher.epoch(f"{title}: done before, {each.folder.read_record().accuracy:.2f} %")
            continue
        watcher.epoch(title)
        try:
            train(
                each.experiment,
                each.folder,
                dataset,
                resume=True,
                workers=workers,
                watcher=watcher,
            )
        except DivergenceError as error:
            raise DivergenceError(f"{each.folder.path}: {error}") from None
    return [each.folder for each in runs]


def _check_same(each: Run, dataset: Dataset) -> None:
    """Runs of one campaign answer one question: what is on disk must be what is asked for."""
    if not each.folder.started:
        each.folder.check_free()
        return
    wanted = settle(each.experiment, dataset).to_dict()
    changed = differences(each.folder.read_experiment(), wanted)
    if changed:
        raise InputError(
            f"{each.folder.path} holds a run of another experiment ({changed}); "
            "choose another --out, or ask for the same"
        )


def _slug(method: str) -> str:
    """A method's name as a folder's."""
    return re.sub(r"[^\w.+=-]+", "-", method)
