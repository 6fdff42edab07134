"""Which runs may stand in one table: methods may differ in the loss, rounds in the seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccloss.errors import InputError
from ccloss.training.records import Record

METHOD_FIELDS = ("loss", "loss_options", "attention")
"""Fields of an experiment in which two methods may differ."""

BASELINE = "ce"
"""The method that the others are measured against."""


@dataclass(frozen=True)
class Setting:
    """What some runs share: everything but the method and the seed. One comparison of methods.

    Attributes:
        title: data set, backbone, and what sets it apart from the other settings.
        records: its finished runs, fit for :func:`rounds_by_method`, in the order first met, but
            for plain cross-entropy, which comes first for the others to be measured against.
        left_out: a sentence on each run that cannot stand beside them.
    """

    title: str
    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()

    @property
    def rounds(self) -> dict[str, list[Record]]:
        """The rounds of each method by seed."""
        return rounds_by_method(self.records)


def settings(records: Sequence[Record]) -> list[Setting]:
    """Any runs, parted into comparisons; in the order first met.

    Two runs are of one setting if they differ in nothing but the loss, its options, attention and
    seed. Of two runs of one method and seed the first counts and the other is left out.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        key = json.dumps(_protocol(record), sort_keys=True, default=str)
        groups.setdefault(key, []).append(record)
    parts = [_part(group) for group in groups.values()]
    titles = _titles([kept[0] for kept, _ in parts])
    return [
        Setting(title, tuple(kept), tuple(left_out))
        for title, (kept, left_out) in zip(titles, parts, strict=True)
    ]


def rounds_by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The rounds of each method by seed; methods in the order first met.

    Raises:
        InputError: there is no record, two of them differ in more than method and seed, or one
            method has two rounds of one seed.
    """
    if not records:
        raise InputError("there is no finished run to report; train one with `ccloss train`")
    methods: dict[str, list[Record]] = {}
    for record in records:
        _require_equal(_protocol(records[0]), records[0], _protocol(record), record)
        methods.setdefault(record.method, []).append(record)
    for rounds in methods.values():
        _check_rounds(rounds)
    return {
        name: sorted(rounds, key=lambda record: record.seed) for name, rounds in methods.items()
    }


def _part(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Records that may stand in one table, and why others may not."""
    kept: dict[str, list[Record]] = {}
    left_out = []
    for record in records:
        rounds = kept.setdefault(record.method, [])
        if record.seed in {each.seed for each in rounds}:
            left_out.append(f"{record.method}, seed {record.seed}: a second run of this seed")
        elif rounds and _method(record) != _method(rounds[0]):
            left_out.append(f"{record.method}, seed {record.seed}: other options under one name")
        else:
            rounds.append(record)
    chosen = {id(record) for rounds in kept.values() for record in rounds}
    ordered = sorted(records, key=lambda record: record.method != BASELINE)
    return [record for record in ordered if id(record) in chosen], left_out


def _titles(firsts: Sequence[Record]) -> list[str]:
    """Data set and backbone of each setting, and the fields in which any two settings differ."""
    protocols = [_protocol(record) for record in firsts]
    names = list(dict.fromkeys(name for protocol in protocols for name in protocol))
    apart = [
        name
        for name in names
        if name not in ("data", "backbone", "classes")
        and len({repr(protocol.get(name)) for protocol in protocols}) > 1
    ]
    return [
        " · ".join(
            [
                str(protocol.get("data")),
                str(protocol.get("backbone")),
                *(
                    f"{name.replace('_', ' ')} {protocol[name]}"
                    for name in apart
                    if protocol.get(name) is not None and _tells_apart(name, protocol, protocols)
                ),
            ]
        )
        for protocol in protocols
    ]


def _tells_apart(
    name: str, protocol: Mapping[str, Any], protocols: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a field differs among settings of the same data set and backbone."""
    alike = {
        repr(other.get(name))
        for other in protocols
        if all(other.get(key) == protocol.get(key) for key in ("data", "backbone"))
    }
    return len(alike) > 1


def _protocol(record: Record) -> dict[str, Any]:
    """What every run of a comparison must share."""
    free = (*METHOD_FIELDS, "seed")
    fields = {name: value for name, value in record.experiment.items() if name not in free}
    evaluated = {f"evaluation {name}": record.evaluation.get(name) for name in ("split", "images")}
    return {**fields, **evaluated, "classes": record.classes}


def _check_rounds(rounds: Sequence[Record]) -> None:
    first = rounds[0]
    seeds = set()
    for record in rounds:
        if record.seed in seeds:
            raise InputError(
                f"method {record.method} has two runs with seed {record.seed}; leave one out"
            )
        seeds.add(record.seed)
        _require_equal(_method(first), first, _method(record), record)


def _method(record: Record) -> dict[str, Any]:
    return {name: record.experiment.get(name) for name in METHOD_FIELDS}


def _require_equal(
    expected: Mapping[str, Any], first: Record, given: Mapping[str, Any], other: Record
) -> None:
    for name in {**expected, **given}:
        left, right = expected.get(name, "absent"), given.get(name, "absent")
        if left != right:
            raise InputError(
                f"runs differ in {name}: {left} in {first.method} seed {first.seed}, "
                f"{right} in {other.method} seed {other.seed}; report them apart"
            )
