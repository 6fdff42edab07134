"""The closed form equals the paper's double loop in value, gradient and every transformation."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import reference
from ccloss import functional, tensor_checks
from ccloss.errors import InputError
from ccloss.functional import (
    channel_correlation,
    class_distances,
    class_overlap,
    correlation_terms,
)
from ccloss.tensor_checks import IGNORE_INDEX
from versions import TORCH

EPS = 1e-6
REDUCTIONS = ("sum", "mean")
KINDS = ("hard", "one-hot", "mixup", "smoothed", "dense")
SPREADS = {"wide": None, "1e-3": 1e-3, "1e-4": 1e-4, "1e-5": 1e-5}
"""Spread within a class over the distance of class centres; None: no class structure."""

properties = settings(max_examples=60, deadline=None, derandomize=True)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_vectors(samples: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(samples, width, generator=generator(seed), dtype=dtype)


def make_labels(kind: str, samples: int, classes: int, seed: int) -> Tensor:
    gen = generator(seed + 1000)
    hard = torch.randint(classes, (samples,), generator=gen)
    if kind == "hard":
        return hard
    rows = one_hot(hard, classes).double()
    if kind == "mixup":
        share = torch.rand(samples, 1, generator=gen, dtype=torch.float64)
        rows = share * rows + (1 - share) * rows[torch.randperm(samples, generator=gen)]
    if kind == "smoothed":
        rows = 0.9 * rows + 0.1 / classes
    if kind == "dense":
        rows = torch.rand(samples, classes, generator=gen, dtype=torch.float64)
        rows = rows / rows.sum(1, keepdim=True)
    return rows


def rows_of(labels: Tensor, classes: int) -> Tensor:
    return one_hot(labels, classes).double() if labels.ndim == 1 else labels.double()


class Batch(NamedTuple):
    vectors: Tensor
    labels: Tensor
    rows: Tensor


def make_batch(seed: int, samples: int, width: int, classes: int, kind: str, spread: str) -> Batch:
    """A batch with labels of a kind and vectors of a spread; "equal" is 0.5 + 1e-4 noise."""
    gen = generator(seed)
    hard = make_labels("hard", samples, classes, seed)
    if spread == "equal":
        vectors = 0.5 + 1e-4 * torch.randn(samples, width, generator=gen)
    elif SPREADS[spread] is None:
        vectors = torch.rand(samples, width, generator=gen)
    else:
        centres = torch.rand(classes, width, generator=gen)
        vectors = centres[hard] + SPREADS[spread] * torch.randn(samples, width, generator=gen)
    labels = make_labels(kind, samples, classes, seed)
    return Batch(vectors, labels, rows_of(labels, classes))


batches = st.builds(
    make_batch,
    st.integers(0, 2**20),
    st.sampled_from([2, 3, 5, 8, 17, 32, 64, 129]),
    st.sampled_from([1, 2, 7, 64, 512]),
    st.sampled_from([1, 2, 3, 10, 100, 1000]),
    st.sampled_from(KINDS),
    st.sampled_from([*SPREADS, "equal"]),
)


def gradient(scalar: Tensor, vectors: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(scalar, vectors, retain_graph=True)
    return grad.double()


def check_against_loop(
    batch: Batch, reduction: str, tolerance: float = 1e-6, autocast: torch.dtype | None = None
) -> None:
    """Value to 1e-6 and gradient to 1e-5, both relative.

    The gradient of the ratio is (d intra - ratio d inter) / inter. Its error is relative to the
    first of the two parts, because they nearly cancel where soft labels are close to uniform.
    """
    vectors, labels, rows = batch
    slow = vectors.double().requires_grad_()
    fast = vectors.clone().requires_grad_()
    intra, inter = reference.class_distances_by_rows(slow, rows)
    if reduction == "mean":
        alike = rows @ rows.T
        same = float(alike.triu(1).sum())
        other = len(rows) * (len(rows) - 1) / 2 - same
        intra = intra / same if same > 1e-9 else intra
        inter = inter / other if other > 1e-9 else inter
    expected = intra / (inter + EPS)
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        got = channel_correlation(fast, labels, EPS, reduction)  # type: ignore[arg-type]
    scale = float(gradient(intra, slow).norm() / (inter.detach() + EPS))
    error = float((gradient(got, fast) - gradient(expected, slow)).norm())
    truth = float(expected.detach())
    assert abs(float(got.detach()) - truth) <= tolerance * abs(truth)
    assert error <= 10 * tolerance * scale


def only_general_form(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(functional, "_takes_cpu_form", lambda batch: False)


@pytest.fixture(params=["cpu", "general"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the terms."""
    if request.param == "general":
        only_general_form(monkeypatch)
    return str(request.param)


# --- accuracy -------------------------------------------------------------------------------------


@properties
@given(batches, st.sampled_from(REDUCTIONS), st.booleans())
@example(make_batch(0, 512, 512, 1000, "hard", "1e-5"), "sum", True)
@example(make_batch(1, 512, 64, 10, "mixup", "1e-4"), "mean", True)
@example(make_batch(144782, 129, 2, 1, "one-hot", "1e-5"), "sum", True)
@example(make_batch(2, 512, 16, 1000, "one-hot", "1e-5"), "sum", True)
def test_value_and_gradient_are_those_of_the_loop(
    batch: Batch, reduction: str, cpu_form: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not cpu_form:
            only_general_form(patch)
        check_against_loop(batch, reduction)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_autocast_changes_nothing(kind: str, dtype: torch.dtype) -> None:
    batch = make_batch(0, 48, 64, 5, kind, "1e-4")
    check_against_loop(batch, "sum", autocast=dtype)
    with torch.autocast("cpu", dtype=dtype):
        inside = channel_correlation(batch.vectors, batch.labels)
    assert torch.equal(inside, channel_correlation(batch.vectors, batch.labels))


def test_both_loops_agree() -> None:
    vectors, rows = make_vectors(9, 5, 0), make_labels("mixup", 9, 4, 0)
    torch.testing.assert_close(
        reference.class_distances_by_rows(vectors, rows), reference.class_distances(vectors, rows)
    )


def test_the_form_of_the_paper_loses_vectors_that_differ_little() -> None:
    batch = make_batch(0, 32, 64, 5, "hard", "equal")
    intra, inter = reference.paper_form(batch.vectors, batch.labels)
    expected = reference.channel_correlation(batch.vectors, batch.labels)
    assert abs(intra / (inter + EPS) - expected) > 0.01 * expected
    torch.testing.assert_close(
        reference.paper_form(batch.vectors.double(), batch.labels),
        reference.class_distances(batch.vectors, batch.labels),
    )


@pytest.mark.parametrize("kind", ["hard", "mixup"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_vectors_are_computed_in_float32(kind: str, dtype: torch.dtype) -> None:
    labels = make_labels(kind, 24, 4, 0)
    half = make_vectors(24, 32, 0).to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    got, expected = channel_correlation(half, labels), channel_correlation(full, labels)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
    assert torch.equal(
        torch.autograd.grad(got, half)[0], torch.autograd.grad(expected, full)[0].to(dtype)
    )


@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_float64_stays_float64(kind: str) -> None:
    vectors, labels = make_vectors(12, 8, 0, torch.float64), make_labels(kind, 12, 4, 0)
    torch.testing.assert_close(
        channel_correlation(vectors, labels),
        reference.channel_correlation(vectors, labels),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32]
)
def test_integer_labels_of_any_width(dtype: torch.dtype) -> None:
    vectors, labels = make_vectors(12, 8, 0), make_labels("hard", 12, 4, 0)
    assert channel_correlation(vectors, labels.to(dtype)) == channel_correlation(vectors, labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_in_half_precision_are_normalised(dtype: torch.dtype) -> None:
    vectors, rough = make_vectors(12, 8, 0), make_labels("mixup", 12, 5, 0).to(dtype)
    exact = rough.double() / rough.double().sum(1, keepdim=True)
    expected = reference.channel_correlation(vectors, exact)
    torch.testing.assert_close(channel_correlation(vectors, rough).double(), expected)


# --- degenerate batches ---------------------------------------------------------------------------

DEGENERATE = {
    "one sample": (make_vectors(1, 4, 0), torch.tensor([2])),
    "one class": (make_vectors(6, 4, 1), torch.full((6,), 3)),
    "singletons": (make_vectors(6, 4, 2), torch.arange(6)),
    "identical vectors": (make_vectors(1, 4, 3).expand(6, 4), torch.arange(6) % 2),
    "identical within classes": (make_vectors(2, 4, 3).repeat(3, 1), torch.arange(6) % 2),
    "empty classes": (make_vectors(6, 4, 4), torch.tensor([0, 7, 0, 7, 2, 2])),
    "more classes than samples": (make_vectors(4, 4, 5), torch.tensor([900, 17, 900, 3])),
    "one channel": (make_vectors(6, 1, 6), torch.arange(6) % 3),
    "zeros": (torch.zeros(4, 3), torch.arange(4) % 2),
}


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "one-hot"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_batches_are_finite_and_equal_the_loop(name: str, soft: bool) -> None:
    vectors, hard = DEGENERATE[name]
    rows = one_hot(hard, 1000).double()
    labels = rows if soft else hard
    for function, expected_function in (
        (channel_correlation, reference.channel_correlation),
        (lambda *a: channel_correlation(*a, reduction="mean"), _mean_reference),
        (class_overlap, lambda v, _: reference.class_overlap(v, rows[:, hard.unique()])),
    ):
        slow = vectors.double().detach().requires_grad_()
        fast = vectors.detach().clone().requires_grad_()
        expected, got = expected_function(slow, rows), function(fast, labels)
        expected_grad, grad = gradient(expected, slow), gradient(got, fast)
        torch.testing.assert_close(got.double(), expected, rtol=2e-6, atol=1e-9)
        # A batch of one class divides by eps alone, so its gradient is large.
        atol = 1e-6 * float(expected_grad.abs().max()) + 1e-6
        torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=atol)


def _mean_reference(vectors: Tensor, labels: Tensor) -> Tensor:
    return reference.channel_correlation(vectors, labels, reduction="mean")


def test_a_batch_without_same_class_pairs_has_no_gradient() -> None:
    vectors = make_vectors(5, 4, 0).requires_grad_()
    ratio = channel_correlation(vectors, torch.arange(5))
    assert ratio == 0
    assert not gradient(ratio, vectors).any()


def test_a_batch_of_one_class_is_divided_by_eps() -> None:
    vectors, labels = make_vectors(5, 4, 0), torch.zeros(5, dtype=torch.long)
    intra, inter = class_distances(vectors, labels)
    assert inter == 0
    torch.testing.assert_close(channel_correlation(vectors, labels, eps=0.5), intra / 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_propagate(value: float) -> None:
    vectors = make_vectors(6, 4, 0)
    vectors[2, 1] = value
    assert not torch.isfinite(channel_correlation(vectors, torch.arange(6) % 2))


# --- ignored samples ------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [None, 3, 50])
@pytest.mark.parametrize("readable", [True, False], ids=["values read", "values not read"])
def test_ignored_samples_are_left_out(
    num_classes: int | None, readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (functional, tensor_checks):
        monkeypatch.setattr(module, "is_readable", lambda labels: readable)
    vectors, labels = make_vectors(12, 8, 0, torch.float64), torch.arange(12) % 3
    labels[[0, 5, 6]] = IGNORE_INDEX
    kept = labels != IGNORE_INDEX
    leaf = vectors.clone().requires_grad_()
    for reduction in REDUCTIONS:
        got = correlation_terms(leaf, labels, EPS, reduction, num_classes=num_classes)
        expected = correlation_terms(vectors[kept], labels[kept], EPS, reduction)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
        assert not gradient(got.ratio, leaf)[~kept].any()


@pytest.mark.parametrize("readable", [True, False], ids=["values read", "values not read"])
def test_a_batch_of_ignored_samples_is_zero(
    readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (functional, tensor_checks):
        monkeypatch.setattr(module, "is_readable", lambda labels: readable)
    vectors = make_vectors(4, 3, 0).requires_grad_()
    ratio = channel_correlation(vectors, torch.full((4,), IGNORE_INDEX), num_classes=2)
    assert ratio == 0
    assert not gradient(ratio, vectors).any()


# --- derivatives and transformations --------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ratio": lambda v, y: channel_correlation(v, y, 1e-3, "sum"),
    "mean": lambda v, y: channel_correlation(v, y, 1e-3, "mean"),
    "overlap": lambda v, y: class_overlap(v, y, 1e-3),
}


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("kind", ["hard", "mixup"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_and_second_derivatives(name: str, kind: str) -> None:
    labels = make_labels(kind, 7, 3, 0)
    vectors = make_vectors(7, 4, 0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: FUNCTIONS[name](v, labels), vectors)
    assert torch.autograd.gradgradcheck(lambda v: FUNCTIONS[name](v, labels), vectors)


@pytest.mark.usefixtures("form")
def test_second_derivative_of_a_singleton() -> None:
    # The residual of a singleton is exactly 0, where the length of a vector has no derivative.
    vectors, labels = make_vectors(4, 3, 0, torch.float64), torch.tensor([0, 1, 1, 2])
    got = torch.autograd.functional.hessian(lambda v: FUNCTIONS["ratio"](v, labels), vectors)
    slow = torch.autograd.functional.hessian(
        lambda v: reference.channel_correlation(v, labels, 1e-3), vectors
    )
    torch.testing.assert_close(got, slow)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # from jvp
@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_func_transformations(kind: str) -> None:
    vectors = torch.stack([make_vectors(10, 4, seed, torch.float64) for seed in range(3)])
    labels = torch.stack([make_labels(kind, 10, 3, seed) for seed in range(3)])
    tangent = make_vectors(10, 4, 9, torch.float64)
    each, grads = [], []
    for v, y in zip(vectors, labels, strict=True):
        leaf = v.clone().requires_grad_()
        each.append(FUNCTIONS["ratio"](leaf, y))
        grads.append(gradient(each[-1], leaf))
        torch.testing.assert_close(torch.func.grad(FUNCTIONS["ratio"])(v, y), grads[-1])
    torch.testing.assert_close(torch.vmap(FUNCTIONS["ratio"])(vectors, labels), torch.stack(each))
    torch.testing.assert_close(
        torch.vmap(torch.func.grad(FUNCTIONS["ratio"]))(vectors, labels), torch.stack(grads)
    )
    _, directional = torch.func.jvp(
        lambda v: FUNCTIONS["ratio"](v, labels[0]), (vectors[0],), (tangent,)
    )
    torch.testing.assert_close(directional, (grads[0] * tangent).sum())


@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_compiles_without_graph_breaks(kind: str) -> None:
    torch._dynamo.reset()
    labels = make_labels(kind, 12, 4, 0)
    plain = make_vectors(12, 8, 0).requires_grad_()
    traced = plain.detach().clone().requires_grad_()
    expected = channel_correlation(plain, labels, num_classes=4)
    got = torch.compile(channel_correlation, fullgraph=True)(traced, labels, num_classes=4)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    truth = gradient(expected, plain)
    assert (gradient(got, traced) - truth).norm() <= 1e-6 * truth.norm()


@pytest.mark.skipif(TORCH < (2, 5), reason="PyTorch 2.4 cannot export autocast contexts")
@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_exports(kind: str) -> None:
    class Module(torch.nn.Module):
        def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
            return channel_correlation(vectors, labels)

    vectors, labels = make_vectors(12, 8, 0), make_labels(kind, 12, 4, 0)
    exported = torch.export.export(Module(), (vectors, labels)).module()
    other = make_vectors(12, 8, 1)
    torch.testing.assert_close(exported(other, labels), channel_correlation(other, labels))


@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_does_not_wait_for_the_device(kind: str) -> None:
    # Meta tensors have no values: an operation that reads one on the host fails.
    labels = make_labels(kind, 12, 4, 0).to("meta")
    vectors = make_vectors(12, 8, 0).to("meta").requires_grad_()
    channel_correlation(vectors, labels, reduction="mean").backward()
    assert vectors.grad is not None
    assert vectors.grad.shape == (12, 8)


def test_labels_have_no_gradient() -> None:
    rows = make_labels("mixup", 6, 3, 0).requires_grad_()
    vectors = make_vectors(6, 4, 0).requires_grad_()
    channel_correlation(vectors, rows).backward()
    assert rows.grad is None


# --- identities -----------------------------------------------------------------------------------

small_batches = st.builds(
    make_batch,
    st.integers(0, 2**20),
    st.integers(2, 12),
    st.integers(1, 6),
    st.integers(2, 5),
    st.sampled_from(KINDS),
    st.just("wide"),
).map(lambda batch: batch._replace(vectors=batch.vectors.double()))


@properties
@given(
    small_batches,
    st.floats(-10, 10, allow_subnormal=False),
    st.floats(0.1, 10),
    st.integers(0, 100),
)
def test_invariances(batch: Batch, step: float, scale: float, seed: int) -> None:
    """Translation, order of samples, order of classes; distances scale with the square."""
    vectors, labels, rows = batch
    expected = class_distances(vectors, labels)
    order = torch.randperm(len(labels), generator=generator(seed))
    names = torch.randperm(rows.shape[1], generator=generator(seed))
    renamed = names[labels] if labels.ndim == 1 else labels[:, names]
    for moved, given_labels, factor in (
        (vectors + step, labels, 1.0),
        (vectors[order], labels[order], 1.0),
        (vectors, renamed, 1.0),
        (scale * vectors, labels, scale**2),
        (vectors.repeat(2, 1), torch.cat([labels, labels]), 4.0),
    ):
        if factor == 4.0 and labels.ndim == 2:
            continue  # a soft sample and its copy are a same-class pair only in part
        got = class_distances(moved, given_labels)
        torch.testing.assert_close(
            torch.stack(got), factor * torch.stack(expected), rtol=1e-9, atol=1e-12
        )


@properties
@given(small_batches)
def test_both_kinds_of_pairs_are_all_pairs(batch: Batch) -> None:
    intra, inter = class_distances(batch.vectors, batch.labels)
    centred = batch.vectors - batch.vectors.mean(0)
    total = len(centred) * centred.square().sum()
    torch.testing.assert_close(intra + inter, total, rtol=1e-9, atol=1e-12)


def test_soft_labels_without_a_common_class_have_no_pair() -> None:
    # 0.3 has no exact square in float32: the number of pairs must not become its rounding error.
    vectors = make_vectors(2, 512, 0).requires_grad_()
    rows = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.7, 0.3]])
    intra, inter, ratio = correlation_terms(vectors, rows, reduction="mean")
    assert intra == ratio == 0
    expected = (vectors[0] - vectors[1]).square().sum()
    torch.testing.assert_close(inter, expected)
    assert not gradient(ratio, vectors).any()


@pytest.mark.usefixtures("form")
def test_sums_over_a_large_class_are_precise() -> None:
    vectors = make_vectors(200_000, 2, 0)
    labels = torch.zeros(len(vectors), dtype=torch.long)
    exact = vectors.double()
    expected = len(vectors) * (exact - exact.mean(0)).square().sum()
    got = class_distances(vectors, labels).intra.double()
    torch.testing.assert_close(got, expected, rtol=2e-7, atol=0)


def test_overlap_does_not_need_the_number_of_classes() -> None:
    vectors, labels = make_vectors(30_000, 2, 0), torch.arange(30_000) % 3
    without = class_overlap(vectors, labels)  # N x N numbers would need 7 GB
    torch.testing.assert_close(without, class_overlap(vectors, labels, num_classes=3))


# --- overlap of classes ---------------------------------------------------------------------------


@properties
@given(small_batches)
def test_overlap_is_that_of_the_loop(batch: Batch) -> None:
    slow = batch.vectors.clone().requires_grad_()
    fast = batch.vectors.clone().requires_grad_()
    expected = reference.class_overlap(slow, batch.rows)
    got = class_overlap(fast, batch.labels)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient(got, fast), gradient(expected, slow), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("spread", ["1e-3", "1e-4", "1e-5"])
def test_overlap_of_tight_merged_classes_is_accurate(spread: str) -> None:
    """Two of five classes coincide up to their spread, where differences of squares fail."""
    batch = make_batch(0, 60, 32, 5, "hard", spread)
    vectors, labels = batch.vectors.clone(), batch.labels
    first, second = (vectors[labels == k].mean(0) for k in (0, 1))
    vectors[labels == 1] += first - second
    slow, fast = vectors.double().requires_grad_(), vectors.clone().requires_grad_()
    expected = reference.class_overlap(slow, batch.rows, 1e-15)
    got = class_overlap(fast, labels, 1e-15)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    # A part of the gradient that is common to all vectors cancels.
    scale = (gradient(expected, slow) * len(labels)).norm()
    assert (gradient(got, fast) - gradient(expected, slow)).norm() < 1e-5 * scale


def test_overlap_notices_merged_classes_where_the_ratio_does_not() -> None:
    centres = torch.eye(6, dtype=torch.float64)
    merged = centres[[0, 0, 0, 3, 3, 3]]
    labels = torch.arange(60) % 6
    noise = 0.05 * torch.randn(60, 6, generator=generator(0), dtype=torch.float64)
    apart, together = centres[labels] + noise, 3 * merged[labels] + noise
    assert channel_correlation(together, labels) < channel_correlation(apart, labels)
    assert class_overlap(together, labels) > 5 * class_overlap(apart, labels)


# --- memory ---------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("kind", ["hard", "mixup"])
def test_memory_is_linear_in_the_batch(kind: str) -> None:
    samples, width, classes = 512, 8, 5
    labels = make_labels(kind, samples, classes, 0)
    vectors = make_vectors(samples, width, 0).requires_grad_()
    with LargestTensor() as largest:
        channel_correlation(vectors, labels).backward()
    assert samples * width <= largest.numel < samples * samples / 16
    with LargestTensor() as largest:
        reference.paper_form(make_vectors(64, 4, 0), make_labels("hard", 64, 4, 0))
    assert largest.numel == 64 * 64


# --- invalid input --------------------------------------------------------------------------------

VECTORS = make_vectors(4, 3, 0)
HARD = torch.tensor([0, 1, 0, 1])
SOFT = torch.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (VECTORS[0], HARD, r"attention must be \(N, D\).*got \(3,\) float32"),
        (VECTORS.long(), HARD, r"attention must be .* floating point, got \(4, 3\) int64"),
        (VECTORS + 0j, HARD, r"attention must be .* got \(4, 3\) complex64"),
        (VECTORS.to(torch.float8_e4m3fn), HARD, "attention must be .* float8_e4m3fn"),
        (VECTORS.to_sparse(), HARD, "attention must be a dense tensor.*sparse_coo"),
        (VECTORS.tolist(), HARD, "attention must be a tensor.*got list; convert it"),
        (VECTORS, HARD.tolist(), "labels must be a tensor.*got list; convert it"),
        (VECTORS, HARD.numpy(), "labels must be a tensor.*got ndarray; convert it"),
        (VECTORS, HARD.to_sparse(), "labels must be a dense tensor"),
        (VECTORS, HARD[:3], "labels must have one entry for each sample: 3 labels, 4 samples"),
        (VECTORS, SOFT[:3], "labels must have one entry for each sample: 3 labels, 4 samples"),
        (VECTORS, HARD[:, None], r"labels must be \(N,\) integer.*got \(4, 1\) int64"),
        (VECTORS, HARD.float(), r"labels must be \(N,\) integer.*got \(4,\) float32"),
        (VECTORS, HARD.bool(), r"labels must be \(N,\) integer.*got \(4,\) bool"),
        (VECTORS, HARD + 0j, r"labels must be \(N,\) integer.*got \(4,\) complex64"),
        (VECTORS, torch.tensor([0, -1, 0, -100]), r"labels must lie in 0..K - 1 .*got -1"),
        (VECTORS, 2 * SOFT, "probabilities that sum to 1, got sums from 2 to 2"),
        (VECTORS, torch.tensor([[1.5, -0.5]] * 4), "probabilities.*values from -0.5"),
        (VECTORS, torch.full((4, 2), float("nan")), "probabilities that sum to 1"),
        (VECTORS[:0], HARD[:0], "batch is empty"),
        (VECTORS[:0], SOFT[:0], "batch is empty"),
    ],
)
def test_invalid_batches(vectors: Tensor, labels: Tensor, message: str) -> None:
    for function in (class_distances, class_overlap):
        with pytest.raises(InputError, match=message) as raised:
            function(vectors, labels)
        assert "\n" not in str(raised.value)


def test_invalid_arguments() -> None:
    for message, arguments in (
        (r"labels must lie in 0..4 .*got 5", {"labels": HARD + 4, "num_classes": 5}),
        (r"\(N, 3\) probabilities, got \(4, 2\) float32", {"labels": SOFT, "num_classes": 3}),
        ('reduction must be "sum" or "mean", got \'max\'', {"reduction": "max"}),
        ("eps must be a positive number, got 0.0", {"eps": 0.0}),
        ("eps must be a positive number, got -1.0", {"eps": -1.0}),
        ("eps must be a positive number, got nan", {"eps": float("nan")}),
        ("eps must be a positive number, got '1'", {"eps": "1"}),
        ("num_classes must be given with process_group", {"process_group": object()}),
    ):
        with pytest.raises(InputError, match=message):
            channel_correlation(**{"attention": VECTORS, "labels": HARD, **arguments})
