"""Each loss is its formula, and all of them keep one contract."""

import pytest
import torch
from torch import Tensor

import reference
from ccloss import Output, functional
from ccloss.errors import InputError
from ccloss.losses import (
    LOSSES,
    ChannelCorrelationLoss,
    CrossEntropyLoss,
    loss_options,
    make_loss,
)

SAMPLES, CLASSES, WIDTH = 12, 4, 8


def make_output(seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Output:
    gen = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    parts = [
        scale * draw(SAMPLES, CLASSES),
        draw(SAMPLES, WIDTH).relu(),
        draw(SAMPLES, WIDTH).sigmoid(),
        draw(SAMPLES, 8, 2, 2),
        draw(CLASSES, WIDTH),
    ]
    return Output(*(part.to(dtype).requires_grad_() for part in parts))


HARD = torch.arange(SAMPLES) % CLASSES
SOFT = torch.rand(
    SAMPLES, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64
).softmax(1)
LABELS = {"hard": HARD, "soft": SOFT}


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


def test_defaults_are_the_papers() -> None:
    assert loss_options("cc") == {"weight": 1.0, "eps": 1e-6, "reduction": "sum"}


def test_weight_zero_is_cross_entropy_and_measures_no_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("distances were computed")

    monkeypatch.setattr(functional, "class_distances", refuse)
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
    message = "loss cc has no option 'wieght': it has weight, eps, reduction; did you mean 'weight'"
    with pytest.raises(InputError, match=message):
        make_loss("cc", {"wieght": 2.0})


def test_option_of_a_loss_without_options_is_refused() -> None:
    with pytest.raises(InputError, match="loss ce has no option 'weight': it has none"):
        make_loss("ce", {"weight": 1.0})


def test_value_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"loss cc does not take {'weight': 'heavy'}"):
        make_loss("cc", {"weight": "heavy"})


# --- what holds for every loss


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_total_of_its_scalar_terms(name: str, kind: str) -> None:
    loss, output = make_loss(name), make_output()
    terms = loss.terms(output, LABELS[kind])
    assert torch.equal(terms["total"], loss(output, LABELS[kind]))
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_with_huge_logits(name: str) -> None:
    output = make_output(scale=1e4)
    total = make_loss(name)(output, HARD)
    total.backward()
    assert torch.isfinite(total)
    assert output.logits.grad is not None
    assert torch.isfinite(output.logits.grad).all()


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_computed_in_float32_under_autocast(name: str, kind: str) -> None:
    half, labels = make_output(dtype=torch.bfloat16), LABELS[kind]
    full = Output(*(part.detach().float() for part in half if part is not None))
    loss = make_loss(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(half, labels)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, loss(full, labels), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_keeps_float64(name: str) -> None:
    for labels in LABELS.values():
        assert make_loss(name)(make_output(dtype=torch.float64), labels).dtype == torch.float64


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_reaches_the_logits_and_what_it_needs(name: str) -> None:
    output, loss = make_output(), make_loss(name)
    loss(output, HARD).backward()
    for field in ("logits", *loss.needs):
        grad = getattr(output, field).grad
        assert grad is not None
        assert grad.any(), field


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_names_what_is_missing(name: str) -> None:
    loss = make_loss(name)
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
    with pytest.raises(InputError, match=message):
        make_loss(name)(make_output(), labels)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_refuses_logits_that_are_not_a_matrix(name: str) -> None:
    output = make_output()
    with pytest.raises(InputError, match=r"output.logits must be \(N, K\), got \(12, 4, 1\)"):
        make_loss(name)(output._replace(logits=output.logits[..., None]), HARD)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_defaults_for_all_its_options(name: str) -> None:
    assert make_loss(name, loss_options(name)) is not None
