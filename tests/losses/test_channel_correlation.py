"""Cross-entropy and CC-Loss against loops over samples and pairs."""

import pytest
import torch

import reference
from ccloss import functional
from ccloss.errors import InputError
from ccloss.losses import ChannelCorrelationLoss, ClassOverlapLoss, CrossEntropyLoss, make_loss
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


@pytest.mark.parametrize("kind", LABELS)
def test_class_overlap_equals_its_formula(kind: str) -> None:
    output, labels = make_output(dtype=torch.float64), LABELS[kind]
    assert isinstance(output.attention, torch.Tensor)
    terms = ClassOverlapLoss(weight=3.0, eps=0.1).terms(output, labels)
    rows = reference.rows_of(labels, output.logits.shape[1])
    overlap = reference.class_overlap(output.attention, rows, 0.1)
    torch.testing.assert_close(terms["overlap"], overlap)
    expected = reference.cross_entropy(output.logits, labels) + 3 * overlap
    torch.testing.assert_close(terms["total"], expected)


@pytest.mark.parametrize("kind", [ChannelCorrelationLoss, ClassOverlapLoss])
def test_several_attention_tensors_give_the_mean_of_their_terms(
    kind: type[ChannelCorrelationLoss | ClassOverlapLoss],
) -> None:
    output, loss = make_output(dtype=torch.float64), kind(weight=2.0)
    assert isinstance(output.attention, torch.Tensor)
    tensors = [output.attention, output.attention[:, :3] ** 2]
    each = [loss.terms(output._replace(attention=one), HARD)[loss.main_term] for one in tensors]
    terms = loss.terms(output._replace(attention=tensors), HARD)
    torch.testing.assert_close(terms[loss.main_term], sum(each) / 2)
    torch.testing.assert_close(terms[f"{loss.main_term}_2"], each[1])
    torch.testing.assert_close(terms["total"], terms["ce"] + sum(each))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(12, 4), "output must be a ccloss.Output, got Tensor; pass"),
        ((torch.zeros(12, 4),), "output must be a ccloss.Output, got tuple; pass"),
        ({"logits": torch.zeros(12, 4)}, "output must be a ccloss.Output, got dict; pass"),
        (
            make_output()._replace(attention=torch.zeros(11, 3)),
            "output.attention must have one entry for each of 12 samples",
        ),
        (make_output()._replace(attention=[torch.zeros(12)]), r"output.attention must be \(N, D\)"),
        (make_output()._replace(attention=[]), "output.attention has no tensor"),
        (make_output()._replace(attention=[[0.5]]), "output.attention must be a tensor"),
    ],
)
def test_invalid_output(output: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChannelCorrelationLoss()(output, HARD)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: 1.0, 4: 2.0}, "class_weights must have one weight for each class: 5 weights, 4"),
        ({"a": 1.0}, "class_weights as a mapping must be"),
        ({-1: 1.0}, "class_weights as a mapping must be"),
        ({}, "class_weights as a mapping must be"),
        ("1,2", "class_weights must be numbers"),
        (3.0, "class_weights must be numbers"),
        ([1.0, 2.0], "class_weights must have one weight for each class: 2 weights, 4"),
    ],
)
def test_invalid_class_weights(weights: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CrossEntropyLoss(weights)(make_output(), HARD)


def test_class_weights_as_mapping_or_tensor_equal_a_sequence() -> None:
    output = make_output()
    expected = CrossEntropyLoss([1.0, 0.5, 1.0, 1.0])(output, HARD)
    assert torch.equal(CrossEntropyLoss({1: 0.5})(output, HARD), expected)
    as_tensor = CrossEntropyLoss(torch.tensor([1.0, 0.5, 1.0, 1.0]))
    assert torch.equal(as_tensor(output, HARD), expected)


def test_collapsed_attention_is_diagnosed() -> None:
    loss = ChannelCorrelationLoss(eps=0.1)
    assert loss.diagnose({"inter": 0.2}) is None
    assert "attention has collapsed" in str(loss.diagnose({"inter": 0.05}))
    assert ClassOverlapLoss().diagnose({"overlap": 1.0}) is None
