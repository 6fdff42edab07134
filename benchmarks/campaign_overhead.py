"""Overhead and memory of a campaign of tiny runs: ``python -m benchmarks.campaign_overhead``.

The overhead of a run is the wall time of the campaign times the number of workers, divided by the
number of runs, less the mean time that the runs measured themselves. Memory and open files of all
processes are sampled after every run; growth shows between the second and the last fifth of the
runs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.measurement import write
from ccloss.bench.campaign.executors import ProcessExecutor
from ccloss.bench.campaign.plan import Run, plan
from ccloss.bench.campaign.scheduler import Outcome, run_campaign
from ccloss.bench.experiment import Experiment


class Sampler:
    """Samples memory (MB) and open files of this process and its workers after every run."""

    def __init__(self) -> None:
        self.memory: list[float] = []
        self.files: list[int] = []

    def started(self, run: Run) -> None: ...

    def ended(self, outcome: Outcome) -> None:
        parent = psutil.Process()
        processes = [parent, *parent.children(recursive=True)]
        self.memory.append(sum(each.memory_info().rss for each in processes) / 1e6)
        self.files.append(sum(each.num_fds() for each in processes))

    def waiting(self, runs: Sequence[Run]) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    experiment = Experiment(
        data="digits", loss="ce", epochs=1, train_limit=64, test_limit=20, hidden_features=8
    )
    sampler = Sampler()
    with tempfile.TemporaryDirectory() as folder:
        runs = plan([experiment], arguments.runs, Path(folder))
        started = time.perf_counter()
        with ProcessExecutor(arguments.workers, threads=1) as executor:
            failures = run_campaign(runs, executor, observer=sampler)
        seconds = time.perf_counter() - started
        if failures:
            raise RuntimeError(failures[0].error)
        measured = statistics.mean(run.folder.read_record().seconds for run in runs)
    fifth = max(1, len(runs) // 5)
    first, last = slice(fifth, 2 * fifth), slice(-fifth, None)
    memory = [statistics.median(sampler.memory[part]) for part in (first, last)]
    files = [statistics.median(sampler.files[part]) for part in (first, last)]
    write(
        "campaign_overhead",
        runs=len(runs),
        workers=arguments.workers,
        seconds=seconds,
        overhead_seconds_per_run=seconds * arguments.workers / len(runs) - measured,
        memory_mb={"second fifth": memory[0], "last fifth": memory[1]},
        open_files={"second fifth": files[0], "last fifth": files[1]},
    )


if __name__ == "__main__":
    main()
