"""Properties that all losses share."""

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import reference
from ccloss import Output
from ccloss.errors import InputError
from ccloss.losses import LOSSES
from outputs import (
    CLASSES,
    HARD,
    LABELS,
    LOSSES_AND_LABELS,
    ONLY_HARD_LABELS,
    SAMPLES,
    SOFT,
    WIDTH,
    WITH_SOFT_LABELS,
    gradients,
    hard_labels,
    leaves,
    loss_for,
    make_output,
    soft_labels,
)
from versions import TORCH

# --- class weights and label smoothing


WEIGHTS = [0.5, 2.0, 0.0, 1.25]


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_weights_its_classification_term_only(name: str, kind: str) -> None:
    """Equal weights and their scale change nothing; other terms do not depend on weights."""
    output, labels = make_output(dtype=torch.float64), LABELS[kind]

    def terms(weights: list[float] | None) -> dict[str, Tensor]:
        return loss_for(name, {"class_weights": weights}).eval().terms(output, labels)

    plain, ones, uneven, scaled = map(terms, (None, [1.0] * 4, WEIGHTS, [4 * w for w in WEIGHTS]))
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(scaled, uneven)
    assert uneven["total"] != plain["total"]
    for term in plain.keys() - {"total", "ce", "focal", "dis"}:
        assert torch.equal(plain[term], uneven[term]), term


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_smooths_its_classification_term_only(name: str, kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    plain, smooth = (
        loss_for(name, {"label_smoothing": share}).eval().terms(output, labels)
        for share in (0.0, 0.2)
    )
    assert smooth["total"] != plain["total"]
    for term in plain.keys() - {"total", "ce", "focal", "dis"}:
        assert torch.equal(plain[term], smooth[term]), term


@pytest.mark.parametrize("name", WITH_SOFT_LABELS)
def test_one_hot_soft_labels_equal_hard_labels(name: str) -> None:
    output = make_output(dtype=torch.float64)
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    loss = loss_for(name, options).eval()
    rows = reference.rows_of(HARD, CLASSES)
    torch.testing.assert_close(loss.terms(output, rows), loss.terms(output, HARD))


@pytest.mark.parametrize("name", ONLY_HARD_LABELS)
def test_losses_for_one_true_class_reject_soft_labels(name: str) -> None:
    with pytest.raises(InputError, match=f"labels must be .*{LOSSES[name].hard_labels_because}"):
        loss_for(name)(make_output(), SOFT)


@pytest.mark.parametrize("name", LOSSES)
def test_classification_term_of_classes_with_weight_0_is_0(name: str) -> None:
    output, labels = make_output(), torch.full((SAMPLES,), 2)
    terms = loss_for(name, {"class_weights": WEIGHTS}).terms(output, labels)
    assert terms.get("ce", terms.get("focal")) == 0
    terms["total"].backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in leaves(output))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 1.5},
        {"label_smoothing": math.nan},
        {"class_weights": [1.0, -1.0]},
        {"class_weights": [1.0, math.inf]},
        {"class_weights": []},
        {"class_weights": [0.0, 0.0]},
        {"class_weights": ["a"]},
    ],
)
def test_every_loss_rejects_shared_options_out_of_range(
    name: str, options: dict[str, object]
) -> None:
    (option,) = options
    with pytest.raises(InputError, match=f"^{option}.* must "):
        loss_for(name, options)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_rejects_another_number_of_class_weights(name: str) -> None:
    with pytest.raises(InputError, match=r"class_weights must .*4 classes"):
        loss_for(name, {"class_weights": [1.0, 2.0, 3.0]})(make_output(), HARD)


# --- properties of every loss


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_is_the_total_of_its_scalar_terms(name: str, kind: str) -> None:
    loss, output = loss_for(name).eval(), make_output()
    terms = loss.terms(output, LABELS[kind])
    assert torch.equal(terms["total"], loss(output, LABELS[kind]))
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)
        assert term.dtype == torch.float32


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_passes_gradcheck(name: str, kind: str) -> None:
    full, labels = make_output(dtype=torch.float64), LABELS[kind]
    loss = loss_for(name, {"label_smoothing": 0.1, "class_weights": WEIGHTS}).eval()
    # The loss gets what it needs and nothing else, so that it cannot depend on another input.
    inputs = {field: getattr(full, field) for field in ("logits", *sorted(loss.needs))}
    assert torch.autograd.gradcheck(
        lambda *parts: loss(Output(**dict(zip(inputs, parts, strict=True))), labels),
        tuple(inputs.values()),
        eps=1e-7,
        atol=1e-5,
    )


BATCHES = {
    "one sample": (1, 4),
    "one class": (6, 1),
    "more classes than samples": (3, 9),
    "one sample of one class": (1, 1),
}


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_on_small_batches_and_huge_logits(
    name: str, batch: str, scale: float
) -> None:
    samples, classes = BATCHES[batch]
    output = make_output(scale=scale, samples=samples, classes=classes)
    kinds = [hard_labels(samples, classes)]
    if name in WITH_SOFT_LABELS:
        kinds.append(soft_labels(samples, classes).float())
    for labels in kinds:
        total = loss_for(name, classes=classes)(output, labels)
        assert torch.isfinite(total)
        assert all(grad.isfinite().all() for grad in gradients(total, output))


def extreme_output(dtype: torch.dtype = torch.float32) -> Output:
    """Features equal, opposite or nearly equal to a class vector, tiny, huge, and 0."""
    weight = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(3))
    weight[3] = 0
    features = torch.cat([weight, -weight, weight * (1 + 1e-7), torch.zeros(4, WIDTH)])[:SAMPLES]
    features[8:] = torch.stack([weight[0] * 1e-30, weight[0] * 1e6, weight[1] * 0, -weight[2]])
    parts = (features @ weight.T, features, features.sigmoid(), torch.zeros(SAMPLES, 10, 2, 2))
    return Output(*(part.to(dtype).requires_grad_() for part in (*parts, weight)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_for_extreme_features(name: str, dtype: torch.dtype) -> None:
    output = extreme_output(dtype)
    for labels in (HARD, hard_labels(seed=2)):
        total = loss_for(name)(output, labels)
        assert torch.isfinite(total)
        assert all(grad.isfinite().all() for grad in gradients(total, output))


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_is_computed_in_float32_under_autocast(name: str, kind: str) -> None:
    half, labels = make_output(dtype=torch.bfloat16), LABELS[kind]
    full = Output(*(part.detach().float().requires_grad_() for part in leaves(half)))
    loss = loss_for(name).eval()
    for parameter in loss.parameters():
        torch.nn.init.uniform_(parameter, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(half, labels)
        in_float = loss(full, labels)
    assert total.dtype == torch.float32
    expected = loss(full, labels)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=0)
    assert torch.equal(in_float, expected)
    for grad, like in zip(gradients(total, half), gradients(expected, full), strict=True):
        torch.testing.assert_close(grad.float(), like, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_keeps_float64(name: str, kind: str) -> None:
    terms = loss_for(name).terms(make_output(dtype=torch.float64), LABELS[kind])
    assert {term.dtype for term in terms.values()} == {torch.float64}


@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_every_loss_compiles_without_graph_breaks(name: str, kind: str) -> None:
    output, labels = make_output(), LABELS[kind].to(torch.float32 if kind == "soft" else None)
    loss = loss_for(name, {"class_weights": WEIGHTS, "label_smoothing": 0.1})
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    total = compiled(output, labels)
    again = loss_for(name, {"class_weights": WEIGHTS, "label_smoothing": 0.1})
    torch.manual_seed(0)
    expected = again(output, labels)
    torch.testing.assert_close(total, expected)
    for grad, like in zip(gradients(total, output), gradients(expected, output), strict=True):
        torch.testing.assert_close(grad, like)
    torch.testing.assert_close(loss.state_dict(), again.state_dict())


@pytest.mark.skipif(TORCH < (2, 5), reason="PyTorch 2.4 needs a driver for fake CUDA tensors")
@pytest.mark.parametrize(("name", "kind"), LOSSES_AND_LABELS)
def test_no_loss_reads_values_from_the_device(name: str, kind: str) -> None:
    """Fake CUDA tensors have no values: reading one raises."""
    loss = loss_for(name, {"class_weights": WEIGHTS, "label_smoothing": 0.1})
    with FakeTensorMode(), torch.no_grad():
        state = {**dict(loss.named_buffers()), **dict(loss.named_parameters())}
        for key, value in state.items():
            fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
            setattr(loss, key, torch.nn.Parameter(fake) if key == "centers" else fake)
        like = make_output()
        output = Output(*(torch.empty(part.shape, device="cuda") for part in leaves(like)))
        labels = torch.empty(LABELS[kind].shape, dtype=LABELS[kind].dtype, device="cuda")
        assert loss(output, labels).device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            loss(output, labels).item()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_gradients_at_the_outputs_it_needs(name: str) -> None:
    output, loss = make_output(), loss_for(name)
    loss(output, HARD.flip(0)).backward()
    # Margin losses and Virtual Softmax compute logits from features.
    for field in ("features" if name in ONLY_HARD_LABELS else "logits", *loss.needs):
        grad = getattr(output, field).grad
        assert grad is not None
        assert grad.any(), field


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_declares_all_outputs_it_needs(name: str) -> None:
    output, loss = make_output(), loss_for(name).eval()
    bare = output._replace(
        **{
            field: None
            for field in ("attention", "feature_map", "classifier_weight")
            if field not in loss.needs
        }
    )
    assert torch.equal(loss(bare, HARD), loss(output, HARD))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_names_what_is_missing(name: str) -> None:
    loss = loss_for(name)
    for need in loss.needs:
        with pytest.raises(InputError, match=f"output.{need} is None, but {type(loss).__name__}"):
            loss(make_output()._replace(**{need: None}), HARD)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (HARD + 1, "^labels must .*4"),
        (HARD - 1, "^labels must .*-1"),
        (HARD[:5], "5 labels, 12 samples"),
        (HARD.float(), r"^labels must be \(N,\) integer classes or \(N, 4\) probabilities"),
        (SOFT[:, :3], r"^labels must be \(N,\) integer classes or \(N, 4\) probabilities"),
        (3 * SOFT, "sum to 1"),
    ],
)
def test_every_loss_rejects_bad_labels(name: str, labels: Tensor, message: str) -> None:
    loss = loss_for(name)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    with pytest.raises(InputError, match=message):
        loss(make_output(), labels)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_samples_do_not_count(name: str) -> None:
    """Terms and gradients equal those of the batch without samples of class -100."""
    kept = torch.tensor([0, 1, 2, 5, 6, 8, 11])
    labels = torch.full_like(HARD, -100)
    labels[kept] = HARD[kept]
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    results = []
    for rows in (torch.arange(SAMPLES), kept):
        whole, loss = make_output(dtype=torch.float64), loss_for(name, options).eval()
        output = whole._replace(
            **{
                field: getattr(whole, field)[rows]
                for field in ("logits", "features", "attention", "feature_map")
            }
        )
        terms = loss.terms(output, labels[rows])
        parameters = [*leaves(whole), *loss.parameters()]
        grads = torch.autograd.grad(terms["total"], parameters, allow_unused=True)
        results.append((terms, grads))
    (terms, grads), (expected, expected_grads) = results
    torch.testing.assert_close(terms, expected)
    for grad, like in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, like)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_ignored_samples_has_loss_and_gradient_0(name: str) -> None:
    output, loss = make_output(), loss_for(name)
    total = loss(output, torch.full_like(HARD, -100))
    depends_on_weights_only = name == "ical"
    assert depends_on_weights_only or total == 0
    for grad in gradients(total, output)[:-1]:
        assert not grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_accepts_any_integer_labels(name: str) -> None:
    output, loss = make_output(), loss_for(name, {"class_weights": WEIGHTS}).eval()
    for dtype in (torch.int32, torch.uint8):
        assert torch.equal(loss(output, HARD.to(dtype)), loss(output, HARD))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_rejects_logits_that_are_not_a_matrix(name: str) -> None:
    output = make_output()
    with pytest.raises(InputError, match=r"output.logits must be \(N, K\).*12, 4, 1"):
        loss_for(name)(output._replace(logits=output.logits[..., None]), HARD)


@pytest.mark.parametrize(
    "name", [name for name, kind in LOSSES.items() if "classifier_weight" in kind.needs]
)
def test_losses_on_the_classifier_reject_another_shape(name: str) -> None:
    output = make_output()
    assert output.classifier_weight is not None
    transposed = output._replace(classifier_weight=output.classifier_weight.T)
    with pytest.raises(InputError, match=r"classifier_weight must be \(K, D\) = \(4, 8\) .*got"):
        loss_for(name)(transposed, HARD)
