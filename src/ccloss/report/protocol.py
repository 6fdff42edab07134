"""Which runs may stand in one table: methods may differ in the loss, rounds in the seed."""

from collections.abc import Mapping, Sequence
from typing import Any

from ccloss.errors import InputError
from ccloss.records import Record

METHOD_FIELDS = ("loss", "loss_options", "attention")
"""Fields of an experiment in which two methods may differ."""


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
