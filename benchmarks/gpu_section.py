"""The GPU section of docs/performance.md, from the files that :mod:`benchmarks.device` writes."""

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ccloss.bench.paper.tables import ROUNDS, TABLE1
from ccloss.bench.report.text import markdown_table
from ccloss.data.catalog import SOURCES

MISSING = "not measured"

MAIN = {"data": "cifar100", "backbone": "resnet18", "precision": "bf16", "loss": "ce"}
"""The case of most rows."""

Row = dict[str, Any]


class Measurements:
    """The rows of all pieces; of two rows of the same measurement, the later one counts.

    Args:
        folder: with ``device-*.jsonl``.
    """

    def __init__(self, folder: Path) -> None:
        self.devices: list[str] = []
        self._rows: dict[str, list[Row]] = {}
        for file in sorted(folder.glob("device-*.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            rows = self._rows.setdefault(file.stem.removeprefix("device-"), [])
            for line in lines:
                if "provenance" in line:
                    self.devices.append(_describe(line))
                elif "error" not in line:
                    rows.append(line)

    def rows(self, piece: str, **fields: Any) -> list[Row]:
        """The rows of a piece with these fields."""
        return [
            row
            for row in self._rows.get(piece, [])
            if all(row.get(name) == value for name, value in fields.items())
        ]

    def step_seconds(self, alternative: str, **fields: Any) -> float | None:
        """Median seconds of a training step."""
        found = self.rows("steps", **{**MAIN, **fields, "alternative": alternative})
        return _step_seconds(found[-1]) if found else None

    def rounds_seconds(self, count: int, layout: str = "graphs") -> float | None:
        """Median seconds of a step of several rounds."""
        found = self.rows("rounds", rounds=count, layout=layout)
        return _step_seconds(found[-1]) if found else None


def section(folder: Path) -> str:
    """The section, with "not measured" where there are no data.

    Args:
        folder: with ``device-*.jsonl``.
    """
    measured = Measurements(folder)
    summary: list[Sequence[str]] = [["quantity", "result"], *_summary(measured)]
    parts = [
        "## GPU",
        "```sh\nsh benchmarks/device.sh run FOLDER OUT\n```",
        _devices(measured),
        markdown_table(summary),
        *_tables(measured),
    ]
    parts[1] = f"<!-- not run: needs a GPU -->\n{parts[1]}"
    return "\n\n".join(parts)


def _devices(measured: Measurements) -> str:
    if measured.devices:
        return f"Device: {'; '.join(dict.fromkeys(measured.devices))}."
    return (
        "No GPU has been available. The captured step is tested on a CPU, and it has not run on a "
        "GPU yet."
    )


def _summary(measured: Measurements) -> Iterator[list[str]]:
    captured = measured.step_seconds("captured")
    name = "captured step, ResNet18, batch 32, bf16"
    for alternative in ("eager", "timm", "plain", "reduce-overhead"):
        other = measured.step_seconds(alternative)
        yield [f"{name}: times the steps/s of {alternative}", _ratio(other, captured)]
    profiled = measured.rows("profile", **MAIN, alternative="captured")
    yield ["kernels of a captured step", _kernels(profiled[-1]) if profiled else MISSING]
    yield [
        "share of time the GPU is busy during replay",
        _busy(profiled[-1]) if profiled else MISSING,
    ]
    five, one = measured.rounds_seconds(5), measured.rounds_seconds(1)
    yield ["five rounds in one process: times the time of one round", _ratio(five, one)]
    with_attention = measured.step_seconds("captured", loss="ce+cam")
    cc = measured.step_seconds("captured", loss="cc")
    yield ["step of CC: times the time of CE + CAM", _ratio(cc, with_attention)]
    steps = 300 * (SOURCES["cifar100"].train // 32)
    yield [
        "five rounds of 300 epochs of ResNet18 on CIFAR-100, without evaluation (estimate)",
        _hours(None if five is None else five * steps),
    ]
    yield ["all of Table 1, one run at a time (estimate)", _hours(table1_seconds(measured))]


def table1_seconds(measured: Measurements) -> float | None:
    """Seconds of all runs of Table 1 from the time of a step of each column; no evaluations.

    Images of Cars-196 are decoded by workers, so its steps are eager; the time of decoding is not
    part of the estimate.
    """
    total = 0.0
    for cell in TABLE1.cells():
        config = cell.experiment.resolve(channels=3)
        alternative = "eager" if config.data == "cars196" else "captured"
        seconds = measured.step_seconds(
            alternative,
            data=config.data,
            backbone=config.backbone,
            precision=config.precision,
        )
        if seconds is None:
            return None
        steps = config.epochs * (SOURCES[config.data].train // config.batch_size)
        total += ROUNDS * steps * seconds
    return total


def _tables(measured: Measurements) -> Iterator[str]:
    steps = [
        [
            f"{row['data']} {row['backbone']}",
            row["precision"],
            f"`{row['loss']}`",
            row["alternative"],
            f"{1 / _step_seconds(row):.0f}",
        ]
        for row in measured.rows("steps")
    ]
    if steps:
        yield markdown_table([["case", "precision", "loss", "step", "steps/s"], *steps])
    profiles = [
        [f"{row['data']} {row['backbone']}", row["alternative"], _kernels(row), _busy(row)]
        for row in measured.rows("profile")
    ]
    if profiles:
        yield markdown_table([["case", "step", "kernels per step", "GPU busy"], *profiles])
    rounds = [
        [str(row["rounds"]), row["layout"], f"{row['rounds'] / _step_seconds(row):.0f}"]
        for row in measured.rows("rounds")
    ]
    if rounds:
        head = ["rounds in one process", "a graph each, or branches of one", "steps/s of all"]
        yield markdown_table([head, *rounds])
    loss = [
        [f"{row['samples']:,}", row["alternative"], f"{1e6 * _step_seconds(row):.0f} µs"]
        for row in measured.rows("loss")
    ]
    if loss:
        head = ["N", "loss, D = 512, K = 100", "forward and backward"]
        yield markdown_table([head, *loss])


def _step_seconds(row: Row) -> float:
    return float(statistics.median(row["seconds"])) / float(row["steps"])


def _kernels(row: Row) -> str:
    return f"{row['kernels_per_step']:.0f}"


def _busy(row: Row) -> str:
    """The share of a step's time, measured without a profiler, in which kernels are executed."""
    return f"{100 * row['busy_seconds'] / _step_seconds(row):.0f} %"


def _describe(heading: Row) -> str:
    origin = heading["provenance"]
    return (
        f"{origin['device']} (torch {origin['versions']['torch']}, CUDA {origin['cuda']}, "
        f"driver {origin['driver']}, commit {str(origin['commit'])[:10]})"
    )


def _ratio(numerator: float | None, denominator: float | None) -> str:
    if numerator is None or denominator is None:
        return MISSING
    return f"{numerator / denominator:.2f}"


def _hours(seconds: float | None) -> str:
    return MISSING if seconds is None else f"{seconds / 3600:.1f} h"
