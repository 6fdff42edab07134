"""What CC-Loss's own term costs, forward and backward, beside what people would use instead.

    python -m benchmarks.loss_cost --out benchmarks/results/loss_cost.json

For every batch size and number of classes, in one run:

* ``ours``: ``ccloss.functional.channel_correlation`` on class labels; ``ours, soft labels`` on rows
  as mixup makes them, two classes with a share each; with ``--compile`` also under torch.compile;
* ``paper``: sec. 2.3's ``E + E^T - 2G`` with masks of the pairs, and ``cdist``: the same with
  ``torch.cdist``. They compute the same number, so their error is taken too;
* four losses of pytorch-metric-learning: other losses, but what their users would pay;
* the floor: two reads and one write of the vectors, which is what any forward and backward must
  move (see ``bandwidth_floor``).

A repetition times every competitor once, in an order drawn anew, so that what else the machine does
falls on all alike; ratios are taken within a repetition, and their median is quoted. What would
need more memory than ``--gigabytes`` is not run, and the results say so. A competitor takes part in
as many repetitions as ``--seconds`` have room for, and in three at least, unless a single call
takes longer: then that call is all, and its ratio is to the first repetition of ours.

Memory on the CPU is the growth of a process's peak, each competitor in a process of its own, from
when the vectors lie there; the gradient (one input) is part of it. A process's peak is too coarse
for batches below 2,048. On CUDA it is the allocator's peak.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccloss.functional import channel_correlation
from ccloss.training.provenance import provenance

WIDTH, EPS = 512, 1e-6
SAMPLES = (32, 128, 512, 2048, 8192, 32768, 131072)
CLASSES = (100, 1000)
LARGE = 8192
"""From this batch on the floor is measured, and the growth of time is fitted."""
PAIRS_UP_TO = 2048
"""Batches up to this have their errors taken against pairs in double precision."""
PEAK_FROM = 2048
"""Batches from this on have a memory that a process's peak can show (an input of 4 MB)."""
COLD_BYTES = 128e6
"""What inputs that take turns have together: more than a processor's last cache."""
COMPILED_UP_TO = 8192
WARM_SAMPLES = 128
A_TIMING = 0.02
"""Seconds that a timing lasts at least: a batch of calls where one is shorter."""
AT_LEAST = 3
"""Repetitions of what is not slower than the budget in a single call."""
WARM_BELOW = 0.5
"""Seconds of a call below which a first call, with what it sets up, is not a fair estimate."""

OURS, SOFT, COMPILED = "ours", "ours, soft labels", "ours, compiled"
FLOOR, FRESH_FLOOR = "floor", "floor, fresh memory"

Loss = Callable[[Tensor, Tensor], Tensor]
Call = Callable[[], Any]


# --- the competitors


def pair_ratio(distances: Tensor, same: Tensor) -> Tensor:
    """Eq. 8 from the N x N distances; every pair is there twice."""
    intra = (distances * same).sum() / 2
    inter = (distances * ~same).sum() / 2
    return intra / (inter + EPS)


def paper(vectors: Tensor, labels: Tensor) -> Tensor:
    """Sec. 2.3: squared norms in rows and in columns, less twice the Gram matrix."""
    squares = vectors.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    return pair_ratio(distances, labels[:, None] == labels[None, :])


def cdist(vectors: Tensor, labels: Tensor) -> Tensor:
    """The same with PyTorch's own distances."""
    distances = torch.cdist(vectors, vectors).square()
    return pair_ratio(distances, labels[:, None] == labels[None, :])


def compiled(_: int) -> Loss:
    """A compilation for each size: what is measured is the best that compiling can do."""
    torch.compiler.reset()
    return torch.compile(channel_correlation, dynamic=False)


def metric_learning(name: str, with_classes: bool = False) -> Callable[[int], Loss]:
    """A loss of pytorch-metric-learning with its defaults."""

    def make(classes: int) -> Loss:
        kind = getattr(import_module("pytorch_metric_learning.losses"), name)
        sizes = {"num_classes": classes, "embedding_size": WIDTH} if with_classes else {}
        loss: Loss = kind(**sizes)
        return loss

    return make


def linear_bytes(samples: int, classes: int) -> float:
    """Four tensors of the vectors' size, and what rows of labels may need in double precision."""
    return 4.0 * samples * (4 * WIDTH + 6 * classes)


def quadratic_bytes(matrices: float) -> Callable[[int, int], float]:
    """So many N x N tensors of float32."""
    return lambda samples, _: 4.0 * samples**2 * matrices


def triplet_bytes(samples: int, classes: int) -> float:
    """Indices and distances of all triplets, and the cube of flags they are looked up in."""
    cube = 3.0 * samples**3 if samples**3 < 2**31 else 0.0  # larger ones are made row by row
    triplets = samples**2 * (1 + samples / classes)
    return cube + 100.0 * triplets


class Rival(NamedTuple):
    """How a competitor is made for K classes, and the bytes it takes for N samples of K classes."""

    make: Callable[[int], Loss]
    bytes_needed: Callable[[int, int], float]
    same_number: bool = False  # it computes what ours does, so that its error can be taken
    library: bool = False  # it is pytorch-metric-learning's


RIVALS: dict[str, Rival] = {
    OURS: Rival(lambda _: channel_correlation, linear_bytes, same_number=True),
    SOFT: Rival(lambda _: channel_correlation, linear_bytes, same_number=True),
    COMPILED: Rival(compiled, linear_bytes, same_number=True),
    "paper": Rival(lambda _: paper, quadratic_bytes(6), same_number=True),
    "cdist": Rival(lambda _: cdist, quadratic_bytes(8), same_number=True),
    "ContrastiveLoss": Rival(metric_learning("ContrastiveLoss"), quadratic_bytes(14), library=True),
    "SupConLoss": Rival(metric_learning("SupConLoss"), quadratic_bytes(16), library=True),
    "TripletMarginLoss": Rival(metric_learning("TripletMarginLoss"), triplet_bytes, library=True),
    "ArcFaceLoss": Rival(
        metric_learning("ArcFaceLoss", with_classes=True), linear_bytes, library=True
    ),
}


# --- what they are given


class Case(NamedTuple):
    """One competitor on one size of batch."""

    name: str
    samples: int
    classes: int
    device: str
    cold: bool = False  # inputs take turns, so that they come from memory, not from a cache


def ordinary(samples: int, device: str) -> Tensor:
    """Attention vectors as trained: sigmoids of normal numbers (in place, for peaks' sake)."""
    generator = torch.Generator(device).manual_seed(0)
    vectors = torch.empty(samples, WIDTH, device=device)
    return vectors.normal_(generator=generator).sigmoid_()


def nearly_equal(samples: int, device: str) -> Tensor:
    """Attention vectors as at the start of training, or of a class become tight."""
    generator = torch.Generator(device).manual_seed(0)
    vectors = torch.empty(samples, WIDTH, device=device)
    return vectors.normal_(generator=generator).mul_(1e-4).add_(0.5)


def class_labels(samples: int, classes: int, device: str) -> Tensor:
    """Classes at random; one pair is made sure of, for without any the value is 0 for all."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (samples,), generator=generator)
    labels[1] = labels[0]
    return labels.to(device)


def mixed_rows(samples: int, classes: int, device: str) -> Tensor:
    """(N, K) rows with a share of 0.5 to 1 for one class and the rest for another."""
    generator = torch.Generator().manual_seed(2)
    first = class_labels(samples, classes, "cpu")
    other = (first + torch.randint(1, classes, (samples,), generator=generator)) % classes
    share = 0.5 + 0.5 * torch.rand(samples, generator=generator)
    rows = torch.empty(samples, classes).zero_()  # touched, so that no peak shows it later
    rows[torch.arange(samples), first] = share
    rows[torch.arange(samples), other] = 1 - share
    return rows.to(device)


def make_labels(case: Case) -> Tensor:
    """Rows for soft labels, else classes."""
    make = mixed_rows if case.name == SOFT else class_labels
    return make(case.samples, case.classes, case.device)


def copies(case: Case) -> int:
    """Copies of the vectors that take turns, so that none is in a cache when its turn comes."""
    return math.ceil(COLD_BYTES / (4 * case.samples * WIDTH)) if case.cold else 1


def bandwidth_floor(case: Case) -> Call:
    """Two reads and one write of N x D float32: forward reads, backward reads and writes.

    ``sum`` keeps nothing and adds with vector instructions in all threads, so a read costs what the
    memory gives: of sum, amax and dot it is the fastest. The second read goes with the write, as in
    a backward: ``copy_`` is what PyTorch has that moves bytes and computes nothing, and it is
    faster than a second sum and a ``fill_``. Where the vectors fit in the processor's last cache,
    the floor is that cache's and what is compared with it has the same advantage, unless the case
    is cold.

    Args:
        case: its N and device; ``FRESH_FLOOR`` writes to memory that is asked for anew each time,
            as a gradient's is: the system may have to clear the pages first. The floor proper
            writes to memory it has.
    """
    vectors = [ordinary(case.samples, case.device) for _ in range(copies(case))]
    turns = itertools.cycle([(source, torch.zeros_like(source)) for source in vectors])
    fresh = case.name == FRESH_FLOOR

    def call() -> None:
        source, kept = next(turns)
        source.sum()
        (torch.empty_like(source) if fresh else kept).copy_(source)

    return call


def prepare(case: Case) -> Call:
    """A forward and backward of a competitor, its inputs made."""
    if case.name in (FLOOR, FRESH_FLOOR):
        return bandwidth_floor(case)
    loss = RIVALS[case.name].make(case.classes)
    own = [*loss.to(case.device).parameters()] if isinstance(loss, nn.Module) else []
    vectors = [ordinary(case.samples, case.device).requires_grad_() for _ in range(copies(case))]
    labels, turns = make_labels(case), itertools.cycle(vectors)

    def call() -> None:
        leaf = next(turns)
        torch.autograd.grad(loss(leaf, labels), [leaf, *own])

    return call


# --- time and memory


def timed(call: Call, device: str, calls: int = 1) -> float:
    """Seconds a call."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


class First(NamedTuple):
    """What the first call tells: its seconds, and bytes beyond the inputs (None: not seen)."""

    seconds: float
    extra_bytes: float | None


def peak_bytes() -> float:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def first_on_cpu(case: Case, threads: int, pipe: Connection) -> None:
    """In a process of its own: loads libraries and starts threads on a small batch, then looks."""
    torch.set_num_threads(threads)
    prepare(case._replace(samples=WARM_SAMPLES))()
    call = prepare(case)
    before = peak_bytes()
    seconds = timed(call, "cpu")
    pipe.send(First(seconds, peak_bytes() - before))


def in_a_process(case: Case) -> First | None:
    """``first_on_cpu`` of a case, or None if its process ended without a word (no memory)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccloss.functional", "pytorch_metric_learning.losses"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=first_on_cpu, args=(case, torch.get_num_threads(), sender))
    process.start()
    sender.close()
    try:
        first: First = receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return first


def first_on_cuda(case: Case) -> First | None:
    """The allocator's peak over what the inputs take, or None if it does not fit."""
    try:
        prepare(case._replace(samples=WARM_SAMPLES))()
        call = prepare(case)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        seconds = timed(call, case.device)
        return First(seconds, float(torch.cuda.max_memory_allocated() - before))
    except torch.OutOfMemoryError:
        return None


def first_call(case: Case) -> First | None:
    """The first call of a case, with its memory where that can be seen."""
    if case.device == "cuda":
        return first_on_cuda(case)
    if case.samples >= PEAK_FROM and case.name in RIVALS and case.name != COMPILED:
        return in_a_process(case)
    call = prepare(case)
    call()  # compiles, where there is something to compile
    return First(timed(call, case.device), None)


def why_not(case: Case, gigabytes: float) -> str | None:
    """Why a competitor is not run, if it is not."""
    rival = RIVALS.get(case.name)
    if rival is None:
        return None
    if rival.library and find_spec("pytorch_metric_learning") is None:
        return "pytorch-metric-learning is not installed"
    needed = rival.bytes_needed(case.samples, case.classes) / 1e9
    if needed > gigabytes:
        return f"needs about {needed:.3g} GB, more than the limit of {gigabytes:g} GB"
    return None


class Timing(NamedTuple):
    """A competitor that takes part: calls in a timing, repetitions, and the seconds so far."""

    call: Call
    calls: int
    repetitions: int
    seconds: list[float]


def plan(case: Case, first: First, repetitions: int, budget: float) -> Timing:
    """As many repetitions as the budget has room for, but some; of the slowest the first call."""
    if first.seconds > budget:
        return Timing(lambda: None, 1, 0, [first.seconds])
    call, once = prepare(case), first.seconds
    if once < WARM_BELOW:
        call()
        once = timed(call, case.device)
    calls = max(1, math.ceil(A_TIMING / once))
    room = max(AT_LEAST, int(budget / (once * calls)))
    return Timing(call, calls, min(repetitions, room), [])


def take_turns(timings: dict[str, Timing], repetitions: int, device: str) -> None:
    """Times every competitor once a repetition, in an order drawn anew."""
    shuffler = random.Random(0)
    order = list(timings)
    for repetition in range(repetitions):
        shuffler.shuffle(order)
        for name in order:
            timing = timings[name]
            if repetition < timing.repetitions:
                timing.seconds.append(timed(timing.call, device, timing.calls))


# --- errors


def by_pairs(vectors: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 over pairs; for rows of labels the indicator is <y_i, y_j>."""
    squares = vectors.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    if labels.is_floating_point():
        rows = labels.to(vectors) / labels.to(vectors).sum(1, keepdim=True)
        same = rows @ rows.T
    else:
        same = (labels[:, None] == labels[None, :]).to(vectors)
    return (distances * same).sum() / ((distances * (1 - same)).sum() + 2 * EPS)


def by_classes(vectors: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 over class means, for batches whose pairs do not fit."""
    samples, classes = len(vectors), int(labels.max()) + 1
    counts = torch.bincount(labels, minlength=classes).to(vectors)
    sums = vectors.new_zeros(classes, WIDTH).index_add(0, labels, vectors)
    means = sums / counts.clamp(min=1)[:, None]
    distances = (vectors - means[labels]).square().sum(1)
    scatter = vectors.new_zeros(classes).index_add(0, labels, distances)
    between = (means - vectors.mean(0)).square().sum(1)
    inter = ((samples - counts) * scatter).sum() + samples * (counts * between).sum()
    return (counts * scatter).sum() / (inter + EPS)


def with_gradient(loss: Loss, vectors: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """A loss's value, and its gradient in double precision."""
    leaf = vectors.detach().requires_grad_()
    value = loss(leaf, labels)
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient.double()


def errors(case: Case, make: Callable[[int, str], Tensor]) -> dict[str, float]:
    """Relative errors of value and gradient against double precision.

    The reference takes the mean off first, which changes neither, so that it loses nothing itself.
    """
    vectors, labels = make(case.samples, case.device), make_labels(case)
    centred = vectors.double()
    centred -= centred.mean(0)
    form = by_pairs if case.samples <= PAIRS_UP_TO else by_classes
    value, gradient = with_gradient(form, centred, labels)
    del centred
    loss = RIVALS[case.name].make(case.classes)
    found_value, found_gradient = with_gradient(loss, vectors, labels)
    return {
        "value": abs(found_value - value) / abs(value),
        "gradient": float((found_gradient - gradient).norm() / gradient.norm()),
    }


def all_errors(case: Case) -> dict[str, dict[str, float]]:
    """Errors on both kinds of vectors, of what computes the same number and has a reference."""
    rival = RIVALS.get(case.name)
    large = case.samples > PAIRS_UP_TO
    if rival is None or not rival.same_number or (large and case.name not in (OURS, COMPILED)):
        return {}
    return {"ordinary": errors(case, ordinary), "nearly equal": errors(case, nearly_equal)}


# --- one size of batch, and all


def competitors(samples: int, compiling: bool) -> list[str]:
    """Who takes part at a size."""
    names = [name for name in RIVALS if name != COMPILED]
    if compiling and samples <= COMPILED_UP_TO:
        names.append(COMPILED)
    return [*names, FLOOR, FRESH_FLOOR] if samples >= LARGE else names


def input_bytes(case: Case) -> float:
    """The vectors' bytes, and those of rows of labels."""
    return 4.0 * case.samples * (WIDTH + (case.classes if case.name == SOFT else 0))


def result(case: Case, first: First, seconds: list[float], ours: list[float]) -> dict[str, Any]:
    """All that was found out about a competitor."""
    ratios = [a / b for a, b in zip(seconds, ours, strict=False)]
    extra = first.extra_bytes
    return {
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "ratios_to_ours": ratios,
        "median_ratio_to_ours": statistics.median(ratios),
        "first_call_seconds": first.seconds,
        "only_first_call": seconds == [first.seconds],
        "extra_bytes": extra,
        "extra_per_input": None if extra is None else extra / input_bytes(case),
        "errors": all_errors(case),
    }


def line(case: Case, found: dict[str, Any]) -> str:
    """What is printed of a competitor."""
    head = f"N {case.samples:>7,}  K {case.classes:>5,}  {case.name:19}"
    if "skipped" in found:
        return f"{head}  not run: {found['skipped']}"
    text = f"{head} {1000 * found['median_seconds']:>10.3f} ms"
    text += f" {found['median_ratio_to_ours']:>9.3f} of ours"
    text += " (one call)" if found["only_first_call"] else ""
    if found["extra_per_input"] is not None:
        text += f"   extra memory {found['extra_per_input']:.2f} inputs"
    for kind, error in found["errors"].items():
        text += f"   {kind}: value {error['value']:.1e} gradient {error['gradient']:.1e}"
    return text


def measure(samples: int, classes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every competitor on one size of batch."""
    found: dict[str, Any] = {}
    firsts: dict[str, First] = {}
    timings: dict[str, Timing] = {}
    cases = {
        name: Case(name, samples, classes, arguments.device, arguments.cold and samples >= LARGE)
        for name in competitors(samples, arguments.compile)
    }
    for name, case in cases.items():
        reason = why_not(case, arguments.gigabytes)
        first = None if reason else first_call(case._replace(cold=False))
        if first is None:
            found[name] = {"skipped": reason or "memory ran out"}
            continue
        firsts[name] = first
        timings[name] = plan(case, first, arguments.repetitions, arguments.seconds)
    take_turns(timings, arguments.repetitions, arguments.device)
    ours = timings[OURS].seconds
    seconds = {name: timing.seconds for name, timing in timings.items()}
    timings.clear()  # lets go of the inputs, which the errors make again
    for name, case in cases.items():
        if name in firsts:
            found[name] = result(case, firsts[name], seconds[name], ours)
        print(line(case, found[name]), flush=True)
    return {"samples": samples, "classes": classes, "competitors": found}


def median_of_quotients(case: dict[str, Any], over: str, under: str) -> float | None:
    """Median of the ratios within repetitions."""
    times = [case["competitors"].get(name, {}).get("seconds", []) for name in (over, under)]
    ratios = [float(a / b) for a, b in zip(*times, strict=False)]
    return statistics.median(ratios) if ratios else None


def growth(cases: list[dict[str, Any]], classes: int) -> float | None:
    """Log-log slope of ours over the large batches, by least squares on the medians."""
    points = [
        (math.log(case["samples"]), math.log(case["competitors"][OURS]["median_seconds"]))
        for case in cases
        if case["classes"] == classes and case["samples"] >= LARGE
    ]
    if len(points) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers that are quoted, by K and N."""
    quotients = {
        "paper / ours": ("paper", OURS),
        "cdist / ours": ("cdist", OURS),
        "ours / floor": (OURS, FLOOR),
        "ours / floor, fresh memory": (OURS, FRESH_FLOOR),
    }
    quoted: dict[str, Any] = {title: {} for title in quotients}
    for case in cases:
        for title, (over, under) in quotients.items():
            ratio = median_of_quotients(case, over, under)
            if ratio is not None:
                quoted[title][f"K {case['classes']}, N {case['samples']}"] = ratio
    slopes = {f"K {k}": growth(cases, k) for k in sorted({case["classes"] for case in cases})}
    return {**quoted, f"log-log slope of ours from N {LARGE}": slopes}


def main() -> None:
    """Measures every size, prints a line a competitor, keeps the raw times after every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="for a competitor's repetitions at one size"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=6.0, help="what would need more memory is not run"
    )
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--compile", action="store_true", help="also ours under torch.compile")
    parser.add_argument(
        "--cold", action="store_true", help=f"from N = {LARGE}, inputs that no cache holds"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    cases: list[dict[str, Any]] = []
    for samples in arguments.samples:
        for classes in arguments.classes:
            cases.append(measure(samples, classes, arguments))
            content = {
                "width": WIDTH,
                "cold": arguments.cold,
                "memory_limit_gigabytes": arguments.gigabytes,
                "threads": torch.get_num_threads(),
                "provenance": provenance(arguments.device),
                "run_seconds": time.perf_counter() - started,
                "summary": summary(cases),
                "cases": cases,
            }
            arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["summary"], indent=1))


if __name__ == "__main__":
    main()
