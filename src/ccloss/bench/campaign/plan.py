"""What is to be done: experiments x rounds, each with its place on disk."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccloss.bench.experiment import Experiment, as_begun, differences
from ccloss.errors import InputError
from ccloss.training.records import RunFolder, folder_name

_NAMED = ("batch_size", "hidden_features")
"""Fields that, where they are not usual, are part of a folder's name beside the method."""


@dataclass(frozen=True)
class Run:
    """One round of one experiment, and its place on disk."""

    experiment: Experiment
    folder: RunFolder
    round: int

    @property
    def cell(self) -> str:
        """What all its rounds share, for people: ``digits/convnet cc``."""
        settled = self.experiment.resolve()
        return f"{settled.data}/{settled.backbone} {_variant(self.experiment)}"

    @property
    def name(self) -> str:
        """For people: ``digits/convnet cc, round 2``."""
        return f"{self.cell}, round {self.round}"


def plan(experiments: Sequence[Experiment], rounds: int, out: Path) -> list[Run]:
    """Every round of every experiment. Rounds differ in the seed alone, which counts up.

    All experiments have their first round before any has its second, so that a campaign cut short
    can still be compared. A run's place follows from its experiment, so that two campaigns, or two
    tables of the paper, share the runs that they share.

    Raises:
        InputError: no rounds, or two experiments that would have one place.
    """
    if rounds < 1:
        raise InputError(f"rounds must be 1 or more, got {rounds}")
    places: dict[Path, Experiment] = {}
    for experiment in experiments:
        place = out / _place(experiment)
        known = places.setdefault(place, experiment)
        if known.resolve() != experiment.resolve():
            changed = differences(known.resolve().to_dict(), experiment.resolve().to_dict())
            raise InputError(f"two experiments would share {place} ({changed}); run them apart")
    return [
        Run(
            dataclasses.replace(experiment, seed=experiment.seed + number - 1),
            RunFolder(place / f"round-{number}"),
            number,
        )
        for number in range(1, rounds + 1)
        for place, experiment in places.items()
    ]


def check_own(run: Run) -> None:
    """What is on disk must be what is asked for: runs of one campaign answer one question.

    Raises:
        InputError: the folder holds another experiment's run, or files that are no run's.
    """
    if not run.folder.started:
        run.folder.check_free()
        return
    held = run.folder.read_experiment()
    changed = differences(held, as_begun(run.experiment, held).to_dict())
    if changed:
        raise InputError(
            f"{run.folder.path} holds a run of another experiment ({changed}); "
            "choose another --out, or ask for the same"
        )


def in_one_precision(runs: Sequence[Run]) -> list[Run]:
    """The runs with their precision known, one for all that may be compared.

    Where it is left open, that of the first run on disk with the same images and network counts, or
    else what this device is made for: a campaign that moves to another machine stays comparable.

    Raises:
        InputError: as :func:`check_own`.
    """
    begun: dict[tuple[str | None, ...], Mapping[str, Any]] = {}
    for run in runs:
        check_own(run)
        if run.folder.started:
            begun.setdefault(_compared(run), run.folder.read_experiment())
    from ccloss.training.loop import settle_precision  # it loads torch: mistakes are told without

    settled = []
    for run in runs:
        precision = begun.get(_compared(run), {}).get("precision")
        experiment = settle_precision(as_begun(run.experiment, {"precision": precision}))
        settled.append(dataclasses.replace(run, experiment=experiment))
    return settled


def _compared(run: Run) -> tuple[str | None, ...]:
    """Runs with the same are compared with one another."""
    settled = run.experiment.resolve()
    return settled.data, settled.backbone


def _place(experiment: Experiment) -> Path:
    settled = experiment.resolve()
    parts = (settled.data, str(settled.backbone), _variant(experiment))
    return Path(*map(folder_name, parts))


def _variant(experiment: Experiment) -> str:
    """The method, and what else sets it apart from the usual run of its data set."""
    settled = experiment.resolve()
    usual = Experiment(data=experiment.data, backbone=experiment.backbone).resolve()
    parts = [
        f"{name}={getattr(settled, name)}"
        for name in _NAMED
        if getattr(settled, name) != getattr(usual, name)
    ]
    return " ".join([experiment.method, *parts])
