"""Losses of pytorch-metric-learning beside cross-entropy."""

import math
import sys

import pytest
import torch

from ccloss.errors import InputError
from ccloss.losses import CrossEntropyLoss, MetricLearningLoss, loss_options, make_loss
from outputs import CLASSES, HARD, SOFT, WIDTH, make_output


@pytest.mark.parametrize("name", ["TripletMarginLoss", "ContrastiveLoss", "NTXentLoss"])
def test_it_is_cross_entropy_and_their_loss_with_a_weight(name: str) -> None:
    library = pytest.importorskip("pytorch_metric_learning.losses")
    output = make_output()
    terms = make_loss(f"pml:{name}", {"weight": 0.5}).terms(output, HARD)
    metric = getattr(library, name)()(output.features, HARD)
    torch.testing.assert_close(terms["metric"], metric)
    torch.testing.assert_close(terms["ce"], CrossEntropyLoss()(output, HARD))
    torch.testing.assert_close(terms["total"], terms["ce"] + 0.5 * metric)
    terms["total"].backward()
    assert output.features.grad is not None
    assert output.features.grad.any()


def test_their_options_reach_their_loss() -> None:
    pytest.importorskip("pytorch_metric_learning")
    loss = make_loss("pml:TripletMarginLoss", {"margin": 0.3, "label_smoothing": 0.1})
    assert isinstance(loss, MetricLearningLoss)
    assert (loss.metric.margin, loss.label_smoothing) == (0.3, 0.1)
    known = loss_options("pml:TripletMarginLoss")
    assert known["margin"] == 0.05
    assert known["weight"] == 1.0
    assert {"name", "num_classes", "features", "self", "kwargs"}.isdisjoint(known)


def test_a_loss_with_classes_of_its_own_learns_them() -> None:
    pytest.importorskip("pytorch_metric_learning")
    loss = make_loss("pml:ProxyAnchorLoss", num_classes=CLASSES, features=WIDTH)
    (proxies,) = loss.parameters()
    assert proxies.shape == (CLASSES, WIDTH)
    loss(make_output(), HARD).backward()
    assert proxies.grad is not None
    assert proxies.grad.any()
    with pytest.raises(InputError, match="ProxyAnchorLoss of pytorch-metric-learning needs num_cl"):
        make_loss("pml:ProxyAnchorLoss")


def test_it_is_computed_in_float32_under_autocast() -> None:
    pytest.importorskip("pytorch_metric_learning")
    output, loss = make_output(), make_loss("pml:ContrastiveLoss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(output, HARD)
    assert torch.equal(total, loss(output, HARD))


def test_a_batch_without_a_pair_is_finite() -> None:
    pytest.importorskip("pytorch_metric_learning")
    output = make_output(samples=1)
    total = make_loss("pml:TripletMarginLoss")(output, torch.tensor([2]))
    assert math.isfinite(total.item())


def test_soft_labels_are_refused() -> None:
    pytest.importorskip("pytorch_metric_learning")
    with pytest.raises(InputError, match="takes no soft labels, for its pairs are of"):
        make_loss("pml:TripletMarginLoss")(make_output(), SOFT)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("TripletMarginLos", {}, "has no loss 'TripletMarginLos'; did you mean 'TripletMarginLoss"),
        ("torch", {}, "has no loss 'torch'"),
        ("TripletMarginLoss", {"margn": 1.0}, "has no option 'margn': .*did you mean 'margin'"),
        ("TripletMarginLoss", {"weight": -1.0}, "weight must be 0 or a positive number, got -1.0"),
        ("AngularLoss", {"alpha": "wide"}, "AngularLoss of .* does not take {'alpha': 'wide'}"),
    ],
)
def test_what_they_do_not_have_is_refused(
    name: str, options: dict[str, float], message: str
) -> None:
    pytest.importorskip("pytorch_metric_learning")
    with pytest.raises(InputError, match=message):
        make_loss(f"pml:{name}", options)


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(InputError, match=r'pml:TripletMarginLoss needs .*pip install "ccloss\[pml'):
        make_loss("pml:TripletMarginLoss")
