"""Experiments from files: ``--config FILE``, and the options of a run to continue."""

import dataclasses
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict
from pydantic import ValidationError

from ccloss.bench.experiment import NETWORKS, Experiment, protocol
from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import RunConfig, explain
from ccloss.training.records import RunFolder


def use_files(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fills options that the command line does not give, as a configuration source of cyclopts.

    The files are those of ``--config`` and, after it, the configuration of the run that
    ``--continue-from`` names.

    Raises:
        InputError: a file cannot be read, or has an unknown field.
    """
    given = {argument.name: argument.tokens[0].value for argument in arguments if argument.tokens}
    sources = {}
    if "--config" in given:
        fields = read_fields(Path(given["--config"]))
        sources[given["--config"]] = _for_backbone(fields, given.get("--backbone"))
    if "--continue-from" in given:
        folder = RunFolder(given["--continue-from"])
        fields = _known_fields(folder.read_config())
        sources[str(folder.experiment)] = _without(fields, "init_from", "continue_from")
    for source, fields in sources.items():
        # Within the command's name: outside of it, `data` is the name of another command.
        Dict({commands[-1]: _texts(fields)}, source=source)(app, commands, arguments)


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of an experiment in a file.

    Args:
        path: a ``.toml`` file with any fields, or a ``.json`` file with all fields, such as the
            ``experiment.json`` of a run or what ``--print-config`` prints.

    Raises:
        InputError: it cannot be read, is of another kind, or has an unknown field.
    """
    parsers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}
    if path.suffix not in parsers:
        raise InputError(f"config must be a .json or .toml file, got {path}")
    try:
        fields = parsers[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"config {path} cannot be read ({reason})") from None
    if path.suffix == ".json":
        if not isinstance(fields, dict):
            raise InputError(f"config {path} must hold a JSON object, such as experiment.json")
        try:
            return _known_fields(RunConfig.from_dict(fields))
        except InputError as error:
            raise InputError(f"config {path}: {error}") from None
    known = [field.name for field in dataclasses.fields(Experiment)]
    fields = {name.replace("-", "_"): value for name, value in fields.items()}
    for name in fields:
        if name not in known:
            raise InputError(f"config {path}: unknown field {name!r}{did_you_mean(name, known)}")
    _check_values(path, fields)
    return fields


def _check_values(path: Path, fields: Mapping[str, Any]) -> None:
    """Checks each value by itself; other options may still replace values that contradict others.

    Raises:
        InputError: a value has a wrong type or is out of range.
    """
    try:
        Experiment(**fields)
    except ValidationError as error:
        if error.errors()[0]["loc"]:
            raise InputError(f"config {path}: {explain(error)}") from None


def _known_fields(config: RunConfig) -> dict[str, Any]:
    """The fields of a run that are not left open."""
    return {name: value for name, value in config.to_dict().items() if value is not None}


def _for_backbone(fields: Mapping[str, Any], backbone: str | None) -> dict[str, Any]:
    """The fields for another backbone: without defaults that belong to the file's own backbone."""
    stored = fields.get("backbone")
    if backbone is None or stored is None or backbone == stored:
        return dict(fields)
    usual = protocol(str(fields.get("data")), stored)
    own = {name for each in NETWORKS.values() for name in each}
    return _without(fields, *(name for name in own if fields.get(name) == usual[name]))


def _texts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as a command line gives them: options of a loss that are lists become text."""
    options = fields.get("loss_options")
    if not options:  # cyclopts does not accept an empty mapping
        return _without(fields, "loss_options")
    if not isinstance(options, Mapping):
        return dict(fields)
    texts = {
        name.replace("-", "_"): ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in options.items()
    }
    return {**fields, "loss_options": texts}


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
