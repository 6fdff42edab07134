"""Cost and accuracy of the loss term: ``OMP_NUM_THREADS=2 python -m benchmarks.loss``.

Times are of a forward and a backward pass, in turns with the form of the paper's section 2.3, with
the same pairs through ``torch.cdist``, and with two losses of pytorch-metric-learning. A call that
is not timed precedes each measurement, because the losses share the allocator. Memory is the growth
of a process's peak, the gradient included. Errors are relative to pairs in float64.
"""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.measurement import interleave, write
from ccloss.functional import channel_correlation, class_overlap

WIDTH, EPS = 512, 1e-6
SIZES = tuple((samples, k) for samples in (32, 128, 512, 2048, 8192) for k in (100, 1000))
"""(N, K)."""
MEMORY_SIZES = ((2048, 100), (8192, 100), (8192, 1000))
CALL_SECONDS = 0.1
"""Shortest time that is measured; faster calls are repeated."""

Loss = Callable[[Tensor, Tensor], Tensor]


def paper(vectors: Tensor, labels: Tensor) -> Tensor:
    """Section 2.3: E + E^T - 2 G."""
    squares = vectors.square().sum(1)
    return pair_ratio(squares[:, None] + squares - 2 * vectors @ vectors.T, labels)


def cdist(vectors: Tensor, labels: Tensor) -> Tensor:
    """The same pairs through ``torch.cdist``."""
    return pair_ratio(torch.cdist(vectors, vectors).square(), labels)


def pair_ratio(distances: Tensor, labels: Tensor) -> Tensor:
    """Eq. 8 from all N x N distances, each pair twice."""
    same = labels[:, None] == labels
    return (distances * same).sum() / ((distances * ~same).sum() + 2 * EPS)


def alternatives(samples: int, classes: int) -> dict[str, Loss]:
    """The losses to compare, by name."""
    from pytorch_metric_learning import losses

    contrastive, supcon = losses.ContrastiveLoss(), losses.SupConLoss()
    generator = torch.Generator().manual_seed(1)
    partners = torch.randperm(samples, generator=generator)

    def soft(vectors: Tensor, labels: Tensor) -> Tensor:
        rows = one_hot(labels, classes).float()
        return channel_correlation(vectors, 0.7 * rows + 0.3 * rows[partners])

    return {
        "ours": lambda v, y: channel_correlation(v, y, num_classes=classes),
        "ours, soft labels": soft,
        "class overlap": lambda v, y: class_overlap(v, y, num_classes=classes),
        "paper": paper,
        "cdist": cdist,
        "pml contrastive": contrastive,
        "pml supcon": supcon,
    }


def batch(samples: int, classes: int) -> tuple[Tensor, Tensor]:
    """Attention-like vectors (N, D) and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(samples, WIDTH, generator=generator).requires_grad_()
    return vectors, torch.randint(classes, (samples,), generator=generator)


def timer(loss: Loss, vectors: Tensor, labels: Tensor) -> Callable[[], float]:
    """A function that returns the seconds of one forward and backward pass."""

    def step() -> None:
        vectors.grad = None
        loss(vectors, labels).backward()

    step()  # caches and thread pools are set up here
    started = time.perf_counter()
    step()
    calls = max(1, round(CALL_SECONDS / (time.perf_counter() - started)))

    def measure() -> float:
        step()  # memory that the alternative before has freed is taken here
        started = time.perf_counter()
        for _ in range(calls):
            step()
        return (time.perf_counter() - started) / calls

    return measure


def seconds(samples: int, classes: int) -> dict[str, list[float]]:
    """Times of each alternative. Those that need several N x N matrices end at N = 2,048."""
    vectors, labels = batch(samples, classes)
    chosen = {
        name: timer(loss, vectors, labels)
        for name, loss in alternatives(samples, classes).items()
        if samples <= 2048 or not name.startswith(("pml", "cdist"))
    }
    return interleave(chosen, {32: 51, 128: 31, 512: 21, 2048: 7, 8192: 5}[samples])


def peak_growth(name: str, samples: int, classes: int) -> float:
    """Bytes that the process's peak grows by, over the bytes of the input; in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_growth, (name, samples, classes))


def _peak_growth(name: str, samples: int, classes: int) -> float:
    loss = alternatives(samples, classes)[name]
    loss(*batch(64, classes)).backward()  # imports and pools are not part of the growth
    vectors, labels = batch(samples, classes)
    before = _reset_peak()
    loss(vectors, labels).backward()
    return (_status("VmHWM") - before) / (vectors.numel() * vectors.element_size())


def _reset_peak() -> int:
    """Lower the peak of this process (Linux) to its current size in bytes, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    """A size in bytes from the kernel's status of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def errors(loss: Loss, spread: float | None) -> dict[str, float]:
    """Relative errors of value and gradient at N = 128, K = 10.

    ``spread`` is that within a class over the distance of centres; ``None``: 0.5 + 1e-4 noise.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (128,), generator=generator)
    noise = torch.randn(128, WIDTH, generator=generator)
    centres = torch.rand(10, WIDTH, generator=generator)
    vectors = 0.5 + 1e-4 * noise if spread is None else centres[labels] + spread * noise
    exact, fast = vectors.double().requires_grad_(), vectors.requires_grad_()
    differences = exact[:, None] - exact
    expected = pair_ratio((differences * differences).sum(2), labels)
    got = loss(fast, labels)
    (truth,) = torch.autograd.grad(expected, exact)
    (gradient,) = torch.autograd.grad(got, fast)
    return {
        "value": abs(float(got.detach()) / float(expected.detach()) - 1),
        "gradient": float((gradient - truth).norm() / truth.norm()),
    }


def main() -> None:
    """Measure and store."""
    cases: list[dict[str, Any]] = []
    for samples, classes in SIZES:
        cases.append({"samples": samples, "classes": classes, "seconds": seconds(samples, classes)})
        print(samples, classes, flush=True)
    memory = [
        {
            "samples": samples,
            "classes": classes,
            "over_input": peak_growth("ours", samples, classes),
        }
        for samples, classes in MEMORY_SIZES
    ]
    implementations: dict[str, Loss] = {
        "ours": channel_correlation,
        "paper": paper,
        "cdist": cdist,
    }
    accuracy = {
        name: {
            "0.5 + 1e-4 noise" if spread is None else f"spread {spread:g}": errors(loss, spread)
            for spread in (None, 0.5, 1e-3, 1e-5)
        }
        for name, loss in implementations.items()
    }
    write("loss", width=WIDTH, cases=cases, memory=memory, accuracy=accuracy)


if __name__ == "__main__":
    main()
