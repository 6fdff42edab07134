"""A-Softmax, CosFace and ArcFace against a loop over angles."""

import math

import pytest
import torch

import reference
from ccloss import Output
from ccloss.losses import ArcFaceLoss, ASoftmaxLoss, CosFaceLoss, Loss
from ccloss.losses.angular import _psi
from outputs import HARD, MARGIN_LOSSES, gradients, hard_labels, loss_for, make_output


def options_of(loss: Loss) -> dict[str, float]:
    if isinstance(loss, ASoftmaxLoss):
        start, rate = loss.annealing_start, loss.annealing_rate
        annealed = start / (1 + rate * int(loss.steps))
        return {"margin": loss.margin, "annealing": max(loss.annealing_end, annealed)}
    assert isinstance(loss, CosFaceLoss | ArcFaceLoss)
    return {"margin": loss.margin, "scale": loss.scale}


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_margin_losses_equal_their_formulas(name: str) -> None:
    """Value and gradient of random cases."""
    for case in range(25):
        gen = torch.Generator().manual_seed(case)
        samples, classes, kind = (
            int(torch.randint(1, high, (), generator=gen)) for high in (9, 7, 4)
        )
        options = {
            "a-softmax": {"margin": 1 + case % 5, "annealing_start": 3.0, "annealing_end": 0.5},
            "cosface": {"margin": 0.1 * kind, "scale": 1.0 + kind},
            "arcface": {"margin": 0.7 * kind, "scale": 1.0 + kind},
        }[name]
        weights = torch.rand(classes, generator=gen).tolist() if kind == 1 else None
        shared = {"class_weights": weights, "label_smoothing": 0.1 * (kind == 2)}
        loss = loss_for(name, {**options, **shared}, classes)
        output = make_output(case, torch.float64, samples=samples, classes=classes)
        # ReLU features rarely have small angles.
        output = output._replace(
            features=torch.randn(samples, 8, generator=gen, dtype=torch.float64).requires_grad_()
        )
        labels = hard_labels(samples, classes, case)
        total = loss(output, labels)
        assert output.classifier_weight is not None
        logits = reference.margin_logits(
            name, output.features, output.classifier_weight, labels, **options_of(loss)
        )
        expected = reference.softmax_loss(logits, labels, weights, shared["label_smoothing"])
        torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
        for grad, like in zip(gradients(total, output), gradients(expected, output), strict=True):
            torch.testing.assert_close(grad, like, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "loss",
    [
        ASoftmaxLoss(margin=1, annealing_start=0, annealing_end=0),
        ASoftmaxLoss(margin=4, annealing_start=1e12, annealing_end=1e12),
        CosFaceLoss(margin=0, scale=16),
        ArcFaceLoss(margin=0, scale=16),
    ],
    ids=["a-softmax, m 1", "a-softmax, infinite l", "cosface", "arcface"],
)
def test_without_margin_they_equal_softmax_of_unit_weights(loss: Loss) -> None:
    output = make_output(dtype=torch.float64)
    assert output.classifier_weight is not None
    features = output.features
    if not isinstance(loss, ASoftmaxLoss):
        features = 16 * torch.nn.functional.normalize(features)
    logits = features @ torch.nn.functional.normalize(output.classifier_weight).T
    torch.testing.assert_close(loss(output, HARD), reference.cross_entropy(logits, HARD))


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_margins_increase_the_loss(name: str) -> None:
    output = make_output(dtype=torch.float64)
    small, large = ({"margin": margin} for margin in ((1, 4) if name == "a-softmax" else (0, 0.3)))
    assert loss_for(name, small)(output, HARD) < loss_for(name, large)(output, HARD)


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_length_of_the_weights_and_the_models_logits_do_not_matter(name: str) -> None:
    output, loss = make_output(dtype=torch.float64), loss_for(name).eval()
    assert output.classifier_weight is not None
    lengths = torch.rand(4, 1, dtype=torch.float64) + 0.1
    other = output._replace(
        logits=torch.zeros_like(output.logits), classifier_weight=output.classifier_weight * lengths
    )
    torch.testing.assert_close(loss(other, HARD), loss(output, HARD))


# --- A-Softmax


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5, 8])
def test_psi_is_continuous_and_decreasing(margin: int) -> None:
    theta = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    psi = _psi(theta.cos(), margin)
    steps = psi.diff()
    assert (steps < 1e-12).all()
    assert steps.abs().max() < 2 * margin * math.pi / 100_000
    torch.testing.assert_close(psi[[0, -1]], torch.tensor([1.0, 1.0 - 2 * margin]).double())


@pytest.mark.parametrize("margin", [1, 2, 4, 7])
def test_psi_equals_its_definition(margin: int) -> None:
    theta = torch.linspace(0.001, 3.14, 997, dtype=torch.float64)
    expected = torch.stack([reference.psi(angle, margin) for angle in theta])
    torch.testing.assert_close(_psi(theta.cos(), margin), expected)


def annealing(loss: ASoftmaxLoss, output: Output) -> float:
    return float(loss.terms(output, HARD)["annealing"])


def test_annealing_decreases_in_training_mode_only() -> None:
    output, loss = make_output(dtype=torch.float64), ASoftmaxLoss()
    assert annealing(loss.eval(), output) == 1000
    loss.train()
    values = [annealing(loss, output) for _ in range(20)]
    assert values == pytest.approx([1000 / (1 + 0.12 * it) for it in range(1, 21)])
    loss.eval()
    assert [annealing(loss, output) for _ in range(3)] == pytest.approx([1000 / 3.4] * 3)
    loss.steps = loss.steps + 100_000
    assert annealing(loss, output) == 5


def test_annealing_can_be_switched_off() -> None:
    output = make_output(dtype=torch.float64)
    assert annealing(ASoftmaxLoss(annealing_start=0, annealing_end=0), output) == 0


def test_resumed_a_softmax_equals_the_uninterrupted_one() -> None:
    output, loss = make_output(), ASoftmaxLoss()
    for _ in range(7):
        loss(output, HARD)
    resumed = ASoftmaxLoss()
    resumed.load_state_dict(loss.state_dict())
    assert loss.steps == resumed.steps == 7
    assert loss.steps.dtype == torch.int64
    for _ in range(3):
        assert torch.equal(resumed(output, HARD), loss(output, HARD))


def test_zero_features_have_logits_0_and_a_finite_gradient() -> None:
    output = make_output()
    output = output._replace(features=torch.zeros(12, 8, requires_grad=True))
    total = ASoftmaxLoss()(output, HARD)
    torch.testing.assert_close(total, torch.tensor(math.log(4)))
    gradient = gradients(total, output)[1]
    assert gradient.isfinite().all()
    assert gradient.norm(dim=1).max() < 1


# --- ArcFace


@pytest.mark.parametrize("name", MARGIN_LOSSES)
@pytest.mark.parametrize("margin", [1, 2])
def test_gradients_are_finite_and_not_large_where_the_cosine_is_exactly_1(
    name: str, margin: int
) -> None:
    """Along the axes cosines are 1, 0 and -1 without rounding."""
    axes = torch.eye(8)[:4]
    output = make_output()._replace(
        features=torch.cat([axes, -axes, 3 * axes]).requires_grad_(),
        classifier_weight=(2 * axes).requires_grad_(),
    )
    loss = loss_for(name, {"margin": margin})
    for labels in (HARD, HARD.flip(0)):
        total = loss(output, labels)
        assert total.isfinite()
        for grad in gradients(total, output):
            assert grad.isfinite().all()
            assert grad.abs().max() < 100


def test_arcface_is_linear_in_the_cosine_beyond_pi() -> None:
    """The true class's logit decreases with the angle before and beyond pi - margin."""
    theta = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    features = torch.stack([theta.cos(), theta.sin()], 1)
    units = torch.eye(2, dtype=torch.float64)
    loss = ArcFaceLoss(scale=1.0)
    logits = loss.logits(features, units, torch.zeros(1001, 1, dtype=torch.long))[:, 0]
    before = theta + 0.5 <= math.pi
    expected = torch.where(before, (theta + 0.5).cos(), theta.cos() - 0.5 * math.sin(0.5))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-7)
    assert (logits[before].diff() < 1e-7).all()
    assert (logits[~before].diff() < 0).all()


# --- comparison with pytorch-metric-learning


@pytest.mark.parametrize("name", ["CosFaceLoss", "ArcFaceLoss"])
def test_they_agree_with_pytorch_metric_learning_away_from_the_poles(name: str) -> None:
    library = pytest.importorskip("pytorch_metric_learning.losses")
    output = make_output(dtype=torch.float64)
    assert output.classifier_weight is not None
    # The library takes degrees and has another continuation beyond pi.
    margin = math.degrees(0.5) if name == "ArcFaceLoss" else 0.35
    theirs = getattr(library, name)(4, 8, margin=margin, scale=64)
    theirs.W.data = output.classifier_weight.detach().T.clone()
    ours: Loss = {"CosFaceLoss": CosFaceLoss, "ArcFaceLoss": ArcFaceLoss}[name](scale=64)
    features = output.features
    cosines = torch.nn.functional.cosine_similarity(features, output.classifier_weight[HARD])
    assert (cosines.abs() < 0.87).all()
    value, expected = ours(output, HARD), theirs(features, HARD)
    torch.testing.assert_close(value, expected)
    (grad,) = torch.autograd.grad(value, features)
    (like,) = torch.autograd.grad(expected, features)
    torch.testing.assert_close(grad, like)
