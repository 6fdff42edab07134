"""Everything to measure on a GPU: ``python -m benchmarks.device --seconds 540 --out results``.

The pieces run in order of value, each in a process of its own with a time limit, so that an error
or a hang of one of them costs that piece only. Each writes one line a measurement to
``device-PIECE.jsonl`` as soon as it has it; an interrupted benchmark keeps its lines. Afterwards,
``python -m benchmarks.merge_results results`` adds the files to ``benchmarks/results``.

``--dry-run --device cpu --steps 20`` runs every piece on a small network on the CPU.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]

GRACE_SECONDS = 10.0
"""A piece that does not end by itself is killed this long after its limit."""

START_SECONDS = 20.0
"""A piece needs this much time to import everything and to measure anything."""


@dataclass(frozen=True)
class Settings:
    """What to measure, and where.

    Attributes:
        out: folder of the results.
        data: folder with the images of CIFAR-100, for real rounds.
        device: ``cuda`` or ``cpu``.
        steps: timed steps of a measurement.
        dry_run: measure a small network and few sizes, to see that every piece works.
        deadline: time of ``time.monotonic`` after which nothing new is started.
    """

    out: Path
    data: Path | None
    device: str
    steps: int
    dry_run: bool
    deadline: float

    @property
    def seconds_left(self) -> float:
        """Time until the deadline."""
        return self.deadline - time.monotonic()


def pieces() -> dict[str, tuple[float, Callable[[Settings], Iterator[Row]]]]:
    """Name -> time limit in seconds, and the function that measures. The last gets the rest."""
    from benchmarks import device_pieces

    return {
        "tests": (60, device_pieces.tests),
        "steps": (150, device_pieces.steps),
        "rounds": (60, device_pieces.rounds),
        "loss": (45, device_pieces.loss),
        "profile": (45, device_pieces.profile),
        "training": (float("inf"), device_pieces.training),
    }


def measure(name: str, settings: Settings) -> None:
    """Runs one piece and writes its lines."""
    import torch

    from ccloss.training.devices import device_name
    from ccloss.training.provenance import provenance

    _, function = pieces()[name]
    device = device_name(torch.device(settings.device))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    heading = {
        "started": started,
        "dry_run": settings.dry_run,
        "threads": torch.get_num_threads(),
        "provenance": provenance(device),
    }
    file = settings.out / f"device-{name}.jsonl"
    with open(file, "w") as stream:
        for row in itertools.chain([heading], function(settings)):
            print(json.dumps(row), file=stream, flush=True)
            print(f"{name}: {json.dumps(row)[:160]}", flush=True)


def run_all(arguments: argparse.Namespace) -> bool:
    """Runs every piece in its own process. Returns whether all of them ended without an error."""
    end = time.monotonic() + arguments.seconds
    succeeded = True
    for name, (limit, _) in pieces().items():
        seconds = min(limit, end - time.monotonic() - GRACE_SECONDS)
        if seconds < START_SECONDS:
            print(f"{name}: no time left")
            continue
        command = [sys.executable, "-m", "benchmarks.device", *sys.argv[1:]]
        command += ["--piece", name, "--seconds", f"{seconds:.0f}"]
        try:
            status = run_group(command, seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{name}: killed after {seconds + GRACE_SECONDS:.0f} s")
            continue
        if status:
            print(f"{name}: ended with exit status {status}")
            succeeded = False
    return succeeded


def run_group(command: Sequence[str], timeout: float) -> int:
    """Runs a command and returns its exit status.

    Raises:
        subprocess.TimeoutExpired: it did not end in time. It was killed, and so were the processes
            that it had started: they would use the device during the next piece.
    """
    with subprocess.Popen(command, process_group=0) as process:
        try:
            return process.wait(timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def main() -> int:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--piece", help="run this piece only, in this process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.piece is None:
        return 0 if run_all(arguments) else 1
    settings = Settings(
        out=arguments.out,
        data=arguments.data,
        device=arguments.device,
        steps=arguments.steps,
        dry_run=arguments.dry_run,
        deadline=time.monotonic() + arguments.seconds,
    )
    measure(arguments.piece, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
