"""Execution of planned runs, shared by ``ccloss compare`` and ``ccloss reproduce``."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ccloss.cli.console import CampaignScreen, is_main_process, progress_reporter
from ccloss.cli.parameters import Resources
from ccloss.errors import InputError

if TYPE_CHECKING:
    from ccloss.bench.campaign.executors import Executor
    from ccloss.bench.campaign.plan import Run


def require_consistent(resources: Resources) -> None:
    """Raises :class:`InputError` if options exclude each other or are out of range."""
    jobs, rounds = resources.jobs, resources.rounds_per_device
    if jobs < 1:
        raise InputError(f"jobs must be 1 or more, got {jobs}")
    if isinstance(rounds, int) and rounds < 1:
        raise InputError(f"rounds_per_device must be auto, or 1 or more, got {rounds}")
    if jobs != 1 and rounds is not None:
        raise InputError("--jobs and --rounds-per-device exclude each other; give one of them")
    if resources.ray is not None and (jobs != 1 or rounds is not None):
        raise InputError(
            "--jobs and --rounds-per-device apply to this machine and --ray to a cluster; "
            "give one of them"
        )


def execute(runs: "Sequence[Run]", resources: Resources) -> bool:
    """Executes the runs that are not finished. Returns whether any of them failed."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.bench.campaign.loop import run

    with _executor(resources, runs) as executor:
        costs = estimate(runs, resources.data_root)
        console = Console(stderr=True, quiet=not is_main_process())
        with CampaignScreen(runs, costs, executor.slots, console) as screen:
            failures = run(
                runs,
                executor,
                data_root=resources.data_root and resources.data_root.resolve(),
                workers=resources.workers,
                watcher=progress_reporter() if executor.slots == 1 else None,
                observer=screen,
            )
    for failure in failures:
        reason = " ".join(failure.error.split())
        print(f"failed: {failure.run.folder.path}: {reason}", file=sys.stderr)
    return bool(failures)


def print_costs(runs: "Sequence[Run]", resources: Resources) -> None:
    """Prints the runs of each cell, how many are finished, and the work that is left."""
    from ccloss.bench.campaign.cost import estimate
    from ccloss.training.loop import duration

    costs = estimate(runs, resources.data_root)
    cells: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        cells.setdefault(run.cell, []).append(index)
    table = Table("cell", "rounds", "done", "steps a round", "steps left", "time left")
    for name, indices in cells.items():
        own = [costs[index] for index in indices]
        table.add_row(
            name,
            str(len(own)),
            str(sum(runs[index].folder.finished for index in indices)),
            f"{own[0].steps:,}",
            f"{sum(cost.steps_left for cost in own):,}",
            duration(sum(cost.seconds_left for cost in own)),
        )
    Console().print(table)
    left = sum(cost.seconds_left for cost in costs)
    print(
        f"{sum(cost.steps_left for cost in costs):,} steps, about {duration(left)} on this "
        "machine, one run at a time. The estimate uses finished runs of the same network and "
        "batch size, or a few steps on random images timed now."
    )


def _executor(resources: Resources, runs: "Sequence[Run]") -> "AbstractContextManager[Executor]":
    from ccloss.bench.campaign import executors

    if resources.ray is not None:
        return executors.cluster(resources.ray, resources.cpus_per_run, resources.gpus_per_run)
    slots = _parallel_runs(resources, runs)
    return nullcontext(executors.Here()) if slots == 1 else executors.processes(slots)


def _parallel_runs(resources: Resources, runs: "Sequence[Run]") -> int:
    """Number of runs at a time on this machine."""
    wanted = resources.rounds_per_device
    if wanted is None:
        return resources.jobs
    from ccloss.bench.campaign.executors import device_count

    devices = device_count()
    left = [run for run in runs if not run.folder.finished]
    if wanted == "auto":
        wanted = _fastest_rounds_per_device(left, -(-len(left) // devices), resources)
    return max(1, min(wanted * devices, len(left)))


def _fastest_rounds_per_device(left: "Sequence[Run]", most: int, resources: Resources) -> int:
    if most < 2:
        return 1
    from ccloss.bench.campaign.side_by_side import quickest, rates

    found = rates(left[0].config, most, resources.data_root)
    best = quickest(found)
    measured = ", ".join(f"{runs}: {rate:.3g} steps/s" for runs, rate in found.items())
    print(f"rounds per device: {best} ({measured})", file=sys.stderr)
    return best
