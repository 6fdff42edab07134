"""How the cost of CC-Loss's own term grows: classes, width, batch, processes, bytes sent.

    python -m benchmarks.loss_scaling --out benchmarks/results/loss_scaling.json

One thing grows at a time, forward and backward on class labels. In a repetition every size of a
sweep is timed once, in an order drawn anew, and its ratio to the smallest is taken within the
repetition.

Two processes (gloo, on this machine, half the threads each) share a batch: by ``group=``, where
class sums travel, and by gathering all vectors and passing their gradients back. One process with
the whole batch and all threads takes its turn between them. The bytes are counted, not reckoned:
every collective is replaced by one that adds up what it is handed, and any that is not known stops
the run. A ring, or any other best algorithm, sends of S bytes handed to an all-reduce
2 (W - 1) / W S from each of W processes, and of R bytes that an all-gather ends with
(W - 1) / W R; both numbers are kept. Who gathers can do without passing gradients back where every
process computes the whole loss, so that the ratio to the gathering alone is kept too.
"""

import argparse
import json
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.loss_cost import A_TIMING, timed
from ccloss.functional import channel_correlation
from ccloss.training.provenance import provenance

WORLD = 2
CALLS = 10
"""Steps in a timing over processes, which must agree on them."""


class Size(NamedTuple):
    """N, D and K."""

    samples: int = 1024
    width: int = 512
    classes: int = 100


SWEEPS: dict[str, tuple[Size, ...]] = {
    "classes": tuple(Size(classes=k) for k in (10, 100, 1000, 10000)),
    "width": tuple(Size(width=d) for d in (64, 256, 1024, 4096)),
    "samples": tuple(Size(samples=n) for n in (8, 32, 128, 512, 1024, 4096)),
}
SHARED = (Size(1024), Size(8192))
"""Batches that processes share for their seconds."""
COUNTED = tuple(Size(samples=n, classes=k) for n in (32, 1024, 8192) for k in (10, 100, 1000))
"""Batches whose bytes are counted."""

Step = Callable[[], Any]


def batch(size: Size, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Vectors as an attention module gives them, and classes at random."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(size.samples, size.width, generator=generator).sigmoid()
    labels = torch.randint(size.classes, (size.samples,), generator=generator)
    return vectors.to(device), labels.to(device)


# --- one process


def stepper(size: Size, device: str) -> Step:
    """A forward and backward on one size of batch."""
    vectors, labels = batch(size, device)
    vectors.requires_grad_()
    return lambda: torch.autograd.grad(channel_correlation(vectors, labels), vectors)


def sweep(name: str, repetitions: int, device: str) -> dict[str, Any]:
    """Seconds of every size, and their ratios to the first size's."""
    sizes = SWEEPS[name]
    steps = {getattr(size, name): stepper(size, device) for size in sizes}
    calls = {}
    for value, step in steps.items():
        step()
        calls[value] = max(1, math.ceil(A_TIMING / timed(step, device)))
    seconds: dict[int, list[float]] = {value: [] for value in steps}
    order, shuffler = list(steps), random.Random(0)
    for _ in range(repetitions):
        shuffler.shuffle(order)
        for value in order:
            seconds[value].append(timed(steps[value], device, calls[value]))
    first = next(iter(steps))
    ratios = {
        value: [a / b for a, b in zip(times, seconds[first], strict=True)]
        for value, times in seconds.items()
    }
    return {
        "sizes": [size._asdict() for size in sizes],
        "seconds": seconds,
        "median_seconds": {value: statistics.median(times) for value, times in seconds.items()},
        "ratios_to_first": ratios,
        "median_ratio_to_first": {value: statistics.median(r) for value, r in ratios.items()},
    }


# --- two processes


class Gather(torch.autograd.Function):
    """Everyone's rows on every process; backward adds up everyone's gradients of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Joins the processes' rows in their order."""
        ctx.rows = len(rows)
        return gathered(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The sum over processes of the gradients of this process's rows."""
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        mine: Tensor = gradient.split(ctx.rows)[dist.get_rank()]
        return mine


def gathered(rows: Tensor) -> Tensor:
    """Everyone's rows, of which every process has as many."""
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


def share(size: Size) -> tuple[Tensor, Tensor]:
    """This process's part of the batch."""
    vectors, labels = (part.chunk(WORLD)[dist.get_rank()].clone() for part in batch(size))
    return vectors.requires_grad_(), labels


def by_class_sums(size: Size) -> Step:
    """A step on this process's part, class sums joined."""
    vectors, labels = share(size)

    def step() -> tuple[Tensor, ...]:
        ratio = channel_correlation(
            vectors, labels, num_classes=size.classes, group=dist.group.WORLD
        )
        return torch.autograd.grad(ratio, vectors)

    return step


def by_gathering(size: Size) -> Step:
    """A step on the gathered batch."""
    vectors, labels = share(size)

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            channel_correlation(Gather.apply(vectors), gathered(labels)), vectors
        )

    return step


class Way(NamedTuple):
    """A way to take a step: processes that take part, and the step."""

    processes: int
    step: Step


def ways(size: Size, alone: dist.ProcessGroup) -> dict[str, Way]:
    """All ways that are compared; ``alone`` is a group of the first process."""
    vectors, labels = batch(size)
    vectors.requires_grad_()

    def in_group_of_one() -> tuple[Tensor, ...]:
        ratio = channel_correlation(vectors, labels, num_classes=size.classes, group=alone)
        return torch.autograd.grad(ratio, vectors)

    return {
        "one process": Way(1, stepper(size, "cpu")),
        "one process, a group of one": Way(1, in_group_of_one),
        "two processes, class sums": Way(2, by_class_sums(size)),
        "two processes, vectors gathered": Way(2, by_gathering(size)),
    }


def time_together(way: Way, threads: int) -> float:
    """Seconds a step of the slower process; one that takes no part waits without computing."""
    torch.set_num_threads(max(1, threads // way.processes))
    dist.barrier()
    seconds = 0.0
    if dist.get_rank() < way.processes:
        way.step()  # threads are there, and the others' too
        seconds = timed(way.step, "cpu", CALLS)
    slower = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(slower, op=dist.ReduceOp.MAX)
    return float(slower)


def time_ways(
    size: Size, alone: dist.ProcessGroup, threads: int, repetitions: int
) -> dict[str, Any]:
    """Seconds of every way, in an order drawn anew each repetition, alike in both processes."""
    found = ways(size, alone)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    order, shuffler = list(found), random.Random(0)
    for _ in range(repetitions):
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(time_together(found[name], threads))
    first = seconds["one process"]
    return {
        **size._asdict(),
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "median_ratio_to_one_process": {
            name: statistics.median(a / b for a, b in zip(times, first, strict=True))
            for name, times in seconds.items()
        },
    }


# --- bytes

RING = {"all_reduce": 2 * (WORLD - 1) / WORLD, "all_gather": (WORLD - 1) / WORLD}
"""What a process sends of the bytes a collective is handed, at best."""
UNCOUNTED = (
    "all_gather_into_tensor",
    "all_gather_object",
    "all_to_all",
    "all_to_all_single",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "isend",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
)
"""Collectives that nothing here uses; if that changes, the count must learn of them."""


def size_of(tensors: Tensor | list[Tensor]) -> int:
    """Bytes of a tensor or of several."""
    several = [tensors] if isinstance(tensors, Tensor) else tensors
    return sum(tensor.numel() * tensor.element_size() for tensor in several)


@contextmanager
def counting() -> Iterator[dict[str, dict[str, int]]]:
    """Calls and bytes of the collectives that are called within."""
    found = {name: {"calls": 0, "bytes": 0} for name in RING}
    originals = {name: getattr(dist, name) for name in (*RING, *UNCOUNTED)}

    def counted(name: str) -> Callable[..., Any]:
        def collective(tensors: Tensor | list[Tensor], *args: Any, **kwargs: Any) -> Any:
            found[name]["calls"] += 1
            found[name]["bytes"] += size_of(tensors)
            return originals[name](tensors, *args, **kwargs)

        return collective

    def refused(name: str) -> Callable[..., Any]:
        def collective(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"torch.distributed.{name} is not counted; teach it to counting()")

        return collective

    for name in originals:
        setattr(dist, name, counted(name) if name in RING else refused(name))
    try:
        yield found
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def volume(step: Step) -> dict[str, Any]:
    """What one step hands to collectives in this process, and what of it is sent at best."""
    with counting() as found:
        step()
    handed = {name: entry["bytes"] for name, entry in found.items()}
    if not sum(handed.values()):
        raise RuntimeError("no collective was seen, though two processes share the batch")
    return {
        "calls": {name: entry["calls"] for name, entry in found.items()},
        "handed": handed,
        "handed_in_all": sum(handed.values()),
        "sent_in_all": sum(RING[name] * amount for name, amount in handed.items()),
    }


def count(size: Size) -> dict[str, Any]:
    """Bytes a step and process, by class sums and by gathering."""
    ours, theirs = by_class_sums(size), by_gathering(size)
    torch.testing.assert_close(ours(), theirs())  # the same gradients, or there is nothing to say
    sums, gathering = volume(ours), volume(theirs)
    only_gather = RING["all_gather"] * gathering["handed"]["all_gather"]
    return {
        **size._asdict(),
        "class_sums": sums,
        "gathering": gathering,
        "gathering_over_class_sums": gathering["sent_in_all"] / sums["sent_in_all"],
        "gathering_without_gradients_over_class_sums": only_gather / sums["sent_in_all"],
    }


def work(rank: int, folder: str, threads: int, repetitions: int) -> None:
    """All that two processes do, in one start of them; the first writes what it found."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    alone: Any = dist.new_group([0])  # which the other process has no part in
    found = {
        "bytes": [count(size) for size in COUNTED],
        "processes": [time_ways(size, alone, threads, repetitions) for size in SHARED],
    }
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def two_processes(repetitions: int) -> dict[str, Any]:
    """Seconds and bytes, from processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(work, args=(folder, torch.get_num_threads(), repetitions), nprocs=WORLD)
        found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        return found


# --- what is printed


def print_sweep(name: str, found: dict[str, Any]) -> None:
    """A line a size."""
    ratios = found["median_ratio_to_first"]
    first = next(iter(ratios))
    for value, seconds in found["median_seconds"].items():
        print(
            f"{name} {value:>6,}: {1000 * seconds:8.3f} ms, {ratios[value]:7.2f} times the time "
            f"of {first:,} for {value / first:g} times the {name}",
            flush=True,
        )


def print_processes(found: dict[str, Any]) -> None:
    """A line a way, and a line a count."""
    for case in found["processes"]:
        for name, seconds in case["median_seconds"].items():
            ratio = case["median_ratio_to_one_process"][name]
            head = f"N {case['samples']:,}, {name}"
            print(f"{head}: {1000 * seconds:.3f} ms, {ratio:.2f} of one process")
    for case in found["bytes"]:
        print(
            f"N {case['samples']:>5,}, K {case['classes']:>5,}: a process sends "
            f"{case['class_sums']['sent_in_all']:>11,.0f} bytes a step by class sums, "
            f"{case['gathering']['sent_in_all']:>11,.0f} by gathering: "
            f"{case['gathering_over_class_sums']:.3g} times as many "
            f"({case['gathering_without_gradients_over_class_sums']:.3g} without gradients)"
        )


def main() -> None:
    """Measures every sweep, then two processes; keeps the raw times after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="of the sweeps; processes: cpu"
    )
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--sweeps", nargs="*", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--no-processes", action="store_true", help="leave two processes out")
    arguments = parser.parse_args()
    content: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "provenance": provenance(arguments.device),
        "sweeps": {},
    }
    for name in arguments.sweeps:
        content["sweeps"][name] = sweep(name, arguments.repetitions, arguments.device)
        print_sweep(name, content["sweeps"][name])
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    if not arguments.no_processes:
        content |= two_processes(arguments.repetitions)
        print_processes(content)
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
