"""Machine, software and data behind the numbers of a report."""

import json
from collections.abc import Sequence
from typing import Any

from ccloss.bench.groups import Setting
from ccloss.training.records import Record

_SHOWN = (
    "device",
    "processor",
    "cores",
    "threads",
    "world_size",
    "tf32",
    "deterministic",
    "cuda",
    "driver",
    "system",
    "python",
    "commit",
)


def environments(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Machine, software and commit of the runs, each combination once, in the order first met."""
    found = {_environment(record): record.provenance for record in records}
    return [
        {
            **{name: _text(given.get(name)) for name in _SHOWN},
            "versions": ", ".join(
                f"{name} {version}"
                for name, version in (given.get("versions") or {}).items()
                if version
            ),
        }
        for given in found.values()
    ]


def _text(value: Any) -> Any:
    return "not recorded" if value is None else value


def sources(settings: Sequence[Setting]) -> list[list[str]]:
    """One row for the runs of a method in a setting that share environment, images and steps.

    The columns are setting, method, seeds, number of the environment (from 1), fingerprints of the
    training and the test images, steps, and wall time of all rounds in seconds.
    """
    records = [record for setting in settings for record in setting.records]
    numbers = {
        key: str(number)
        for number, key in enumerate(dict.fromkeys(map(_environment, records)), start=1)
    }
    rows: dict[tuple[str, ...], list[Record]] = {}
    for setting in settings:
        for record in setting.records:
            key = (
                setting.title,
                record.method,
                numbers[_environment(record)],
                *_fingerprints(record),
                f"{record.steps:,}",
            )
            rows.setdefault(key, []).append(record)
    return [
        [
            title,
            method,
            ", ".join(str(record.seed) for record in sorted(each, key=lambda r: r.seed)),
            *rest,
            f"{sum(record.seconds for record in each):,.0f}",
        ]
        for (title, method, *rest), each in rows.items()
    ]


def warnings(settings: Sequence[Setting]) -> list[str]:
    """The warnings of the runs; equal ones of a method once, with their seeds."""
    hardware = [f"{each.title}: {text}" for each in settings for text in unequal(each.records)]
    found: dict[tuple[str, str, str], list[int]] = {}
    for setting in settings:
        for record in setting.records:
            for warning in record.warnings:
                found.setdefault((setting.title, record.method, warning), []).append(record.seed)
    return hardware + [
        f"{title}: {method}, seed {', '.join(map(str, sorted(seeds)))}: {warning}"
        for (title, method, warning), seeds in found.items()
    ]


def unequal(records: Sequence[Record]) -> list[str]:
    """Differences in hardware that change accuracy: number of threads, and kind of device."""
    found = []
    for name, noun in (("threads", "number of threads"), ("device", "kind of device")):
        values = {str(_text(record.provenance.get(name))).partition(":")[0] for record in records}
        if len(values) > 1:
            found.append(
                f"the runs differ in the {noun} ({', '.join(sorted(values))}), which changes "
                "accuracy; compare runs with equal ones"
            )
    return found


def _environment(record: Record) -> str:
    given = record.provenance
    return json.dumps(
        [given.get(name) for name in (*_SHOWN, "versions")], sort_keys=True, default=str
    )


def _fingerprints(record: Record) -> tuple[str, ...]:
    """The first 12 hexadecimal digits of the fingerprints of the training and the test images."""
    images = record.provenance.get("data") or record.provenance.get("images") or {}
    return tuple(str(images.get(part) or "not recorded")[:12] for part in ("train", "test"))
