"""A GPU's kernels: on one where there is one, else in Triton's interpreter, against the loop."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from ccloss import passes
from ccloss.functional import FEW, _gradient_again, channel_correlation, class_distances
from launches import Launches

kernels = pytest.importorskip("ccloss.kernels", reason="no Triton here")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-6


def drawn(samples: int, width: int, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples * width + classes)
    vectors = torch.rand(samples, width, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(classes, (samples,), generator=generator)
    return vectors.to(DEVICE), labels.to(DEVICE)


def expected_terms(vectors: Tensor, labels: Tensor, mean: bool) -> tuple[Tensor, ...]:
    """(intra, inter, ratio) of the paper's double loop over pairs, in float64 on the CPU."""
    distances = reference.class_distances(vectors, labels.cpu())
    if mean:
        pairs = reference.pair_counts(labels.cpu())
        distances = tuple(each / (count or 1) for each, count in zip(distances, pairs, strict=True))
    intra, inter = distances
    return intra, inter, intra / (inter + EPS)


@given(
    samples=st.integers(1, 40),
    width=st.integers(1, 80),
    classes=st.integers(1, 12),
    mean=st.booleans(),
    used=st.sets(st.integers(0, 2), min_size=1),
)
@example(samples=1, width=1, classes=1, mean=True, used={2})
@example(samples=16, width=64, classes=3, mean=False, used={2})  # one block, whole
@example(samples=17, width=65, classes=3, mean=False, used={2})  # and one beyond it
@example(samples=32, width=512, classes=100, mean=False, used={2})
@example(samples=FEW, width=33, classes=1, mean=True, used={0, 1, 2})
@settings(max_examples=25, deadline=None)
def test_terms_and_gradients_are_the_loops(
    samples: int, width: int, classes: int, mean: bool, used: set[int]
) -> None:
    vectors, labels = drawn(samples, width, classes, torch.float64)
    slow = vectors.cpu().requires_grad_()
    expected = expected_terms(slow, labels, mean)
    terms = kernels.correlation_terms(vectors, labels, EPS, mean)
    for term, like in zip(terms, expected, strict=True):
        torch.testing.assert_close(term.cpu(), like.detach(), rtol=1e-9, atol=1e-12)

    shares = [torch.tensor(0.5 + each, dtype=torch.float64, device=DEVICE) for each in range(3)]
    grads = [share if each in used else None for each, share in enumerate(shares)]
    gradient = kernels.correlation_gradient(vectors, labels, terms[1], terms[2], *grads, EPS, mean)
    total = sum(expected[each] * shares[each].cpu() for each in used)
    (like,) = torch.autograd.grad(total, slow)
    torch.testing.assert_close(gradient.cpu(), like, rtol=1e-8, atol=1e-9 * float(like.abs().max()))


@pytest.mark.parametrize("samples", [2, 16, 33, 64])
@pytest.mark.parametrize("noise", [1.0, 1e-4])
def test_single_precision_loses_nothing_that_it_need_not(samples: int, noise: float) -> None:
    """Also where vectors hardly differ, within a class or all of them."""
    vectors, labels = drawn(samples, 96, 5, torch.float32)
    for place in (torch.full((5, 96), 0.5), torch.rand(5, 96, generator=torch.manual_seed(0))):
        close = place.to(DEVICE)[labels] + noise * vectors
        slow = close.double().cpu().requires_grad_()
        expected = expected_terms(slow, labels, False)
        terms = kernels.correlation_terms(close, labels, EPS, False)
        for term, like in zip(terms, expected, strict=True):
            torch.testing.assert_close(term.cpu().double(), like.detach(), rtol=2e-6, atol=0)
        one = torch.ones((), device=DEVICE)
        gradient = kernels.correlation_gradient(
            close, labels, terms[1], terms[2], None, None, one, EPS, False
        )
        (like,) = torch.autograd.grad(expected[2], slow)
        error = (gradient.cpu().double() - like).norm() / (like.norm() or 1)
        assert error < 1e-5


def test_vectors_and_labels_may_lie_anywhere() -> None:
    """As a column of something else, or transposed, without a copy."""
    vectors, labels = drawn(12, 20, 4, torch.float32)
    apart = torch.stack([vectors, vectors + 1], 2)[..., 0]
    turned = vectors.T.contiguous().T
    spread = torch.stack([labels, labels + 1], 1)[:, 0]
    expected = kernels.correlation_terms(vectors, labels, EPS, False)
    for given_vectors in (apart, turned):
        terms = kernels.correlation_terms(given_vectors, spread, EPS, False)
        assert all(torch.equal(*pair) for pair in zip(terms, expected, strict=True))
        one = torch.ones((), device=DEVICE)
        gradients = [
            kernels.correlation_gradient(*given, *terms[1:], None, None, one, EPS, False)
            for given in ((given_vectors, spread), (vectors, labels))
        ]
        assert torch.equal(*gradients)
        assert all(gradient.is_contiguous() for gradient in gradients)


def test_the_second_derivative_is_taken_by_operations() -> None:
    vectors, labels = drawn(6, 3, 2, torch.float64)
    vectors.requires_grad_()
    terms = kernels.correlation_terms(vectors.detach(), labels, EPS, True)
    grads = (None, torch.tensor(0.5).to(vectors), torch.tensor(2.0).to(vectors))
    again = _gradient_again(vectors, labels, EPS, "mean", grads)
    once = kernels.correlation_gradient(
        vectors.detach(), labels, terms[1], terms[2], *grads, EPS, True
    )
    torch.testing.assert_close(again.detach(), once)
    assert again.requires_grad


@pytest.mark.skipif(DEVICE == "cuda", reason="counted by the profiler there")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_small_batch_takes_a_kernel_each_way(reduction: str, fused: None) -> None:
    vectors, labels = drawn(32, 512, 100, torch.float32)
    vectors.requires_grad_()
    with Launches() as launches:
        channel_correlation(vectors, labels, reduction=reduction).backward()
    assert [name for name in launches.names if "ccloss" not in name] == [
        *("aten.aminmax", "aten._local_scalar_dense", "aten._local_scalar_dense"),  # CPU: a check
        "aten.ones_like",  # backward() begins with it
    ]
    assert launches.names.count("ccloss.correlation_terms") == 1
    assert launches.names.count("ccloss.correlation_gradient") == 1


@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
def test_a_small_batch_takes_at_most_eight_kernels_on_a_gpu() -> None:
    vectors, labels = drawn(32, 512, 100, torch.float32)
    vectors.requires_grad_()
    channel_correlation(vectors, labels).backward()  # compiles
    activity = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[activity]) as profile:
        channel_correlation(vectors, labels).backward()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType.CUDA
    assert 2 <= sum(event.device_type == kinds for event in profile.events()) <= 8


@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_functions_take_the_kernels_on_a_gpu(reduction: str) -> None:
    vectors, labels = drawn(32, 70, 5, torch.float32)
    found = []
    for place in ("cpu", "cuda"):
        leaf = vectors.detach().to(place).requires_grad_()
        ratio = channel_correlation(leaf, labels.to(place), EPS, reduction)
        intra, inter = class_distances(leaf, labels.to(place), reduction)
        (gradient,) = torch.autograd.grad(ratio + intra / inter.detach(), leaf)
        found.append([each.detach().cpu() for each in (ratio, intra, inter, gradient)])
    torch.testing.assert_close(found[1], found[0])


@given(
    samples=st.integers(1, 70),
    width=st.integers(1, 140),
    classes=st.integers(1, 9),
    one=st.booleans(),
)
@example(samples=32, width=32, classes=3, one=False)  # blocks that are whole
@example(samples=65, width=129, classes=1, one=True)  # and one more
@settings(max_examples=15, deadline=None)
def test_passes_by_kernels_are_those_by_operations(
    samples: int, width: int, classes: int, one: bool
) -> None:
    """Which test_passes.py compares with loops; most of a batch may be of one class."""
    vectors, index = drawn(samples, width, classes, torch.float64)
    index = torch.where(torch.arange(samples, device=DEVICE) % 7 > 0, 0, index) if one else index
    generator = torch.Generator().manual_seed(1)
    tables = torch.rand(2, classes, width, generator=generator, dtype=torch.float64).to(DEVICE)
    pull = torch.rand(classes, generator=generator, dtype=torch.float64).to(DEVICE)
    calls = {
        "class_sums": (vectors, index, vectors[0], classes),
        "square_distances": (vectors, index, tables[0]),
        "pull_and_push": (vectors, index, tables[0], pull, tables[1]),
    }
    for name, arguments in calls.items():
        with torch.enable_grad():  # one expression of torch
            expected = getattr(passes, name)(*arguments)
        torch.testing.assert_close(getattr(kernels, name)(*arguments), expected)


def test_passes_take_vectors_and_classes_that_lie_anywhere() -> None:
    vectors, index = drawn(40, 24, 5, torch.float32)
    turned, spread = vectors.T.contiguous().T, torch.stack([index, index], 1)[:, 0]
    pull, tables = vectors[:5, 0], vectors[:10].reshape(2, 5, 24)
    for name, others in {
        "class_sums": (vectors[0], 5),
        "square_distances": (tables[0],),
        "pull_and_push": (tables[0], pull, tables[1]),
    }.items():
        kernel = getattr(kernels, name)
        torch.testing.assert_close(kernel(turned, spread, *others), kernel(vectors, index, *others))


COMPILES = """
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from ccloss import kernels


class Absent(DriverBase):
    '''A GPU that can be compiled for, and is not here.'''

    @classmethod
    def is_active(cls):
        return True

    def __init__(self):
        pass

    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def get_active_torch_device(self):
        raise NotImplementedError

    get_benchmarker = map_python_to_cpp_type = get_active_torch_device


driver.set_active(Absent())
made = {}
for name in vars(kernels):
    kernel = getattr(kernels, name)
    if hasattr(kernel, "warmup"):

        def compiles(*arguments, name=name, run=kernel.run, **options):
            made.setdefault(name, []).append(run(*arguments, **options | {"warmup": True}))

        kernel.run = compiles

sizes = (1, 17, 31, 32, 64)
for dtype in (torch.float32, torch.bfloat16, torch.float64):
    scalar = torch.ones((), dtype=torch.promote_types(dtype, torch.float32))
    for size in sizes:
        vectors, labels = torch.zeros(size, 48, dtype=dtype), torch.zeros(size, dtype=torch.long)
        _, inter, ratio = kernels.correlation_terms(vectors, labels, 1e-6, True)
        for grads in ((None, None, scalar), (scalar, scalar, scalar)):
            kernels.correlation_gradient(vectors, labels, inter, ratio, *grads, 1e-6, True)
for dtype in (torch.float32, torch.float64):
    for size in (65, 1000):
        vectors, index = torch.zeros(size, 512, dtype=dtype), torch.zeros(size, dtype=torch.long)
        kernels.class_sums(vectors, index, vectors[0], 5)
        kernels.square_distances(vectors, index, vectors[:5])
        kernels.pull_and_push(vectors, index, vectors[:5], vectors[:5, 0], vectors[:5])

for name, all_of in made.items():
    assert all(each.asm["cubin"] for each in all_of), name
    assert max(each.metadata.shared for each in all_of) <= 48 * 1024, name
# One for each number of rows that a product of matrices may have (16, 32, 64), not for each size.
print(sorted((name, len({each.hash for each in all_of})) for name, all_of in made.items()))
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    """The compiler is a part of Triton. What they share fits any NVIDIA GPU."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILES, str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == [
        ("_backward", 3 * 3 * 2),  # by type, by rows, by the gradients that there are
        ("_class_sums", 2),
        ("_forward", 3 * 3),
        ("_pull_and_push", 2),
        ("_square_distances", 2),
    ]
