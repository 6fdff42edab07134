"""Losses of pytorch-metric-learning added to cross-entropy."""

import sys
import warnings

import pytest
import torch

from ccloss.errors import InputError
from ccloss.losses import CrossEntropyLoss, MetricLearningLoss, loss_options, make_loss
from outputs import CLASSES, HARD, SOFT, WIDTH, make_output

library = pytest.importorskip("pytorch_metric_learning.losses")

UNEVEN = torch.tensor([0, 0, 0, 1, 1, 2, 3, 0, 1, 1, 2, 0])
DISTINCT = torch.arange(CLASSES)

OPTIONS = {
    "HistogramLoss": {"n_bins": 10},
    "RankedListLoss": {"margin": 0.4, "Tn": 1},
}
REJECTED = {
    "DynamicSoftMarginLoss": "it keeps the graph of the previous step",
    "GenericPairLoss": "it needs a Python function",
    "ManifoldLoss": "it is self-supervised and takes no labels",
    "VICRegLoss": "it needs two views of each image",
}
NEEDS_EQUAL_COUNTS = {"SmoothAPLoss"}
WITH_PARAMETERS = {
    "ArcFaceLoss",
    "CosFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NormalizedSoftmaxLoss",
    "P2SGradLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
}
ALL = [
    name
    for name, value in vars(library).items()
    if isinstance(value, type)
    and issubclass(value, library.BaseMetricLossFunction)
    and value is not library.BaseMetricLossFunction
]


def build(name: str) -> MetricLearningLoss:
    with warnings.catch_warnings():  # numpy 2 and torch deprecate calls of the library
        warnings.simplefilter("ignore")
        loss = make_loss(f"pml:{name}", OPTIONS.get(name), num_classes=CLASSES, features=WIDTH)
    assert isinstance(loss, MetricLearningLoss)
    return loss


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", sorted(set(ALL) - set(REJECTED)))
def test_every_accepted_loss_trains(name: str) -> None:
    """Several steps with backward passes, with uneven classes and without pairs of one class."""
    loss = build(name)
    assert bool(list(loss.parameters())) == (name in WITH_PARAMETERS)
    for step, labels in enumerate((HARD, HARD.flip(0), DISTINCT, UNEVEN)):
        output = make_output(step, samples=len(labels))
        if name in NEEDS_EQUAL_COUNTS and labels is UNEVEN:
            with pytest.raises(InputError, match=f"{name} .* does not take this batch: .*sampler"):
                loss(output, labels)
            continue
        total = loss(output, labels)
        assert torch.isfinite(total)
        total.backward()
        assert output.features.grad is None or output.features.grad.isfinite().all()


@pytest.mark.parametrize("name", REJECTED)
def test_losses_that_need_more_than_one_labelled_view_are_rejected(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} .* cannot be used: {REJECTED[name]}; choose"):
        make_loss(f"pml:{name}", num_classes=CLASSES, features=WIDTH)


@pytest.mark.parametrize("name", ["TripletMarginLoss", "ContrastiveLoss", "NTXentLoss"])
def test_loss_is_cross_entropy_plus_the_weighted_term(name: str) -> None:
    output = make_output()
    terms = make_loss(f"pml:{name}", {"weight": 0.5}).terms(output, HARD)
    metric = getattr(library, name)()(output.features, HARD)
    torch.testing.assert_close(terms["metric"], metric)
    torch.testing.assert_close(terms["ce"], CrossEntropyLoss()(output, HARD))
    torch.testing.assert_close(terms["total"], terms["ce"] + 0.5 * metric)


def test_options_reach_the_library() -> None:
    options = {"margin": 0.3, "swap": "true", "smooth_loss": "False", "label_smoothing": 0.1}
    loss = make_loss("pml:TripletMarginLoss", options)
    assert isinstance(loss, MetricLearningLoss)
    assert (loss.metric.margin, loss.label_smoothing) == (0.3, 0.1)
    assert loss.metric.swap is True
    assert loss.metric.smooth_loss is False
    known = loss_options("pml:TripletMarginLoss")
    assert (known["margin"], known["weight"]) == (0.05, 1.0)
    assert {"name", "num_classes", "features", "self", "kwargs"}.isdisjoint(known)


def test_loss_with_parameters_needs_sizes() -> None:
    loss = build("ProxyAnchorLoss")
    (proxies,) = loss.parameters()
    assert proxies.shape == (CLASSES, WIDTH)
    with pytest.raises(InputError, match="ProxyAnchorLoss of pytorch-metric-learning needs num_cl"):
        make_loss("pml:ProxyAnchorLoss")
    with pytest.raises(InputError, match="P2SGradLoss of pytorch-metric-learning needs features"):
        make_loss("pml:P2SGradLoss", num_classes=CLASSES)


def test_term_is_computed_in_float32_under_autocast() -> None:
    output, loss = make_output(), make_loss("pml:ContrastiveLoss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(output, HARD)
    assert torch.equal(total, loss(output, HARD))


def test_ignored_samples_do_not_count() -> None:
    output, loss = make_output(), make_loss("pml:TripletMarginLoss")
    labels = torch.where(torch.arange(len(HARD)) < 8, HARD, -100)
    kept = output._replace(logits=output.logits[:8], features=output.features[:8])
    torch.testing.assert_close(loss.terms(output, labels), loss.terms(kept, HARD[:8]))
    assert loss(output, torch.full_like(HARD, -100)) == 0


def test_soft_labels_are_rejected() -> None:
    with pytest.raises(InputError, match="a pair is of one class or of two"):
        make_loss("pml:TripletMarginLoss")(make_output(), SOFT)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("TripletMarginLos", {}, "has no loss 'TripletMarginLos'; did you mean 'TripletMarginLoss"),
        ("torch", {}, "has no loss 'torch'"),
        ("TripletMarginLoss", {"margn": 1.0}, "has no option 'margn': .*did you mean 'margin'"),
        ("TripletMarginLoss", {"weight": -1.0}, "weight must be a number of at least 0, got -1.0"),
        ("TripletMarginLoss", {"swap": "maybe"}, "swap must be true or false, got 'maybe'"),
        ("AngularLoss", {"alpha": "wide"}, "AngularLoss of .* does not take {'alpha': 'wide'}"),
        ("RankedListLoss", {}, "RankedListLoss of .* does not take {}: .*missing 2 required"),
    ],
)
def test_unknown_names_and_values_are_rejected(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_loss(f"pml:{name}", options)


def test_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(InputError, match=r'pml:TripletMarginLoss needs .*pip install "ccloss\[pml'):
        make_loss("pml:TripletMarginLoss")
