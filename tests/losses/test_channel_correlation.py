"""Cross-entropy and CC-Loss against loops over samples and pairs."""

import pytest
import torch

import reference
from ccloss import functional
from ccloss.losses import ChannelCorrelationLoss, CrossEntropyLoss, make_loss
from outputs import HARD, LABELS, make_output

WEIGHTS = [0.5, 2.0, 0.0, 1.25]


@pytest.mark.parametrize("smoothing", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("kind", LABELS)
def test_cross_entropy_equals_its_formula(
    kind: str, weights: list[float] | None, smoothing: float
) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    loss = CrossEntropyLoss(weights, smoothing)
    expected = reference.softmax_loss(output.logits, labels, weights, smoothing)
    torch.testing.assert_close(loss(output, labels), expected)
    if weights is None and smoothing == 0:
        torch.testing.assert_close(expected, reference.cross_entropy(output.logits, labels))


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_cc_equals_its_formula(reduction: str, kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    assert output.attention is not None
    loss = make_loss("cc", {"weight": 3.0, "eps": 0.1, "reduction": reduction})
    terms = loss.terms(output, labels)
    ratio = reference.channel_correlation(output.attention, labels, 0.1, reduction)
    torch.testing.assert_close(terms["ratio"], ratio)
    expected = reference.cross_entropy(output.logits, labels) + 3 * ratio
    torch.testing.assert_close(terms["total"], expected)
    if reduction == "sum":
        intra, inter = reference.class_distances(output.attention, labels)
        torch.testing.assert_close((terms["intra"], terms["inter"]), (intra, inter))


def test_weight_0_gives_cross_entropy_without_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    output, loss = make_output(), ChannelCorrelationLoss(weight=0)
    terms = loss.terms(output, HARD)
    assert terms["ratio"] > 0
    assert not terms["ratio"].requires_grad
    assert torch.equal(terms["total"], terms["ce"])

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("distances were computed")

    monkeypatch.setattr(functional, "correlation_terms", fail)
    assert torch.equal(loss(output, HARD), CrossEntropyLoss()(output, HARD))
