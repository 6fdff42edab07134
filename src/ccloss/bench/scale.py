"""The scale of runs in words: how they deviate from the paper's protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from ccloss.bench.groups import TableColumn
from ccloss.bench.paper.tables import Column

_WORDS: Mapping[str, str] = {
    "epochs": "{value} epoch{s} instead of {usual}",
    "max_steps": "{value} step{s} instead of all",
    "train_limit": "{value} training image{s} instead of all",
    "test_limit": "{value} test image{s} instead of all",
    "precision": "{value} instead of {usual}",
    "learning_rate": "learning rate {value} instead of {usual}",
    "final_learning_rate": "final learning rate {value} instead of {usual}",
    "clip_grad_norm": "gradient clipping {value} instead of {usual}",
    "head_norm": "head normalisation {value} instead of {usual}",
    "activation": "activation {value} instead of {usual}",
    "final_pool": "{value} pooling instead of the fifth {usual}-pool",
}
"""Deviating field -> what it means; any other field is shown with its name and value."""


def scale_text(column: TableColumn, columns: Sequence[Column] = ()) -> str:
    """How runs deviate from the protocol: ``at 5 epochs instead of 300``.

    Args:
        column: the runs.
        columns: all columns that share the scale; default: the one of the runs.
    """
    every = list(columns) or [column.column]
    others = [str(each) for each in every if each not in column.table.columns]
    protocols = [column.table.protocol(each) for each in every]
    words = [
        _WORDS.get(name, f"{name.replace('_', ' ')} {{value}}").format(
            value=_quantity(name, value),
            s="" if value == 1 else "s",
            usual=" or ".join(dict.fromkeys(_quantity(name, each[name]) for each in protocols)),
        )
        for name, value in column.deviations
    ]
    if others:
        words.insert(0, f"this library's protocol for {', '.join(others)}")
    return f"at {'; '.join(words)}" if words else "at the full protocol"


def _quantity(name: str, value: Any) -> str:
    if name == "clip_grad_norm" and value == 0:
        return "off"
    return f"{value:,}" if type(value) is int else str(value)
