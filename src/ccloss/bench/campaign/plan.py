"""The runs of a campaign: every round of every experiment, with its configuration and folder."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccloss.bench.experiment import Experiment, protocol
from ccloss.data.sources import image_channels
from ccloss.errors import InputError
from ccloss.training.config import Precision, RunConfig, differences
from ccloss.training.devices import default_precision
from ccloss.training.options import OPTIONS
from ccloss.training.records import RunFolder, folder_name

_NAME_FIELDS = ("batch_size", "hidden_features", "clip_grad_norm")
"""Fields that are part of a folder's name, beside the method and training options, if they differ
from the protocol."""


@dataclass(frozen=True)
class Run:
    """One round of one experiment, and its folder."""

    config: RunConfig
    folder: RunFolder
    round: int

    @property
    def cell(self) -> str:
        """The name that all its rounds share, for people: ``digits/convnet cc``."""
        return f"{self.config.data}/{self.config.backbone} {_variant(self.config)}"

    @property
    def name(self) -> str:
        """For people: ``digits/convnet cc, round 2``."""
        return f"{self.cell}, round {self.round}"


def plan(
    experiments: Sequence[Experiment], rounds: int, out: Path, data_root: Path | None = None
) -> list[Run]:
    """Every round of every experiment. Rounds differ in the seed alone, which counts up.

    All experiments have their first round before any has its second, so that an interrupted
    campaign can still be compared. A run's folder follows from its experiment, so that two
    campaigns, or two tables of the paper, share the runs that they have in common.

    If the precision is left open, it is that of the first run on disk with the same data and
    backbone, else the default of this device: a campaign that moves to another machine stays
    comparable.

    Args:
        experiments: what to run.
        rounds: runs of each experiment.
        out: folder of the campaign.
        data_root: folder with the data.

    Raises:
        InputError: no rounds, an experiment that cannot be resolved, or two experiments that would
            have the same folder.
    """
    if rounds < 1:
        raise InputError(f"rounds must be 1 or more, got {rounds}")
    channels = functools.cache(lambda data: image_channels(data, data_root))
    device = default_precision()
    cells: dict[Path, RunConfig] = {}
    open_precision = set()
    for experiment in experiments:
        own = experiment.channels or channels(experiment.data)
        config = experiment.resolve(channels=own, precision=device)
        folder = out / _path(config)
        if cells.setdefault(folder, config) != config:
            changed = differences(cells[folder].to_dict(), config.to_dict())
            raise InputError(
                f"two experiments would share the folder {folder} ({changed}); "
                "run them with different --out"
            )
        if experiment.precision is None:
            open_precision.add(folder)
    stored = _stored_precisions(cells, rounds)
    for folder in open_precision:
        config = cells[folder]
        precision = stored.get(_group(config), config.precision)
        cells[folder] = dataclasses.replace(config, precision=precision)
    return [
        Run(
            dataclasses.replace(config, seed=config.seed + number - 1),
            _round_folder(folder, number),
            number,
        )
        for number in range(1, rounds + 1)
        for folder, config in cells.items()
    ]


def require_same_experiment(run: Run) -> None:
    """Checks that a run's folder is free or holds this run.

    Raises:
        InputError: the folder holds another experiment's run, or files that are not of a run.
    """
    if not run.folder.started:
        run.folder.ensure_empty()
        return
    changed = differences(run.folder.read_config().to_dict(), run.config.to_dict())
    if changed:
        raise InputError(
            f"{run.folder.path} holds a run of another experiment ({changed}); "
            "choose another --out, or ask for the same"
        )


def resolve_for(
    experiment: Experiment, folder: RunFolder, data_root: Path | None = None
) -> RunConfig:
    """The configuration of a single run; an open precision is that of the run in the folder."""
    channels = experiment.channels or image_channels(experiment.data, data_root)
    stored = folder.read_config().precision if folder.started else None
    return experiment.resolve(channels=channels, precision=stored or default_precision())


def _stored_precisions(cells: Mapping[Path, RunConfig], rounds: int) -> dict[Path, Precision]:
    """Precision of the first run on disk in each group of runs that are compared."""
    found: dict[Path, Precision] = {}
    for number in range(1, rounds + 1):
        for path, config in cells.items():
            folder = _round_folder(path, number)
            if folder.started and _group(config) not in found:
                found[_group(config)] = folder.read_config().precision
    return found


def _round_folder(cell: Path, number: int) -> RunFolder:
    return RunFolder(cell / f"round-{number}")


def _group(config: RunConfig) -> Path:
    """Runs with the same data and backbone are compared with one another."""
    return Path(folder_name(config.data), folder_name(config.backbone))


def _path(config: RunConfig) -> Path:
    """Folder of an experiment below the campaign's folder."""
    return _group(config) / folder_name(_variant(config))


def _variant(config: RunConfig) -> str:
    """The method, and fields of the name that differ from the protocol."""
    usual = {**protocol(config.data, config.backbone), **OPTIONS}
    parts = [
        f"{name}={getattr(config, name)}"
        for name in (*_NAME_FIELDS, *OPTIONS)
        if getattr(config, name) != usual[name]
    ]
    return " ".join([config.method, *parts])
