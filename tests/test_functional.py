"""The closed form is the paper's double loop, in value and in gradient."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import reference
from ccloss import functional
from ccloss.errors import InputError
from ccloss.functional import channel_correlation, class_distances

EPS = 1e-6
REDUCTIONS = ("sum", "mean")
KINDS = ("hard", "one-hot", "soft")

Function = Callable[..., Tensor]


@pytest.fixture(autouse=True, scope="module", params=["few", "many", "few, GPU", "many, GPU"])
def formulas(request: pytest.FixtureRequest) -> Iterator[str]:
    """All of it by the formulas for small batches and for large ones, and by a GPU's kernels."""
    if "GPU" in request.param:
        request.getfixturevalue("fused")
    with pytest.MonkeyPatch.context() as patch:
        if "many" in request.param:
            patch.setattr(functional, "FEW", 0)
            patch.setattr(functional, "_are_few", lambda rows, width: False)
        yield request.param


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_labels(kind: str, samples: int, classes: int, seed: int) -> Tensor:
    gen = generator(seed + 1000)
    hard = torch.randint(classes, (samples,), generator=gen)
    if kind == "hard":
        return hard
    one_hot = torch.nn.functional.one_hot(hard, classes).double()
    if kind == "one-hot":
        return one_hot
    other = torch.rand(samples, classes, generator=gen, dtype=torch.float64)
    share = torch.rand(samples, 1, generator=gen, dtype=torch.float64)
    return share * one_hot + (1 - share) * other / other.sum(1, keepdim=True)


def make_vectors(samples: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(samples, width, generator=generator(seed), dtype=dtype)


def gradient(scalar: Tensor, vectors: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(scalar, vectors, retain_graph=True)
    return grad.double()


def errors(vectors: Tensor, labels: Tensor, reduction: str) -> tuple[float, float]:
    """Relative errors of the ratio and of its gradient, against the loop.

    The gradient is a difference, d intra - ratio * d inter, over inter. Its error is relative to
    the first of the two, for they nearly cancel where soft labels are close to uniform.
    """
    slow = vectors.double().detach().requires_grad_()
    fast = vectors.detach().clone().requires_grad_()
    expected = reference.channel_correlation(slow, labels, EPS, reduction)
    got = channel_correlation(fast, labels, EPS, reduction)

    intra, inter = reference.class_distances(slow, labels)
    pairs = reference.pair_counts(labels) if reduction == "mean" else (1, 1)
    pull = gradient(intra / (pairs[0] or 1), slow).norm() / (inter.detach() / (pairs[1] or 1) + EPS)
    difference = (gradient(got, fast) - gradient(expected, slow)).norm()
    truth = float(expected.detach())
    value_error = abs(float(got.detach()) - truth) / (truth or 1)
    return value_error, float(difference / (pull if pull > 0 else 1))


# --- against the loop


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_value_and_gradient_are_the_loops(seed: int, kind: str, reduction: str) -> None:
    samples, width, classes = (
        int(torch.randint(low, high, (), generator=generator(seed + 7 * low)))
        for low, high in ((2, 20), (1, 24), (2, 9))
    )
    vectors = make_vectors(samples, width, seed)
    labels = make_labels(kind, samples, classes, seed)
    value_error, gradient_error = errors(vectors, labels, reduction)
    assert value_error < 1e-6
    assert gradient_error < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", [0, 1], ids=["intra", "inter"])
def test_each_distance_and_its_gradient_are_the_loops(which: int, kind: str) -> None:
    labels = make_labels(kind, 16, 4, 5)
    slow = make_vectors(16, 8, 5, torch.float64).requires_grad_()
    fast = slow.detach().clone().requires_grad_()
    expected = reference.class_distances(slow, labels)[which]
    got = class_distances(fast, labels)[which]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        gradient(got, fast), gradient(expected, slow), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
def test_nearly_uniform_rows_keep_their_small_gradient(seed: int) -> None:
    labels = 0.25 + 1e-3 * torch.randn(12, 4, generator=generator(seed), dtype=torch.float64)
    labels /= labels.sum(1, keepdim=True)
    value_error, gradient_error = errors(make_vectors(12, 8, seed), labels, "sum")
    assert value_error < 1e-6
    assert gradient_error < 1e-6


def test_rows_that_came_in_half_precision_sum_to_one_again() -> None:
    vectors = make_vectors(12, 8, 0)
    rough = make_labels("soft", 12, 5, 0).bfloat16()
    exact = rough.double() / rough.double().sum(1, keepdim=True)
    expected = reference.channel_correlation(vectors, exact)
    torch.testing.assert_close(channel_correlation(vectors, rough).double(), expected)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_names_the_classes(dtype: torch.dtype) -> None:
    vectors, labels = make_vectors(12, 8, 0), make_labels("hard", 12, 4, 0)
    assert channel_correlation(vectors, labels.to(dtype)) == channel_correlation(vectors, labels)


def test_number_of_classes_changes_nothing_in_one_process() -> None:
    vectors, labels = make_vectors(12, 8, 0), make_labels("hard", 12, 4, 0)
    assert channel_correlation(vectors, labels, num_classes=100) == channel_correlation(
        vectors, labels
    )


# --- degenerate batches

DEGENERATE = {
    "one sample": (make_vectors(1, 4, 0), torch.tensor([2])),
    "one class": (make_vectors(6, 4, 1), torch.full((6,), 3)),
    "singletons": (make_vectors(6, 4, 2), torch.arange(6)),
    "identical vectors": (make_vectors(1, 4, 3).expand(6, 4), torch.arange(6) % 2),
    "identical within classes": (
        make_vectors(2, 4, 3).repeat(3, 1),
        torch.arange(6) % 2,
    ),
    "empty classes": (make_vectors(6, 4, 4), torch.tensor([0, 7, 0, 7, 2, 2])),
    "more classes than samples": (make_vectors(4, 4, 5), torch.tensor([900, 17, 900, 3])),
    "one channel": (make_vectors(6, 1, 6), torch.arange(6) % 3),
    "zeros": (torch.zeros(4, 3), torch.arange(4) % 2),
}
CLASSES = 1000


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "one-hot"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_batches_are_finite_and_equal_the_loop(
    name: str, soft: bool, reduction: str
) -> None:
    vectors, labels = DEGENERATE[name]
    if soft:
        labels = torch.nn.functional.one_hot(labels, CLASSES).double()
    slow = vectors.double().detach().requires_grad_()
    fast = vectors.detach().clone().requires_grad_()
    expected = reference.channel_correlation(slow, labels, EPS, reduction)
    got = channel_correlation(fast, labels, EPS, reduction)
    grad = gradient(got, fast)
    assert torch.isfinite(got)
    assert torch.isfinite(grad).all()
    # atol in units of the ratio's pull: a batch of one class divides by eps alone.
    torch.testing.assert_close(got.double(), expected, rtol=2e-6, atol=1e-9)
    expected_grad = gradient(expected, slow)
    atol = 1e-6 * float(expected_grad.abs().max()) + 1e-7
    torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_no_pair_of_one_class_means_zero_and_no_gradient(reduction: str) -> None:
    vectors = make_vectors(5, 4, 0).requires_grad_()
    ratio = channel_correlation(vectors, torch.arange(5), reduction=reduction)
    assert ratio == 0
    assert not gradient(ratio, vectors).any()


def test_one_class_is_pulled_together_over_eps() -> None:
    vectors, labels = make_vectors(5, 4, 0), torch.zeros(5, dtype=torch.long)
    intra, inter = class_distances(vectors, labels)
    assert inter == 0
    torch.testing.assert_close(channel_correlation(vectors, labels, eps=0.5), intra / 0.5)


@pytest.mark.filterwarnings("ignore:invalid value")  # numpy's, in Triton's interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_go_through(value: float) -> None:
    vectors = make_vectors(6, 4, 0)
    vectors[2, 1] = value
    assert not torch.isfinite(channel_correlation(vectors, torch.arange(6) % 2))


# --- precision


def tight(samples: int = 32, width: int = 64) -> tuple[Tensor, Tensor]:
    """Attention as an SE module gives it at the start: all vectors alike."""
    noise = torch.randn(samples, width, generator=generator(0))
    return 0.5 + 1e-4 * noise, torch.arange(samples) % 5


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "one-hot"])
def test_tight_vectors_lose_nothing(soft: bool) -> None:
    vectors, labels = tight()
    if soft:
        labels = torch.nn.functional.one_hot(labels, 5).double()
    value_error, gradient_error = errors(vectors, labels, "sum")
    assert value_error < 1e-6
    assert gradient_error < 1e-6


def test_paper_form_loses_tight_vectors() -> None:
    vectors, labels = tight()
    intra, inter = reference.paper_form(vectors, labels)
    expected = reference.channel_correlation(vectors, labels)
    assert abs(intra / (inter + EPS) - expected) > 0.01 * expected


def test_paper_form_in_double_precision_is_the_loop() -> None:
    vectors, labels = make_vectors(12, 8, 0, torch.float64), make_labels("hard", 12, 4, 0)
    torch.testing.assert_close(
        reference.paper_form(vectors, labels), reference.class_distances(vectors, labels)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_changes_no_bit(kind: str) -> None:
    labels = make_labels(kind, 24, 4, 0)
    plain = make_vectors(24, 32, 0).requires_grad_()
    under = plain.detach().clone().requires_grad_()
    expected = channel_correlation(plain, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = channel_correlation(under, labels)
        got_grad = gradient(got, under)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
    assert torch.equal(got_grad, gradient(expected, plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_as_its_float32_copy(
    kind: str, dtype: torch.dtype, formulas: str
) -> None:
    labels = make_labels(kind, 24, 4, 0)
    half = make_vectors(24, 32, 0).to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    got, expected = channel_correlation(half, labels), channel_correlation(full, labels)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
    (half_grad,) = torch.autograd.grad(got, half)
    (full_grad,) = torch.autograd.grad(expected, full)
    # Triton's interpreter cuts float32 off where a GPU rounds it to bfloat16.
    ulp = torch.finfo(dtype).eps if formulas == "few, GPU" else 0
    torch.testing.assert_close(half_grad, full_grad.to(dtype), rtol=ulp, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_stays_float64(kind: str) -> None:
    vectors = make_vectors(12, 8, 0, torch.float64).requires_grad_()
    labels = make_labels(kind, 12, 4, 0)
    ratio = channel_correlation(vectors, labels)
    (grad,) = torch.autograd.grad(ratio, vectors)
    assert ratio.dtype == grad.dtype == torch.float64
    torch.testing.assert_close(
        ratio, reference.channel_correlation(vectors, labels), rtol=1e-12, atol=0
    )


# --- derivatives


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_first_and_second_derivatives_are_those_of_the_value(
    check: Callable[..., bool], kind: str, reduction: str
) -> None:
    labels = make_labels(kind, 7, 3, 0)
    vectors = make_vectors(7, 4, 0, torch.float64).requires_grad_()
    assert check(lambda v: class_distances(v, labels, reduction), vectors)
    assert check(lambda v: channel_correlation(v, labels, 1e-3, reduction), vectors)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_labels_get_no_gradient(reduction: str) -> None:
    rows = make_labels("soft", 6, 3, 0).requires_grad_()
    vectors = make_vectors(6, 4, 0).requires_grad_()
    channel_correlation(vectors, rows, reduction=reduction).backward()
    assert vectors.grad is not None
    assert rows.grad is None


# --- identities


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_hot_rows_are_hard_labels(reduction: str) -> None:
    vectors, hard = make_vectors(20, 8, 0, torch.float64), make_labels("hard", 20, 5, 0)
    rows = torch.nn.functional.one_hot(hard, 5).double()
    torch.testing.assert_close(
        class_distances(vectors, rows, reduction),
        class_distances(vectors, hard, reduction),
        rtol=1e-12,
        atol=0,
    )


batches = st.tuples(
    st.integers(2, 12), st.integers(1, 6), st.integers(2, 5), st.integers(0, 2**20)
).map(
    lambda sizes: (
        make_vectors(sizes[0], sizes[1], sizes[3], torch.float64),
        sizes[0],
        sizes[2],
        sizes[3],
    )
)
kinds = st.sampled_from(KINDS)
identity = settings(max_examples=30, deadline=None, derandomize=True)


@identity
@given(batches, kinds, st.floats(-10, 10))
def test_moving_all_vectors_changes_nothing(
    batch: tuple[Tensor, int, int, int], kind: str, step: float
) -> None:
    vectors, samples, classes, seed = batch
    labels = make_labels(kind, samples, classes, seed)
    torch.testing.assert_close(
        class_distances(vectors + step, labels),
        class_distances(vectors, labels),
        rtol=1e-9,
        atol=1e-12,
    )


@identity
@given(batches, kinds, st.floats(0.01, 100))
def test_ratio_has_no_scale(batch: tuple[Tensor, int, int, int], kind: str, scale: float) -> None:
    vectors, samples, classes, seed = batch
    labels = make_labels(kind, samples, classes, seed)
    if class_distances(vectors, labels).inter == 0:
        return
    torch.testing.assert_close(
        channel_correlation(scale * vectors, labels, eps=1e-30),
        channel_correlation(vectors, labels, eps=1e-30),
        rtol=1e-9,
        atol=1e-12,
    )


@identity
@given(batches, kinds, st.sampled_from(REDUCTIONS))
def test_order_of_samples_does_not_matter(
    batch: tuple[Tensor, int, int, int], kind: str, reduction: str
) -> None:
    vectors, samples, classes, seed = batch
    labels = make_labels(kind, samples, classes, seed)
    order = torch.randperm(samples, generator=generator(seed))
    torch.testing.assert_close(
        class_distances(vectors[order], labels[order], reduction),
        class_distances(vectors, labels, reduction),
        rtol=1e-9,
        atol=1e-12,
    )


@identity
@given(batches, kinds, st.sampled_from(REDUCTIONS))
def test_names_of_classes_do_not_matter(
    batch: tuple[Tensor, int, int, int], kind: str, reduction: str
) -> None:
    vectors, samples, classes, seed = batch
    labels = make_labels(kind, samples, classes, seed)
    names = torch.randperm(classes, generator=generator(seed))
    renamed = names[labels] if labels.ndim == 1 else labels[:, names]
    torch.testing.assert_close(
        class_distances(vectors, renamed, reduction),
        class_distances(vectors, labels, reduction),
        rtol=1e-9,
        atol=1e-12,
    )


@identity
@given(batches, st.sampled_from(["hard", "one-hot"]))
def test_every_sample_twice_makes_four_times_the_distances(
    batch: tuple[Tensor, int, int, int], kind: str
) -> None:
    vectors, samples, classes, seed = batch
    labels = make_labels(kind, samples, classes, seed)
    once = class_distances(vectors, labels)
    twice = class_distances(torch.cat([vectors, vectors]), torch.cat([labels, labels]))
    torch.testing.assert_close(twice.intra, 4 * once.intra, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(twice.inter, 4 * once.inter, rtol=1e-9, atol=1e-12)


@identity
@given(batches, kinds)
def test_both_kinds_of_pairs_make_all_pairs(batch: tuple[Tensor, int, int, int], kind: str) -> None:
    vectors, samples, classes, seed = batch
    intra, inter = class_distances(vectors, make_labels(kind, samples, classes, seed))
    every = samples * (vectors - vectors.mean(0)).square().sum()
    torch.testing.assert_close(intra + inter, every, rtol=1e-9, atol=1e-12)


# --- how it is computed


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_compiles_whole_to_the_same_numbers(kind: str, reduction: str) -> None:
    torch._dynamo.reset()
    labels = make_labels(kind, 12, 4, 0)
    plain = make_vectors(12, 8, 0).requires_grad_()
    traced = plain.detach().clone().requires_grad_()
    compiled: Function = torch.compile(channel_correlation, fullgraph=True, backend="aot_eager")
    expected = channel_correlation(plain, labels, reduction=reduction)
    got = compiled(traced, labels, reduction=reduction)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        gradient(got, traced), gradient(expected, plain), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_never_waits_for_the_device(kind: str) -> None:
    # Meta tensors hold no values: whatever needs one on the host (a number, a condition, a shape
    # that depends on data) fails.
    labels = make_labels(kind, 12, 4, 0).to("meta")
    vectors = make_vectors(12, 8, 0).to("meta").requires_grad_()
    channel_correlation(vectors, labels, reduction="mean").backward()
    assert vectors.grad is not None
    assert vectors.grad.shape == (12, 8)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_memory_is_linear_in_the_batch(kind: str) -> None:
    samples, width, classes = 512, 8, 5
    labels = make_labels(kind, samples, classes, 0)
    vectors = make_vectors(samples, width, 0).requires_grad_()
    with Largest() as largest:
        channel_correlation(vectors, labels).backward()
    assert samples * width <= largest.numel < samples * samples / 16


def test_largest_sees_a_matrix_of_pairs() -> None:
    vectors, labels = make_vectors(64, 4, 0), make_labels("hard", 64, 4, 0)
    with Largest() as largest:
        reference.paper_form(vectors, labels)
    assert largest.numel == 64 * 64


# --- what is refused

VECTORS = make_vectors(4, 3, 0)
HARD = torch.tensor([0, 1, 0, 1])
SOFT = torch.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (VECTORS[0], HARD, r"attention must be \(N, D\).*got \(3,\) float32"),
        (VECTORS.long(), HARD, r"attention must be .* floating point.*got \(4, 3\) int64"),
        (VECTORS, HARD[:3], "labels must be one a sample: 3 labels, 4 samples"),
        (VECTORS, SOFT[:3], "labels must be one a sample: 3 labels, 4 samples"),
        (VECTORS, HARD[:, None], r"labels must be \(N,\) int64.*got \(4, 1\) int64"),
        (VECTORS, HARD.float(), r"labels must be \(N,\) int64.*got \(4,\) float32"),
        (VECTORS, HARD.bool(), r"labels must be \(N,\) int64.*got \(4,\) bool"),
        (VECTORS, HARD + 0j, r"labels must be \(N,\) int64.*got \(4,\) complex64"),
        (VECTORS, torch.tensor([0, -1, 0, 1]), r"labels must lie in 0..K - 1, got -1"),
        (VECTORS, 2 * SOFT, "probabilities that sum to 1, got sums from 2 to 2"),
        (VECTORS, torch.tensor([[1.5, -0.5]] * 4), "probabilities.*values from -0.5"),
        (VECTORS, torch.full((4, 2), float("nan")), "probabilities that sum to 1"),
        (VECTORS[:0], HARD[:0], "batch is empty"),
        (VECTORS[:0], SOFT[:0], "batch is empty"),
    ],
)
def test_bad_input_is_named(vectors: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        class_distances(vectors, labels)
    assert "\n" not in str(raised.value)


def test_label_beyond_the_number_of_classes_is_named() -> None:
    with pytest.raises(InputError, match=r"labels must lie in 0..4, got 5"):
        class_distances(VECTORS, torch.tensor([0, 5, 0, 1]), num_classes=5)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(N, 3\) probabilities, got \(4, 2\) float32"):
        class_distances(VECTORS, SOFT, num_classes=3)


def test_unknown_reduction_is_named() -> None:
    with pytest.raises(InputError, match='reduction must be "sum" or "mean", got \'max\''):
        class_distances(VECTORS, HARD, "max")  # type: ignore[arg-type]


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_eps_must_be_positive(eps: float) -> None:
    with pytest.raises(InputError, match="eps must be a positive number, got"):
        channel_correlation(VECTORS, HARD, eps=eps)


def test_group_needs_the_number_of_classes() -> None:
    # Refused before the group is used, so any will do.
    with pytest.raises(InputError, match="num_classes must be given with group"):
        class_distances(VECTORS, HARD, group=object())  # type: ignore[arg-type]
