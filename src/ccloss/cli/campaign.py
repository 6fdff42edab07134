"""Execution of planned runs, shared by ``ccloss compare`` and ``ccloss reproduce``."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from ccloss.cli.console import (
    CampaignScreen,
    is_main_process,
    print_table,
    progress_reporter,
)
from ccloss.cli.parameters import Resources
from ccloss.data.names import counted, printable
from ccloss.errors import InputError

if TYPE_CHECKING:
    from ccloss.bench.campaign.executors import (
        InterleavingExecutor,
        ProcessExecutor,
        RayExecutor,
        SerialExecutor,
    )
    from ccloss.bench.campaign.plan import Run


JOBS_PER_CORE = 4
"""Upper limit of parallel runs; more of them only compete for the cores."""


def require_consistent(resources: Resources) -> None:
    """Raises :class:`InputError` if options exclude each other or are out of range."""
    jobs, rounds = resources.jobs, resources.rounds_per_device
    require_parallel_runs("jobs", jobs)
    if rounds is not None:
        require_parallel_runs("rounds_per_device", rounds)
    threads = resources.threads_per_run
    if threads is not None and not 1 <= threads <= available_cores():
        raise InputError(
            f"threads_per_run must be from 1 to {available_cores()}, the number of CPU cores, "
            f"got {threads}"
        )
    if jobs != 1 and rounds is not None:
        raise InputError("--jobs and --rounds-per-device exclude each other; give one of them")
    if resources.ray is not None and (jobs != 1 or rounds is not None):
        raise InputError(
            "--jobs and --rounds-per-device apply to this machine and --ray to a cluster; "
            "give one of them"
        )


def require_parallel_runs(name: str, number: int) -> None:
    """Raises :class:`InputError` for a number of parallel runs this machine cannot execute."""
    cores = available_cores()
    most = JOBS_PER_CORE * cores
    if not 1 <= number <= most:
        raise InputError(
            f"{name} must be from 1 to {most} ({JOBS_PER_CORE} per CPU core; this machine has "
            f"{counted(cores, 'core')}), got {number}"
        )


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def execute(runs: "Sequence[Run]", resources: Resources) -> bool:
    """Executes the runs that are not finished. Returns whether any of them failed."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.bench.campaign.executors import default_threads, thread_limit
    from ccloss.bench.campaign.scheduler import run_campaign

    threads = resources.threads_per_run or default_threads()
    with _executor(resources, runs, threads) as executor:
        with thread_limit(threads):
            costs = estimate(runs, resources.data_root)
        console = Console(stderr=True, quiet=not is_main_process())
        with CampaignScreen(runs, costs, executor.slots, console) as screen:
            failures = run_campaign(
                runs,
                executor,
                data_root=resources.data_root and resources.data_root.resolve(),
                workers=resources.workers,
                reporter=progress_reporter() if executor.slots == 1 else None,
                observer=screen,
            )
    for failure in failures:
        reason = " ".join(failure.error.split())
        print(printable(f"failed: {failure.run.folder.path}: {reason}"), file=sys.stderr)
    return bool(failures)


def print_costs(runs: "Sequence[Run]", resources: Resources) -> None:
    """Prints the runs of each cell, how many are finished, and the work that is left."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.training.progress import duration

    costs = estimate(runs, resources.data_root)
    cells: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        cells.setdefault(run.cell, []).append(index)
    rows = []
    for name, indices in cells.items():
        own = [costs[index] for index in indices]
        rows.append(
            (
                name,
                str(len(own)),
                str(sum(runs[index].folder.finished for index in indices)),
                f"{own[0].steps:,}",
                f"{sum(cost.steps_left for cost in own):,}",
                duration(sum(cost.seconds_left for cost in own)),
            )
        )
    print_table(("cell", "rounds", "finished", "steps per round", "steps left", "time left"), rows)
    left = sum(cost.seconds_left for cost in costs)
    print(
        f"{sum(cost.steps_left for cost in costs):,} steps, about {duration(left)} on this "
        "machine, one run at a time. The estimate uses finished runs of the same network and "
        "batch size, or a few steps on random images timed now."
    )


def _executor(
    resources: Resources, runs: "Sequence[Run]", threads: int | None
) -> "SerialExecutor | InterleavingExecutor | ProcessExecutor | RayExecutor":
    from ccloss.bench.campaign.executors import (
        InterleavingExecutor,
        ProcessExecutor,
        RayExecutor,
        SerialExecutor,
        visible_devices,
    )

    if resources.ray is not None:
        return RayExecutor(resources.ray, resources.cpus_per_run, resources.gpus_per_run, threads)
    slots = _parallel_runs(resources, runs)
    if slots == 1:
        return SerialExecutor(threads)
    if resources.rounds_per_device is not None and len(visible_devices()) == 1:
        return InterleavingExecutor(slots)
    return ProcessExecutor(slots, threads)


def _parallel_runs(resources: Resources, runs: "Sequence[Run]") -> int:
    """Number of runs at a time on this machine."""
    from ccloss.bench.campaign.executors import visible_devices

    remaining = sum(not run.folder.finished for run in runs)
    wanted = resources.jobs
    if resources.rounds_per_device is not None:
        wanted = resources.rounds_per_device * max(1, len(visible_devices()))
    return max(1, min(wanted, remaining))
