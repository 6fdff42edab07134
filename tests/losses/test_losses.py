"""Each loss is its formula, and all of them keep one contract."""

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import ccloss
import reference
from ccloss import Output, functional
from ccloss.errors import InputError
from ccloss.losses import (
    LOSSES,
    ChannelCorrelationLoss,
    CrossEntropyLoss,
    Loss,
    describe,
    loss_options,
    make_loss,
)
from outputs import (
    CLASSES,
    EVERY_LOSS_AND_LABELS,
    HARD,
    LABELS,
    MARGINS,
    SAMPLES,
    SOFT,
    SOFT_TAKERS,
    WIDTH,
    gradients,
    hard_labels,
    leaves,
    loss_for,
    make_output,
    soft_labels,
)

# --- cross-entropy


@pytest.mark.parametrize("kind", LABELS)
def test_cross_entropy_is_the_papers_sum(kind: str) -> None:
    output = make_output(dtype=torch.float64)
    expected = reference.cross_entropy(output.logits, LABELS[kind])
    torch.testing.assert_close(CrossEntropyLoss()(output, LABELS[kind]), expected)


def test_cross_entropy_needs_nothing_beyond_logits() -> None:
    output = make_output()
    bare = Output(output.logits, output.features)
    assert CrossEntropyLoss()(bare, HARD) == CrossEntropyLoss()(output, HARD)


# --- CC-Loss


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_cc_is_cross_entropy_and_the_weighted_ratio(reduction: str, kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    assert output.attention is not None
    loss = make_loss("cc", {"weight": 3.0, "eps": 0.1, "reduction": reduction})
    ratio = reference.channel_correlation(output.attention, labels, 0.1, reduction)
    expected = reference.cross_entropy(output.logits, labels) + 3 * ratio
    torch.testing.assert_close(loss(output, labels), expected)


def test_cc_terms_are_before_the_weight_and_make_the_total() -> None:
    output = make_output(dtype=torch.float64)
    assert output.attention is not None
    terms = (
        ChannelCorrelationLoss(weight=3.0, eps=0.1)(output, HARD),
        ChannelCorrelationLoss(weight=3.0, eps=0.1).terms(output, HARD),
    )
    total, parts = terms
    intra, inter = reference.class_distances(output.attention, HARD)
    torch.testing.assert_close(parts["intra"], intra)
    torch.testing.assert_close(parts["inter"], inter)
    torch.testing.assert_close(parts["ratio"], intra / (inter + 0.1))
    torch.testing.assert_close(total, parts["ce"] + 3 * parts["ratio"])


SHARED = {"class_weights": None, "label_smoothing": 0.0}


DEFAULTS = {
    "ce": {},
    "cc": {"weight": 1.0, "eps": 1e-6, "reduction": "sum"},
    "focal": {"gamma": 2.0},
    "a-softmax": {
        "margin": 4,
        "annealing_start": 1000.0,
        "annealing_rate": 0.1,
        "annealing_end": 5.0,
    },
    "mc": {"alpha": 1.5, "beta": 20.0},
    "ical": {"weight": 5.0},
    "fical": {"weight": 5.0},
    "center": {"weight": 0.003},
    "cosface": {"scale": 30.0, "margin": 0.35},
    "arcface": {"scale": 30.0, "margin": 0.5},
}
"""The papers' own, but for the scale of the last two: theirs of 64 is for thousands of classes."""


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_the_papers(name: str) -> None:
    assert loss_options(name) == {**DEFAULTS[name], **SHARED}


def test_weight_zero_is_cross_entropy_and_measures_no_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("distances were computed")

    monkeypatch.setattr(functional, "correlation_terms", refuse)
    output, loss = make_output(), ChannelCorrelationLoss(weight=0)
    assert torch.equal(loss(output, HARD), CrossEntropyLoss()(output, HARD))
    with pytest.raises(AssertionError, match="distances were computed"):
        loss.terms(output, HARD)


def test_weight_zero_still_reports_the_distances_but_does_not_differentiate_them() -> None:
    output, loss = make_output(), ChannelCorrelationLoss(weight=0)
    terms = loss.terms(output, HARD)
    assert terms["ratio"] > 0
    assert not terms["ratio"].requires_grad
    assert torch.equal(terms["total"], terms["ce"])


def test_cc_without_attention_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match=r"output.attention is None.*attention=True"):
        ChannelCorrelationLoss()(make_output()._replace(attention=None), HARD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be 0 or a positive number, got -1.0"),
        ({"weight": float("nan")}, "weight must be 0 or a positive number, got nan"),
        ({"weight": float("inf")}, "weight must be 0 or a positive number, got inf"),
        ({"eps": 0.0}, "eps must be a positive number, got 0.0"),
        ({"reduction": "max"}, 'reduction must be "sum" or "mean", got \'max\''),
    ],
)
def test_cc_refuses_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_loss("cc", options)


def test_cc_shows_its_options() -> None:
    assert "weight=2.0, eps=1e-06, reduction='sum'" in repr(ChannelCorrelationLoss(weight=2.0))


# --- losses by name


def test_options_reach_the_loss() -> None:
    loss = make_loss("cc", {"weight": 2.0, "reduction": "mean"})
    assert isinstance(loss, ChannelCorrelationLoss)
    assert (loss.weight, loss.eps, loss.reduction) == (2.0, 1e-6, "mean")


def test_unknown_loss_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"loss must be one of ce, cc.*got 'ccc'; did you mean"):
        make_loss("ccc")


def test_unknown_option_is_answered_with_the_nearest_name() -> None:
    message = (
        "loss cc has no option 'wieght': it has weight, eps, reduction, .*did you mean 'weight'"
    )
    with pytest.raises(InputError, match=message):
        make_loss("cc", {"wieght": 2.0})


def test_option_of_another_loss_is_refused() -> None:
    message = "loss ce has no option 'eps': it has class_weights, label_smoothing$"
    with pytest.raises(InputError, match=message):
        make_loss("ce", {"eps": 1.0})


def test_value_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match="weight must be 0 or a positive number, got 'heavy'"):
        make_loss("cc", {"weight": "heavy"})


class MyLoss(Loss):
    """One's own: cross-entropy of logits made smaller."""

    def __init__(self, factor: float = 0.5, *, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.factor = factor

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        return {"total": self.cross_entropy(self.factor * output.logits, labels)}


def test_ones_own_loss_is_registered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ccloss.LOSSES, "mine", MyLoss)
    assert loss_options("mine") == {"factor": 0.5, "label_smoothing": 0.0}
    output = make_output(dtype=torch.float64)
    total = make_loss("mine", {"factor": 0.25, "label_smoothing": 0.1})(output, HARD)
    expected = reference.softmax_loss(0.25 * output.logits, HARD, smoothing=0.1)
    torch.testing.assert_close(total, expected)


def test_a_loss_without_options_of_its_own_has_the_shared_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Plain(Loss):
        def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
            return {"total": self.cross_entropy(output.logits, labels)}

    monkeypatch.setitem(LOSSES, "plain", Plain)
    assert loss_options("plain") == SHARED


def test_sizes_are_asked_for_by_a_loss_with_parameters_only() -> None:
    with pytest.raises(InputError, match="loss center has parameters of its own and needs num_cl"):
        make_loss("center")
    with pytest.raises(InputError, match="needs features"):
        make_loss("center", num_classes=3)
    with pytest.raises(InputError, match="loss center has no option 'num_classes'"):
        make_loss("center", {"num_classes": 3}, features=2)
    assert isinstance(make_loss("ce", num_classes=3, features=2), CrossEntropyLoss)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_described(name: str) -> None:
    about = describe(name)
    assert about.name == name
    assert "official formula" in about.source or "our reading" in about.source
    assert 10 < len(about.formula) < 100
    assert "\n" not in about.formula
    assert about.options == loss_options(name)
    assert about.options.items() >= SHARED.items()
    doc = LOSSES[name].__doc__
    assert doc is not None
    assert "official formula" in doc or "our reading" in doc


# --- class weights and label smoothing


WEIGHTS = [0.5, 2.0, 0.0, 1.25]


@pytest.mark.parametrize("smoothing", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("kind", LABELS)
def test_weights_and_smoothing_have_one_meaning(
    kind: str, weights: list[float] | None, smoothing: float
) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    loss = CrossEntropyLoss(weights, smoothing)
    expected = reference.softmax_loss(output.logits, labels, weights, smoothing)
    torch.testing.assert_close(loss(output, labels), expected)


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_weights_its_classification_term_only(name: str, kind: str) -> None:
    """Weights of 1 change nothing, nor does their scale; regularisers never move."""
    output, labels = make_output(dtype=torch.float64), LABELS[kind]

    def terms(weights: list[float] | None) -> dict[str, Tensor]:
        return loss_for(name, {"class_weights": weights}).eval().terms(output, labels)

    plain, ones, uneven, scaled = map(terms, (None, [1.0] * 4, WEIGHTS, [4 * w for w in WEIGHTS]))
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(scaled, uneven)
    assert uneven["total"] != plain["total"]
    for term in plain.keys() - {"total", "ce", "focal", "dis"}:
        assert torch.equal(plain[term], uneven[term]), term


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_smooths_its_classification_term_only(name: str, kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    plain, smooth = (
        loss_for(name, {"label_smoothing": share}).eval().terms(output, labels)
        for share in (0.0, 0.2)
    )
    assert smooth["total"] != plain["total"]
    for term in plain.keys() - {"total", "ce", "focal", "dis"}:
        assert torch.equal(plain[term], smooth[term]), term


@pytest.mark.parametrize("name", SOFT_TAKERS)
def test_soft_labels_of_one_class_are_hard_labels(name: str) -> None:
    output = make_output(dtype=torch.float64)
    options = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    loss = loss_for(name, options).eval()
    rows = reference.rows_of(HARD, CLASSES)
    torch.testing.assert_close(loss.terms(output, rows), loss.terms(output, HARD))


@pytest.mark.parametrize("name", MARGINS)
def test_a_loss_with_a_margin_refuses_soft_labels(name: str) -> None:
    message = "labels must be .* takes no soft labels, for it has a margin for one true class"
    with pytest.raises(InputError, match=message):
        loss_for(name)(make_output(), SOFT)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_classes_without_weight_has_classification_term_0(name: str) -> None:
    output, labels = make_output(), torch.full((SAMPLES,), 2)
    terms = loss_for(name, {"class_weights": WEIGHTS}).terms(output, labels)
    assert terms.get("ce", terms.get("focal")) == 0
    terms["total"].backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in leaves(output))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing must lie in 0..1, got 1.5"),
        ({"label_smoothing": math.nan}, "label_smoothing must lie in 0..1, got nan"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be numbers of 0 or more"),
        ({"class_weights": [1.0, math.inf]}, "class_weights must be numbers of 0 or more"),
        ({"class_weights": [[1.0]]}, "class_weights must be numbers of 0 or more"),
        ({"class_weights": []}, "class_weights must have a number above 0"),
        ({"class_weights": [0.0, 0.0]}, "class_weights must have a number above 0"),
        ({"class_weights": ["a"]}, "class_weights must be numbers of 0 or more"),
    ],
)
def test_every_loss_refuses_shared_options_out_of_range(
    name: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        loss_for(name, options)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_refuses_another_number_of_class_weights(name: str) -> None:
    with pytest.raises(InputError, match="class_weights must be one a class: 3 weights, 4 classes"):
        loss_for(name, {"class_weights": [1.0, 2.0, 3.0]})(make_output(), HARD)


def test_class_weights_are_an_option_and_no_state() -> None:
    assert not CrossEntropyLoss(WEIGHTS).state_dict()


# --- what holds for every loss


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_is_the_total_of_its_scalar_terms(name: str, kind: str) -> None:
    loss, output = loss_for(name).eval(), make_output()
    terms = loss.terms(output, LABELS[kind])
    assert torch.equal(terms["total"], loss(output, LABELS[kind]))
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)
        assert term.dtype == torch.float32


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_passes_gradcheck(name: str, kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    loss = loss_for(name, {"label_smoothing": 0.1, "class_weights": WEIGHTS}).eval()
    assert torch.autograd.gradcheck(
        lambda *parts: loss(Output(*parts), labels), leaves(output), eps=1e-7, atol=1e-5
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
    if name in SOFT_TAKERS:
        kinds.append(soft_labels(samples, classes).float())
    for labels in kinds:
        total = loss_for(name, classes=classes)(output, labels)
        assert torch.isfinite(total)
        assert all(grad.isfinite().all() for grad in gradients(total, output))


def at_the_poles(dtype: torch.dtype = torch.float32) -> Output:
    """Features that are a class vector, its opposite, its neighbour by rounding, and zero."""
    weight = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(3))
    weight[3] = 0
    features = torch.cat([weight, -weight, weight * (1 + 1e-7), torch.zeros(4, WIDTH)])[:SAMPLES]
    features[8:] = torch.stack([weight[0] * 1e-30, weight[0] * 1e6, weight[1] * 0, -weight[2]])
    parts = (features @ weight.T, features, features.sigmoid(), torch.zeros(SAMPLES, 10, 2, 2))
    return Output(*(part.to(dtype).requires_grad_() for part in (*parts, weight)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_at_the_poles_and_for_zero_features(
    name: str, dtype: torch.dtype
) -> None:
    output = at_the_poles(dtype)
    for labels in (HARD, hard_labels(seed=2)):
        total = loss_for(name)(output, labels)
        assert torch.isfinite(total)
        assert all(grad.isfinite().all() for grad in gradients(total, output))


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
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


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_keeps_float64(name: str, kind: str) -> None:
    terms = loss_for(name).terms(make_output(dtype=torch.float64), LABELS[kind])
    assert {term.dtype for term in terms.values()} == {torch.float64}


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_compiles_in_one_piece(name: str, kind: str) -> None:
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


@pytest.mark.parametrize(("name", "kind"), EVERY_LOSS_AND_LABELS)
def test_every_loss_never_waits_for_the_device(name: str, kind: str) -> None:
    """On tensors without values, as if on a GPU, any look at a value raises."""
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
def test_every_loss_reaches_the_network_and_what_it_needs(name: str) -> None:
    output, loss = make_output(), loss_for(name)
    loss(output, HARD.flip(0)).backward()
    # Margins are in logits of the loss's own, made of features.
    for field in ("features" if name in MARGINS else "logits", *loss.needs):
        grad = getattr(output, field).grad
        assert grad is not None
        assert grad.any(), field


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_needs_no_more_than_it_says(name: str) -> None:
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
        with pytest.raises(InputError, match=f"output.{need} is None, and {type(loss).__name__}"):
            loss(make_output()._replace(**{need: None}), HARD)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (HARD + 1, "labels must lie in 0..3, got 4"),
        (HARD - 1, "labels must lie in 0..3, got -1"),
        (HARD[:5], "5 labels, 12 samples"),
        (HARD.float(), r"labels must be \(N,\) int64 or \(N, 4\) probabilities"),
        (SOFT[:, :3], r"labels must be \(N,\) int64 or \(N, 4\) probabilities"),
        (3 * SOFT, "probabilities that sum to 1"),
    ],
)
def test_every_loss_refuses_bad_labels(name: str, labels: Tensor, message: str) -> None:
    loss = loss_for(name)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    with pytest.raises(InputError, match=message):
        loss(make_output(), labels)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_takes_any_integer_labels(name: str) -> None:
    output, loss = make_output(), loss_for(name, {"class_weights": WEIGHTS}).eval()
    for dtype in (torch.int32, torch.uint8):
        assert torch.equal(loss(output, HARD.to(dtype)), loss(output, HARD))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_refuses_logits_that_are_not_a_matrix(name: str) -> None:
    output = make_output()
    with pytest.raises(InputError, match=r"output.logits must be \(N, K\), got \(12, 4, 1\)"):
        loss_for(name)(output._replace(logits=output.logits[..., None]), HARD)


@pytest.mark.parametrize(
    "name", [name for name, kind in LOSSES.items() if "classifier_weight" in kind.needs]
)
def test_a_loss_on_the_classifier_refuses_another_shape(name: str) -> None:
    output = make_output()
    assert output.classifier_weight is not None
    turned = output._replace(classifier_weight=output.classifier_weight.T)
    with pytest.raises(InputError, match=r"classifier_weight must be \(K, D\) = \(4, 8\) .*got"):
        loss_for(name)(turned, HARD)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_defaults_for_all_its_options(name: str) -> None:
    assert loss_for(name, loss_options(name)) is not None


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_shows_its_options(name: str) -> None:
    shown = repr(loss_for(name))
    for option, default in loss_options(name).items():
        assert option in SHARED or f"{option}={default!r}" in shown


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_every_loss_refuses_numbers_out_of_range(name: str, value: float) -> None:
    for option, default in loss_options(name).items():
        if isinstance(default, float | int):
            with pytest.raises(InputError, match=f"{option} .*got {value}|{option}.*{value}"):
                loss_for(name, {option: value})


def test_only_the_losses_with_a_state_have_one() -> None:
    states = {name: set(loss_for(name).state_dict()) for name in LOSSES}
    assert {name: state for name, state in states.items() if state} == {
        "a-softmax": {"steps"},
        "center": {"centers"},
    }
    assert [name for name in LOSSES if list(loss_for(name).parameters())] == ["center"]
