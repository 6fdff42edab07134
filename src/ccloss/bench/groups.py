"""Grouping of records: which runs may be compared, and which cells of a table they fill.

A :class:`Setting` holds runs that differ only in the method (loss, its options, attention) and the
seed. :func:`table_columns` sorts runs into the columns of one of the paper's tables, one
:class:`TableColumn` for each data set, backbone and scale. The p-values of a column come from its
family of comparisons (:mod:`ccloss.bench.comparisons`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ccloss.bench.comparisons import Comparison, Pair, compare
from ccloss.bench.paper.claims import ACCURACY, CLAIMS, HARDNESS, Claim, Metric
from ccloss.bench.paper.tables import TABLES, Column, Deviations, Table
from ccloss.bench.results import effective_fields
from ccloss.bench.statistics import rank_correlation
from ccloss.training.records import Record

METHOD_FIELDS = ("loss", "loss_options", "attention")
"""Fields of an experiment in which two methods may differ."""

BASELINE = "ce"
"""The method that the others are compared with."""

PROPOSED = "cc"
"""The paper's method, which is compared with every other one."""

METHOD_TABLES = ("table1", "table3", "table4", "table5")
"""Tables whose rows are methods. They share one family of comparisons in a column."""

Rounds = Mapping[int, Record]
"""Seed -> run."""


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in method and seed.

    Attributes:
        title: data set, backbone, and the fields that distinguish it from other settings.
        methods: method -> seed -> run; cross-entropy comes first if it was run.
    """

    title: str
    methods: Mapping[str, Rounds]

    @property
    def records(self) -> list[Record]:
        """All runs, method by method."""
        return [record for rounds in self.methods.values() for record in rounds.values()]

    @property
    def first(self) -> Record:
        """A run, for what all of them share."""
        return self.records[0]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every method against the first one, and CC-Loss against every method, one family."""
        return _compare(self.methods, method_pairs(list(self.methods)), ACCURACY)

    def comparison(self, row: str, other: str) -> Comparison | None:
        """The comparison of two methods, if it is planned."""
        return next((c for c in self.comparisons if (c.row, c.other) == (row, other)), None)


@dataclass(frozen=True)
class TableColumn:
    """The runs of one column of a table at one scale.

    Attributes:
        table: of the paper.
        column: data set and backbone.
        deviations: fields in which the runs deviate from the protocol.
        rows: row -> seed -> run.
        methods: method -> row, where the rows of the table are methods.
        setting: method -> seed -> run of all methods in this column, also those of other tables.
    """

    table: Table
    column: Column
    deviations: Deviations
    rows: Mapping[str, Rounds]
    methods: Mapping[str, str] = field(default_factory=dict)
    setting: Mapping[str, Rounds] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether this is one of the paper's columns at its full protocol."""
        return not self.deviations and self.column in self.table.columns

    @cached_property
    def accuracy(self) -> list[Comparison]:
        """The family of accuracy comparisons, by row of the table."""
        if self.table.name not in METHOD_TABLES:
            return _compare(self.rows, table_pairs(self.table, self.column), ACCURACY)
        found = _compare(self.setting, method_pairs(list(self.setting)), ACCURACY)
        return [
            replace(each, row=self.methods[each.row], other=self.methods[each.other])
            for each in found
            if each.row in self.methods and each.other in self.methods
        ]

    def comparison(self, row: str, other: str, metric: Metric) -> Comparison:
        """The comparison of two rows; reversed if the family has it the other way round."""
        for each in self.accuracy if metric is ACCURACY else ():
            if (each.row, each.other) == (row, other):
                return each
            if (each.row, each.other) == (other, row):
                return each.reversed()
        return _compare(self.rows, [(row, other)], metric)[0]


def method_order(records: Sequence[Record]) -> list[str]:
    """Every method once: cross-entropy, CE + CAM, CC-Loss, then the others as they appear.

    The position of a method decides its colour in all figures and on the page.
    """
    names = dict.fromkeys(record.method for record in records)
    known = [name for name in (BASELINE, "ce+cam", PROPOSED) if name in names]
    return [*known, *(name for name in names if name not in known)]


def values(rounds: Rounds, metric: Metric) -> dict[int, float]:
    """Seed -> value of a metric, without the rounds in which it is undefined."""
    found = {seed: _value(record, metric) for seed, record in rounds.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def settings(records: Sequence[Record]) -> list[Setting]:
    """Sorts any runs into settings, in the order of first appearance.

    Runs of one setting differ in nothing but the loss, its options, attention and the seed.
    """
    groups = list(_groups(records).values())
    protocols = [_shared_fields(group[0]) for group in groups]
    return [
        Setting(_title(protocol, protocols), _by_method(group))
        for protocol, group in zip(protocols, groups, strict=True)
    ]


def table_columns(records: Sequence[Record], table: Table) -> list[TableColumn]:
    """The columns of a table that have a run, the paper's own first, full protocol first."""
    matched: dict[tuple[Column, Deviations], list[tuple[str, Record]]] = {}
    for record in records:
        match = table.match(effective_fields(record))
        if match is not None:
            key = match.column, match.deviations
            matched.setdefault(key, []).append((match.row, record))
    groups = _groups(records) if table.name in METHOD_TABLES else {}
    order = {column: index for index, column in enumerate(table.columns)}
    return sorted(
        (_table_column(table, *key, own, groups) for key, own in matched.items()),
        key=lambda each: (
            not each.is_full,
            order.get(each.column, len(order)),
            str(each.column),
            str(each.deviations),
        ),
    )


def _table_column(
    table: Table,
    column: Column,
    deviations: Deviations,
    matched: Sequence[tuple[str, Record]],
    groups: Mapping[str, Sequence[Record]],
) -> TableColumn:
    """A column of the runs with their rows; those evaluated on other images are left out."""
    _, first = matched[0]
    rows: dict[str, dict[int, Record]] = {}
    methods: dict[str, str] = {}
    for row, record in matched:
        if _key(_evaluated(record)) == _key(_evaluated(first)):
            rows.setdefault(row, {}).setdefault(record.seed, record)
            methods[record.method] = row
    return TableColumn(
        table,
        column,
        deviations,
        {row: dict(sorted(rows[row].items())) for row in table.rows if row in rows},
        methods,
        _by_method(groups.get(_key(_shared_fields(first)), [])),
    )


def method_pairs(methods: Sequence[str]) -> list[Pair]:
    """The planned comparisons of methods: one family of accuracy.

    Every method is compared with the first one, and CC-Loss with every other one. Weights of
    CC-Loss above 1 are compared with each other, as the paper's Table 5 does.
    """
    if not methods:
        return []
    first = BASELINE if BASELINE in methods else methods[0]
    pairs = [(method, first) for method in methods if method != first]
    if PROPOSED in methods and first != PROPOSED:
        pairs += [(PROPOSED, other) for other in methods if other not in (PROPOSED, first)]
    trend = ("cc weight=1.5", "cc weight=2")
    return pairs + ([trend] if set(trend) <= set(methods) else [])


def table_pairs(table: Table, column: Column) -> list[Pair]:
    """The planned comparisons of a table whose rows are not methods."""
    pairs = [
        pair
        for claim in CLAIMS
        if claim.table is table and claim.covers(column)
        for pair in claim.pairs
    ]
    reference = table.reference_row(column)
    planned = {frozenset(pair) for pair in pairs}
    others = [(reference, row) for row in table.rows if row != reference]
    return list(dict.fromkeys(pairs)) + [pair for pair in others if frozenset(pair) not in planned]


def family_size(claim: Claim) -> int:
    """Number of comparisons in a column in which all rows of the claim's tables were run."""
    if claim.table.name not in METHOD_TABLES:
        return len(table_pairs(claim.table, claim.columns[0]))
    rows = {row for name in ("table1", "table4") for row in TABLES[name].rows}
    if claim.table.name == "table5":
        rows |= {f"cc weight={weight}" for weight in (0, 0.5, 1.5, 2)}
    return len(method_pairs(sorted(rows)))


def hardness_correlation(record: Record) -> float | None:
    """Spearman's correlation, over classes, of the error with the mean attention of a class."""
    accuracy = record.evaluation.get("class_accuracy") or []
    attention = record.evaluation.get("class_attention_mass") or []
    pairs = [
        (100 - right, mass)
        for right, mass in zip(accuracy, attention, strict=False)
        if right is not None and mass is not None
    ]
    if len(pairs) < 2:
        return None
    return rank_correlation([error for error, _ in pairs], [mass for _, mass in pairs])


# ---- details -------------------------------------------------------------------------------------


def _compare(rows: Mapping[str, Rounds], pairs: Sequence[Pair], metric: Metric) -> list[Comparison]:
    """Compares rows by a metric. Accuracies are discrete."""
    images = [record.evaluation["images"] for rounds in rows.values() for record in rounds.values()]
    discrete = metric.name.endswith("accuracy")
    resolution = 100 / min(images) if discrete and images else 0.0
    measured = {row: values(rounds, metric) for row, rounds in rows.items()}
    undefined = {row for row, found in measured.items() if rows[row] and not found}
    found = compare(
        {row: own for row, own in measured.items() if own}, pairs, resolution=resolution
    )
    return [
        _without_metric(each, metric) if {each.row, each.other} & undefined else each
        for each in found
    ]


def _without_metric(comparison: Comparison, metric: Metric) -> Comparison:
    return Comparison(comparison.row, comparison.other, (), (), f"{metric.label} was not recorded")


def _value(record: Record, metric: Metric) -> float | None:
    if metric is HARDNESS:
        return hardness_correlation(record)
    return record.evaluation.get(metric.name)


def _by_method(records: Sequence[Record]) -> dict[str, Rounds]:
    """Method -> seed -> run; of two runs of one method and seed the first is kept."""
    methods: dict[str, dict[int, Record]] = {}
    for record in records:
        methods.setdefault(record.method, {}).setdefault(record.seed, record)
    return {name: dict(sorted(methods[name].items())) for name in method_order(records)}


def _groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each setting."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_key(_shared_fields(record)), []).append(record)
    return groups


def _key(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, default=str)


def _evaluated(record: Record) -> dict[str, Any]:
    evaluated = {f"evaluation {name}": record.evaluation.get(name) for name in ("split", "images")}
    return {**evaluated, "classes": record.classes}


def _shared_fields(record: Record) -> dict[str, Any]:
    """What every run of a setting shares."""
    free = (*METHOD_FIELDS, "seed", "evaluate_every")
    fields = {name: v for name, v in effective_fields(record).items() if name not in free}
    return {**fields, **_evaluated(record)}


def _title(protocol: Mapping[str, Any], protocols: Sequence[Mapping[str, Any]]) -> str:
    same = [
        other
        for other in protocols
        if all(other.get(name) == protocol.get(name) for name in ("data", "backbone"))
    ]
    names = dict.fromkeys(name for other in same for name in other)
    differing = [
        f"{name.replace('_', ' ')} {protocol[name]}"
        for name in names
        if name not in ("data", "backbone", "classes")
        and protocol.get(name) is not None
        and len({_key({name: other.get(name)}) for other in same}) > 1
    ]
    return " · ".join([str(protocol["data"]), str(protocol["backbone"]), *differing])
