"""Focal, ICAL, FICAL and center loss against loops over samples and classes."""

import pytest
import torch
from torch import Tensor

import reference
from ccloss import Output
from ccloss.errors import InputError
from ccloss.losses import CenterLoss, CrossEntropyLoss, FocalLoss, InterClassAngularLoss, Loss
from outputs import (
    HARD,
    LABELS,
    SOFT,
    WIDTH,
    gradients,
    hard_labels,
    loss_for,
    make_output,
    soft_labels,
)


def expected_total(
    name: str, loss: Loss, output: Output, labels: Tensor, weights: list[float] | None
) -> Tensor:
    smoothing = loss.label_smoothing
    if isinstance(loss, FocalLoss):
        return reference.softmax_loss(output.logits, labels, weights, smoothing, loss.gamma)
    ce = reference.softmax_loss(output.logits, labels, weights, smoothing)
    weight = output.classifier_weight
    assert weight is not None
    if name == "ical":
        return ce + 5 * reference.inter_class_angle(weight)
    if name == "fical":
        return ce + 5 * reference.confused_angle(weight, output.logits, labels)
    assert isinstance(loss, CenterLoss)
    centers = loss.centers.detach()
    return ce + 0.003 * reference.center_distance(output.features, centers, labels)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", ["focal", "ical", "fical", "center"])
def test_losses_equal_their_formulas(name: str, kind: str) -> None:
    """Value and gradient of random cases."""
    for case in range(25):
        gen = torch.Generator().manual_seed(case)
        samples, classes, pick = (
            int(torch.randint(1, high, (), generator=gen)) for high in (9, 7, 4)
        )
        weights = torch.rand(classes, generator=gen).tolist() if pick == 1 else None
        options = {"class_weights": weights, "label_smoothing": 0.2 * (pick == 2)}
        if name == "focal":
            options["gamma"] = [0.0, 0.5, 2.0, 5.0][case % 4]
        loss = loss_for(name, options, classes)
        if isinstance(loss, CenterLoss):
            loss.centers.data = torch.randn(classes, WIDTH, generator=gen, dtype=torch.float64)
        draw = hard_labels if kind == "hard" else soft_labels
        labels = draw(samples, classes, case)
        output = make_output(case, torch.float64, samples=samples, classes=classes)
        total = loss(output, labels)
        expected = expected_total(name, loss, output, labels, weights)
        torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
        for grad, like in zip(gradients(total, output), gradients(expected, output), strict=True):
            torch.testing.assert_close(grad, like, rtol=1e-6, atol=1e-7)


# --- focal


@pytest.mark.parametrize("kind", LABELS)
def test_focal_with_gamma_0_is_cross_entropy(kind: str) -> None:
    output, labels = make_output(), LABELS[kind]
    assert torch.equal(FocalLoss(gamma=0)(output, labels), CrossEntropyLoss()(output, labels))
    nearly = FocalLoss(gamma=1e-9)(output, labels)
    torch.testing.assert_close(nearly, CrossEntropyLoss()(output, labels))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", LABELS)
def test_focal_of_probability_1_is_0_with_gradient_0(kind: str, gamma: float) -> None:
    logits = (1e4 * reference.rows_of(HARD, 4)).float().requires_grad_()
    labels = HARD if kind == "hard" else reference.rows_of(HARD, 4).float()
    total = FocalLoss(gamma)(Output(logits, logits), labels)
    total.backward()
    assert total == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# --- ICAL and FICAL


def with_weight(weight: Tensor) -> Output:
    return make_output(classes=len(weight))._replace(
        classifier_weight=weight, features=torch.zeros(12, weight.shape[1])
    )


def test_ical_is_0_for_unit_rows_that_sum_to_0_and_1_for_one_direction() -> None:
    angles = torch.arange(5) * 2 * torch.pi / 5
    star = torch.stack([angles.cos(), angles.sin()], 1)
    opposite = torch.cat([torch.eye(3), -torch.eye(3)]) * torch.rand(6, 1).add(0.1)
    for weight, angle in ((star, 0.0), (opposite, 0.0), (torch.ones(4, 3), 1.0)):
        labels = torch.zeros(12, dtype=torch.long)
        terms = InterClassAngularLoss(weight=5.0).terms(with_weight(weight), labels)
        torch.testing.assert_close(terms["angle"], torch.tensor(angle), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(terms["total"], terms["ce"] + 5 * terms["angle"])


def test_fical_counts_the_errors_of_the_batch() -> None:
    logits = 10 * torch.eye(3)[[0, 1, 1, 2]]  # one sample of class 0 is predicted as 1
    weight = torch.tensor([[2.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    output = Output(logits, torch.zeros(4, 2), classifier_weight=weight)
    terms = loss_for("fical").terms(output, torch.tensor([0, 0, 1, 2]))
    torch.testing.assert_close(terms["angle"], torch.tensor(0.5**0.5 / 4))


def test_fical_without_errors_has_no_angular_term() -> None:
    logits = 10 * torch.eye(4)[HARD]
    output = make_output()._replace(logits=logits)
    assert loss_for("fical").terms(output, HARD)["angle"] == 0


# --- center


@pytest.mark.parametrize("kind", LABELS)
def test_centers_have_the_papers_step_for_any_weight(kind: str) -> None:
    labels = hard_labels(classes=3) if kind == "hard" else SOFT  # hard labels have no class 3
    for weight in (0.0, 0.003, 10.0):
        output = make_output(dtype=torch.float64)
        loss = CenterLoss(4, WIDTH, weight=weight).double()
        gen = torch.Generator().manual_seed(1)
        loss.centers.data = torch.randn(4, WIDTH, generator=gen, dtype=torch.float64)
        loss(output, labels).backward()
        step = reference.center_step(output.features.detach(), loss.centers.detach(), labels)
        torch.testing.assert_close(loss.centers.grad, step)
    if kind == "hard":
        assert not step[3].any()


def test_centers_start_at_0_and_converge_to_the_class_means() -> None:
    output, loss = make_output(dtype=torch.float64), CenterLoss(4, WIDTH).double()
    assert not loss.centers.any()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        loss(output, HARD).backward()
        optimizer.step()
    means = torch.stack([output.features[k == HARD].mean(0) for k in range(4)])
    torch.testing.assert_close(loss.centers, means, rtol=1e-6, atol=1e-6, check_dtype=True)


def test_center_distances_of_soft_labels_keep_small_differences() -> None:
    """Features and centers far from 0 and close to each other, in float32."""
    loss = CenterLoss(4, WIDTH)
    gen = torch.Generator().manual_seed(0)
    loss.centers.data = 100 + 0.1 * torch.randn(4, WIDTH, generator=gen)
    features = 100 + 0.1 * torch.randn(12, WIDTH, generator=gen)
    output = make_output()._replace(features=features)
    expected = reference.center_distance(features, loss.centers.detach(), SOFT)
    center = loss.terms(output, SOFT)["center"]
    torch.testing.assert_close(center.double(), expected, rtol=1e-4, atol=0)


def test_center_loss_resumes_from_its_state() -> None:
    output, loss = make_output(), CenterLoss(4, WIDTH)
    loss.centers.data.normal_()
    resumed = CenterLoss(4, WIDTH)
    resumed.load_state_dict(loss.state_dict())
    assert torch.equal(resumed(output, HARD), loss(output, HARD))


def test_center_loss_rejects_an_output_of_another_size() -> None:
    message = r"num_classes and features of CenterLoss must be \(4, 8\) .* got \(5, 8\)"
    with pytest.raises(InputError, match=message):
        CenterLoss(5, WIDTH)(make_output(), HARD)
    with pytest.raises(InputError, match="features must be an integer of at least 1, got 0"):
        CenterLoss(5, 0)
